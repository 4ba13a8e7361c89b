"""Why a place does not end the process; and by which patterns a new place is suggested a verdict."""

# ruff: noqa: E501 - a pattern is easier to read on one line
from __future__ import annotations

import re
from dataclasses import dataclass

from .scan import Place

__all__ = ["VERDICTS", "Verdict", "suggest"]

GUARDED, CAUGHT, UNREACHABLE, UNWRAPPED = "guarded", "caught", "unreachable", "unwrapped"


@dataclass(frozen=True)
class Verdict:
    """Why.

    Attributes
    ----------
    name : str
    means : str
        ``guarded``: refused before the call; ``caught``: an exception comes of it; ``unreachable``: neither arguments
        nor files lead there; ``unwrapped``: no module calls the function.
    why : str
    where : tuple of str
        What does it, as ``file:word``; or, if nothing calls them, the functions.
    file, function, text : str
        Patterns of the places that it is suggested for.
    kinds : str
        The kinds of these places.
    """

    name: str
    means: str
    why: str
    where: tuple[str, ...]
    file: str = ""
    function: str = ""
    text: str = ""
    kinds: str = "assert abort at throw"

    def fits(self, place: Place) -> bool:
        patterns = ((self.file, place.file), (self.function, place.function), (self.text, place.text))
        return place.kind in self.kinds.split() and all(re.search(pattern, given) for pattern, given in patterns)


# In the order in which they are suggested.
VERDICTS = (
    # training and quantizing, and what only other programs call
    Verdict(
        "training-shapes", UNREACHABLE, "types and shapes are asserted when the graph is built; what no trainable graph has is not in it",
        ("ggml/src/ggml.c:ggml_build_backward_expand", "llama_cy/training.pyx:check_trainable"),
        file=r"ggml-cpu/", function=r"opt_step|_back(_|$)|cross_entropy|count_equal",
    ),
    Verdict(
        "training-graphs", CAUGHT, "an assert on the thread that trains is thrown; what can't be trained was refused before",
        ("llama_cy/training.pyx:check_trainable", "llama_cy/context_handle.pyx:guard(GUARD_GRAPH)"), file=r"ggml\.c$|llama-context\.cpp",
        function=r"opt_|backward|_back(_|$)|ggml_(set_param|set_loss|graph_reset|build_backward)|adamw|sgd|cross_entropy|count_equal",
    ),
    Verdict(
        "quantizing", CAUGHT, "llama.cpp catches what it throws before its threads start, and an assert is thrown",
        ("llama_cy/quantize.pyx:enter_native", "llama_cy/lifetime.pyx:guard(GUARD_CALL)"), file=r"llama-quant\.cpp",
    ),
    Verdict(
        "quantizing-blocks", GUARDED, "rows that blocks don't divide, weights without a place in a lattice and missing importances were refused",
        ("llama_cy/quantize.pyx:check_fixed", "llama_cy/quantize_plan.py:check_weights", "llama_cy/quantize_plan.py:check_plan"),
        file=r"ggml-quants\.c|ggml\.c$", function=r"^(quantize|iq|make|best|ggml_quantize_chunk)",
    ),
    Verdict(
        "backend-sampling", CAUGHT, "an assert on the thread that attaches a chain, decodes or reads what was sampled is thrown",
        ("llama_cy/context_handle.pyx:guard(GUARD_GRAPH)", "llama_cy/backend_sampling.pyx:context.enter"),
        file=r"llama-(sampler|context|graph)\.cpp", function=r"backend|copy_tensor_async_rows|get_sampled_token|build_sampling|sampler_copy$|sampler_chain_copy",
    ),
    Verdict(
        "gguf-writing", CAUGHT, "an assert on the thread of a save, a quantization or a load from memory is thrown, and caught as what they throw",
        ("llama_cy/lifetime.pyx:guard(GUARD_CALL)", "llama_cy/quantize.pyx:enter_native", "llama_cy/user_model.pyx:enter_native"),
        file=r"gguf\.cpp", function=r"gguf_(set|add|write|check_reserved|kv::cast|buffer_reader)|gguf_writer|gguf_get_val_(bool|f64|i16|i64|i8|u64|u8|data|i32)",
    ),
    Verdict(
        "cpu-by-hand", UNWRAPPED, "tensors and graphs made by a caller",
        ("ggml_new_i32", "ggml_set_i32_1d", "ggml_get_f32_1d", "ggml_graph_dump_dot", "ggml_backend_graph_plan_create"),
        file=r"ggml-cpu\.c$|ggml\.c$|ggml-backend\.cpp", function=r"ggml_(new|set|get)_[fi]32|graph_dump|node_list_find|graph_plan_(create|compute|free)|graph_copy|compare_graph",
    ),
    Verdict(
        "cvec-inner", UNREACHABLE, "the control vector of a context is set up once, from empty", ("llama-adapter.cpp",),
        file=r"llama-adapter\.cpp", function=r"adapter_cvec",
    ),
    # loads
    Verdict(
        "load-throws", CAUGHT, "llama.cpp catches what a load throws and gives no model: a ModelLoadError with its last words",
        ("llama_cy/loading.pyx:load_failure",),
        file=r"llama-model-loader|llama-mmap|llama-arch|llama-impl|models/|llama-model\.cpp|llama\.cpp$",
        function=r"load|mmap|file::impl|mlock|LLM_|llm_tensor_info|format|GKV|splits|make_\w+_buft|select_buft|buft_supported|model_create|prepare_model|create_tensor|tensor_weight",
        kinds="throw at",
    ),
    Verdict(
        "load-asserts", CAUGHT, "an assert on the thread of a load is thrown, and caught as what a load throws",
        ("llama_cy/lifetime.pyx:guard(GUARD_CALL)", "llama_cy/loading.pyx:enter_native"),
        file=r"llama-model-loader|llama-mmap|llama-arch|models/|llama-model\.cpp|src/llama\.cpp$|gguf\.cpp|llama-hparams|repack\.cpp|amx",
        function=r"load|mmap|file::impl|mlock|LLM_|weight_buft|select|buft_supported|model_create|prepare_model|create_tensor|gguf_|hparams|repack|make_block|set_tensor|convert_weight|rope_scaling_type_name|model_rope_type|create_memory|model_base|get_split_state|model_mapping|dev_layer|meta_device|make_\w+_buft",
        kinds="assert abort",
    ),
    Verdict(
        "vocab-load", CAUGHT, "within a load, where llama.cpp catches what is thrown; the file's tokenizer was looked at before",
        ("llama_cy/gguf_vocab.pyx:check_vocab", "llama_cy/loading.pyx:load_failure"),
        file=r"llama-vocab\.cpp", function=r"impl::load|print_info|init_tokenizer|plamo2::build|llm_tokenizer_bpe::llm|for_cache|find_bpe_rank|token_to_byte",
    ),
    Verdict(
        "numa-and-names", UNREACHABLE, "given a value of an enum that was checked, or by nobody", ("llama_cy/loading.pyx:choice",),
        file=r"src/llama\.cpp$", function=r"numa|_name$|from_str|init_from_user|load_from_file_impl",
    ),
    # tokenizers
    Verdict(
        "tokenize-special", GUARDED, "what is to be added must be there", ("llama_cy/vocab.pyx:check_special",),
        file=r"llama-vocab\.cpp", function=r"tokenize$|append_(bos|eos)", text=r"special_|token_(bos|eos)",
    ),
    Verdict(
        "no-tokenizer", GUARDED, "a vocabulary without texts has none to give", ("llama_cy/vocab.pyx:check_texts",),
        file=r"llama-vocab\.cpp", text=r"VOCAB_TYPE_NONE|Tokenizer not initialized|fatal error",
    ),
    Verdict(
        "token-range", GUARDED, "a token must be within the vocabulary", ("llama_cy/vocab.pyx:token", "llama_cy/vocab.pyx:collect"),
        file=r"llama-vocab\.cpp", text=r"\.at\(|token size",
    ),
    Verdict(
        "tokenize-throws", CAUGHT, "what the tokenizer throws, and its asserts on the calling thread, are a ValueError",
        ("llama_cy/vocab.pyx:can't tokenize the text",), file=r"llama-vocab\.cpp|unicode\.cpp",
    ),
    # adapters
    Verdict(
        "adapter-throws", CAUGHT, "llama.cpp catches what an adapter's load throws: a ModelLoadError", ("llama_cy/adapter.pyx:llama.cpp refused it",),
        file=r"llama-adapter\.cpp", kinds="throw at",
    ),
    Verdict(
        "adapter-pointers", UNREACHABLE, "the pointer is the one of an open adapter", ("llama_cy/adapter.pyx:alive",),
        file=r"llama-(adapter|context)\.cpp", function=r"adapter",
    ),
    # samplers and grammars
    Verdict(
        "sampler-pointers", UNREACHABLE, "the sampler is llama.cpp's own, and open", ("llama_cy/sampler.pyx:alive",),
        file=r"llama-sampler\.cpp", function=r"sampler_(apply|clone)|perf_sampler|grammar_clone|sampler_backend::init",
    ),
    Verdict(
        "sampler-inner", CAUGHT, "an assert on the calling thread is thrown; a row has candidates, and numbers for logits",
        ("llama_cy/sampler_handle.pyx:guard(GUARD_GRAPH)", "llama_cy/kernels/row.h:domain_error"), file=r"llama-sampler\.cpp",
    ),
    Verdict(
        "grammar", CAUGHT, "what a grammar throws, and its asserts on the calling thread, are exceptions of the call",
        ("llama_cy/abort.pyx:ggml_set_abort_callback",), file=r"llama-grammar\.cpp",
    ),
    Verdict("chat-name", CAUGHT, "an unknown template is an exception", ("llama_cy/chat.pyx:chat_apply_template",), file=r"llama-chat\.cpp"),
    # the memory and its states
    Verdict(
        "sequence-range", GUARDED, "a sequence must be one of the context's", ("llama_cy/decoder.pyx:check_seq", "llama_cy/batch.pyx:seq_ids"),
        file=r"llama-(kv-cache|memory)", text=r"seq_id\w* *(>=|==|<)|seq_to_stream|rs_idx\.size|cell_seq_id",
    ),
    Verdict(
        "partial-copy", GUARDED, "a part is copied within one memory only", ("llama_cy/memory.pyx:kv_unified",),
        file=r"llama-kv-cache", text=r"seq_cp\(\) is only|is_full",
    ),
    Verdict(
        "shift", GUARDED, "positions move where they are one number each only", ("llama_cy/memory.pyx:llama_memory_can_shift",),
        file=r"llama-kv-cache", text=r"n_pos_per_embd|K-shift",
    ),
    Verdict(
        "state-read", CAUGHT, "llama.cpp catches what a restore throws; its asserts on the calling thread are thrown too",
        ("llama_cy/state.pyx:llama.cpp refused the state",),
        file=r"llama-(kv-cache|memory|context|io)", function=r"state|io_read|io_write",
    ),
    Verdict(
        "memory-inner", CAUGHT, "the memory's own bookkeeping, on the calling thread: thrown, and the context is broken at worst",
        ("llama_cy/context_handle.pyx:guard(GUARD_GRAPH)", "llama_cy/kernels/compute.h:caught"),
        file=r"llama-(kv-cache|memory)|llama-batch|llama-model\.cpp|llama-impl",
    ),
    # contexts
    Verdict(
        "context-throws", CAUGHT, "llama.cpp catches what the making of a context throws: a ContextError",
        ("llama_cy/context.pyx:cannot create a context",),
        file=r"llama-context\.cpp", function=r"context::context|reserve|ctx_type|resolve_fused|memory_update", kinds="throw",
    ),
    Verdict(
        "rows", GUARDED, "a row must be one that the last computation gave; llama.cpp catches what it throws for others",
        ("llama_cy/outputs.pyx:row",), file=r"llama-context\.cpp", function=r"get_(logits|embeddings)|output_resolve_row|layer_inp",
    ),
    Verdict(
        "batch-size", GUARDED, "a batch must fit", ("llama_cy/decoder.pyx:check_input",),
        file=r"llama-context\.cpp", function=r"context::(decode|encode)", text=r"n_batch|n_ubatch",
    ),
    Verdict(
        "decode-inner", CAUGHT, "on the calling thread, outside of a backend: thrown out of the decode, whose context is broken then",
        ("llama_cy/kernels/compute.h:caught", "llama_cy/decoder.pyx:THROWN"), file=r"llama-context\.cpp",
    ),
    # graphs
    Verdict(
        "graph", CAUGHT, "a graph is built on the calling thread: thrown, and caught where a context is made or a batch computed",
        ("llama_cy/abort.pyx:guard", "llama_cy/kernels/compute.h:caught"),
        file=r"llama-graph|models/|llama-hparams|ggml/src/ggml\.c$|ggml-alloc|ggml-backend(-reg)?\.cpp|ggml-impl|ggml\.cpp|gguf\.cpp",
    ),
    Verdict("saving", CAUGHT, "an assert of the saver is thrown out of the call", ("llama_cy/model.pyx:enter_native",), file=r"llama-model-saver"),
    # the CPU's kernels, whose asserts can't be unwound
    Verdict(
        "cpu-not-built", UNREACHABLE, "no graph of llama.cpp's has the operation: vision, audio, older attention", ("src/models",),
        file=r"ggml-cpu/ops\.cpp",
        function=r"forward_(conv_|col2im|im2col_(3d|back)|pool_1d|pad_reflect|get_rel|add_rel|win_|add1|timestep|upscale|roll|out_prod|leaky|acc)",
    ),
    Verdict(
        "cpu-numbers", GUARDED, "a number of the model's that was checked as the file was read",
        ("llama_cy/gguf_rules.py:check_numbers", "llama_cy/gguf_rules.py:_check_rope"),
        file=r"ggml-cpu/", text=r"eps >=|n_dims|n_offs|sections|sect_dims|nh % ng|HEADS|n_iter|hc",
    ),
    Verdict(
        "cpu-types", GUARDED, "a weight has a type that the operation computes with, a cache one of those allowed",
        ("llama_cy/gguf_rules.py:check_tensor", "llama_cy/context_params.pyx:CACHE_TYPES"),
        file=r"ggml-cpu/", text=r"type|GGML_ABORT|vec_dot|to_float|quantized",
    ),
    Verdict(
        "cpu-indices", GUARDED, "rows are looked up with tokens, positions and sorted experts, all within range",
        ("llama_cy/batch.pyx:integer", "llama_cy/decoder.pyx:n_pos_max"),
        file=r"ggml-cpu/", text=r"i0?1 >=|i11|i1 >=|i02 >=|r >= 0|ids|i >= 0|pos",
    ),
    Verdict(
        "cpu-threads", GUARDED, "the number of threads was checked, and the pool is one of ours", ("llama_cy/threadpool.pyx:MAX_THREADS",),
        file=r"ggml-cpu/ggml-cpu\.(c|cpp)",
    ),
    Verdict(
        "cpu-shapes", UNREACHABLE, "sizes and strides that ggml.c fixed, or asserted on the calling thread, as it built the operation",
        ("ggml/src/ggml.c",), file=r"ggml-cpu/",
    ),
)  # fmt: skip


def suggest(place: Place) -> str | None:
    """Return the name of the first verdict whose patterns fit."""
    return next((verdict.name for verdict in VERDICTS if verdict.fits(place)), None)
