"""From keyword arguments to ``llama_context_params``."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from ggml cimport ggml_blck_size, ggml_is_quantized, ggml_row_size, ggml_type
from ggml_backend cimport (
    GGML_BACKEND_DEVICE_TYPE_CPU,
    ggml_backend_dev_by_type,
    ggml_backend_dev_memory,
)
from llama cimport (
    LLAMA_CONTEXT_TYPE_MTP,
    LLAMA_FLASH_ATTN_TYPE_DISABLED,
    import_llama_cy,
    llama_attention_type,
    llama_context_default_params,
    llama_context_type,
    llama_flash_attn_type,
    llama_max_parallel_sequences,
    llama_model,
    llama_model_has_decoder,
    llama_model_has_encoder,
    llama_model_is_recurrent,
    llama_model_n_ctx_train,
    llama_model_n_embd,
    llama_model_n_head,
    llama_model_n_head_kv,
    llama_model_n_layer,
    llama_model_n_layer_nextn,
    llama_pooling_type_t,
    llama_rope_scaling_type,
)

from llama_cy.context_handle cimport ContextHandle
from llama_cy.eval_callback cimport EvalCallback, Watch, on_eval

from .checks import INT32_MAX, choice, fill, flag, integer, real
from .enums import AttentionType, ContextType, FlashAttnType, GGMLType, PoolingType, RopeScalingType
from .errors import ContextError
from .threadpool import MAX_THREADS, default_n_threads

import_llama_cy()

# What llama.cpp's attention kernels read; another type would end in an assert.
CACHE_TYPES = ("F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL")


# Bytes of attention scores that a micro-batch may take without flash attention.
MOST_SCORES = 2**29


def _cache_type(name, value):
    type_value = choice(name, GGMLType, value)
    if GGMLType(type_value).name not in CACHE_TYPES:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(CACHE_TYPES).lower()}")
    return type_value


@cython.final
cdef class ContextParams:
    """``llama_context_params``, checked."""

    def __init__(self, params):
        self.c = llama_context_default_params()
        given = fill(
            {
                "n_ctx": None, "n_batch": self.c.n_batch, "n_ubatch": None, "n_seq_max": 1, "n_rs_seq": 0,
                "n_outputs_max": 0, "n_outputs_max_per_seq": 0, "n_threads": None, "n_threads_batch": None,
                "ctx_type": self.c.ctx_type, "rope_scaling_type": self.c.rope_scaling_type,
                "pooling_type": self.c.pooling_type, "attention_type": self.c.attention_type,
                "flash_attn_type": None, "rope_freq_base": 0.0, "rope_freq_scale": 0.0,
                "yarn_ext_factor": self.c.yarn_ext_factor, "yarn_attn_factor": self.c.yarn_attn_factor,
                "yarn_beta_fast": self.c.yarn_beta_fast, "yarn_beta_slow": self.c.yarn_beta_slow,
                "yarn_orig_ctx": 0, "type_k": self.c.type_k, "type_v": self.c.type_v, "embeddings": False,
                "offload_kqv": self.c.offload_kqv, "no_perf": self.c.no_perf, "op_offload": self.c.op_offload,
                "swa_full": self.c.swa_full, "kv_unified": self.c.kv_unified, "poll": 50,
                "eval_callback": None, "eval_filter": None, "ctx_other": None,
            },
            params, "Context",
        )  # fmt: skip
        other = given["ctx_other"]
        if other is not None and not isinstance(other, ContextHandle):
            raise TypeError(f"ctx_other must be a Context, not {type(other).__name__}")
        self.other = other
        self.c.embeddings = flag("embeddings", given["embeddings"])
        self.c.n_ctx = 0 if given["n_ctx"] is None else integer("n_ctx", given["n_ctx"], 1, INT32_MAX)
        self.c.n_batch = integer("n_batch", given["n_batch"], 1, INT32_MAX)
        # Pooled and non-causal inputs are computed in one piece, so a batch must fit into a micro-batch.
        default_ubatch = self.c.n_batch if self.c.embeddings else min(self.c.n_ubatch, self.c.n_batch)
        n_ubatch = given["n_ubatch"]
        self.c.n_ubatch = integer("n_ubatch", default_ubatch if n_ubatch is None else n_ubatch, 1, INT32_MAX)
        self.given_ubatch = n_ubatch is not None
        self.c.n_seq_max = integer("n_seq_max", given["n_seq_max"], 1, llama_max_parallel_sequences())
        if self.c.n_seq_max > self.c.n_batch:
            raise ValueError(f"n_seq_max is {self.c.n_seq_max}, which is out of range [1, n_batch = {self.c.n_batch}]")
        for name in ("n_outputs_max", "n_outputs_max_per_seq", "yarn_orig_ctx"):
            given[name] = integer(name, given[name], 0, INT32_MAX)
        # Snapshots are kept at the end of a micro-batch, and each is a part of every graph.
        most_rs = max(0, <int> min(self.c.n_batch, self.c.n_ubatch) - 2)
        self.c.n_rs_seq = integer("n_rs_seq", given["n_rs_seq"], 0, min(64, most_rs))
        self.c.n_outputs_max = given["n_outputs_max"]
        self.c.n_outputs_max_per_seq = given["n_outputs_max_per_seq"]
        self.c.yarn_orig_ctx = given["yarn_orig_ctx"]
        n_threads = default_n_threads() if given["n_threads"] is None else given["n_threads"]
        n_threads_batch = n_threads if given["n_threads_batch"] is None else given["n_threads_batch"]
        self.c.n_threads = integer("n_threads", n_threads, 1, MAX_THREADS)
        self.c.n_threads_batch = integer("n_threads_batch", n_threads_batch, 1, MAX_THREADS)
        self.poll = integer("poll", given["poll"], 0, 100)
        self.c.ctx_type = <llama_context_type> <int> choice("ctx_type", ContextType, given["ctx_type"])
        self.c.rope_scaling_type = <llama_rope_scaling_type> <int> choice(
            "rope_scaling_type", RopeScalingType, given["rope_scaling_type"])
        self.c.pooling_type = <llama_pooling_type_t> <int> choice("pooling_type", PoolingType, given["pooling_type"])
        self.c.attention_type = <llama_attention_type> <int> choice(
            "attention_type", AttentionType, given["attention_type"])
        self.given_flash_attn = given["flash_attn_type"] is not None
        if self.given_flash_attn:
            self.c.flash_attn_type = <llama_flash_attn_type> <int> choice(
                "flash_attn_type", FlashAttnType, given["flash_attn_type"])
        self.c.type_k = <ggml_type> <int> _cache_type("type_k", given["type_k"])
        self.c.type_v = <ggml_type> <int> _cache_type("type_v", given["type_v"])
        self.c.rope_freq_base = real("rope_freq_base", given["rope_freq_base"], 0)
        self.c.rope_freq_scale = real("rope_freq_scale", given["rope_freq_scale"], 0)
        self.c.yarn_ext_factor = real("yarn_ext_factor", given["yarn_ext_factor"])
        self.c.yarn_attn_factor = real("yarn_attn_factor", given["yarn_attn_factor"])
        self.c.yarn_beta_fast = real("yarn_beta_fast", given["yarn_beta_fast"])
        self.c.yarn_beta_slow = real("yarn_beta_slow", given["yarn_beta_slow"])
        self.c.offload_kqv = flag("offload_kqv", given["offload_kqv"])
        self.c.no_perf = flag("no_perf", given["no_perf"])
        self.c.op_offload = flag("op_offload", given["op_offload"])
        self.c.swa_full = flag("swa_full", given["swa_full"])
        self.c.kv_unified = flag("kv_unified", given["kv_unified"])
        self.look(given["eval_callback"], given["eval_filter"])

    cdef int look(self, object function, object chosen) except -1:
        """Let a function, or a Watch of our own, see the tensors."""
        if isinstance(function, Watch):
            self.watch = function
        elif function is not None:
            self.watch = EvalCallback(function, chosen)
        elif chosen is not None:
            raise ValueError(f"eval_filter is {chosen!r} and there is nothing to call: an eval_callback is expected with it")
        if self.watch is not None:
            self.c.cb_eval = on_eval
            self.c.cb_eval_user_data = <void *> self.watch
        return 0

    cdef int fit(self, llama_model * weights, dict metadata, bint offloaded) except -1:
        """Choose n_ctx where it was left open, and refuse what no memory could hold or llama.cpp would assert on."""
        cdef size_t free = 0, total = 0
        cdef uint64_t n_ctx_train = llama_model_n_ctx_train(weights)
        cdef uint64_t per_token = 0
        cdef ggml_type cache_type
        arch = metadata.get("general.architecture")
        heads = max(1, llama_model_n_head(weights))
        for name, cache_type, length in (("type_k", self.c.type_k, "key_length"),
                                         ("type_v", self.c.type_v, "value_length")):
            head_size = int(metadata.get(f"{arch}.attention.{length}", llama_model_n_embd(weights) // heads))
            if ggml_is_quantized(cache_type) and head_size % <int> ggml_blck_size(cache_type):
                raise ContextError(
                    f"{name} {GGMLType(cache_type).name.lower()} packs {ggml_blck_size(cache_type)} values, "
                    f"which does not divide the head size {head_size}"
                )
            # In a hybrid the first layer may have no heads; an upper bound does for the others.
            width = head_size * llama_model_n_head_kv(weights) or llama_model_n_embd(weights)
            row = <uint64_t> ggml_row_size(cache_type, (width + 31) // 32 * 32)
            per_token += row * <uint64_t> llama_model_n_layer(weights)
        if llama_model_is_recurrent(weights):
            per_token = 0
        ggml_backend_dev_memory(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), &free, &total)
        if self.c.n_ctx == 0:
            # Half of what is free, so that the default never drives the machine into swapping.
            fitting = n_ctx_train if per_token == 0 else min(n_ctx_train, <uint64_t> free // 2 // per_token)
            self.c.n_ctx = <uint32_t> max(256, fitting)
        elif <uint64_t> self.c.n_ctx * per_token > <uint64_t> total:
            raise ContextError(
                f"n_ctx {self.c.n_ctx} needs about {self.c.n_ctx * per_token / 2**30:.1f} GiB for keys and values; "
                f"this machine has {total / 2**30:.1f} GiB"
            )
        limit = INT32_MAX - 256 * (self.c.n_seq_max + 1)
        if self.c.n_ctx > limit:
            raise ContextError(f"n_ctx is {self.c.n_ctx}; with n_seq_max {self.c.n_seq_max} the limit is {limit}")
        self.check_sequences(weights, metadata)
        if not self.given_flash_attn and not offloaded:
            self.choose_attention(weights)
        return 0

    cdef int choose_attention(self, llama_model * weights) except -1:
        """On a CPU, where a token decodes faster without flash attention, do without, unless memory is against it."""
        cdef uint64_t n_ctx = self.c.n_ctx if self.c.kv_unified else self.c.n_ctx // self.c.n_seq_max
        cdef uint64_t scores = n_ctx * min(self.c.n_batch, self.c.n_ubatch) * max(1, llama_model_n_head(weights)) * 4
        # A quantized V cache needs it, and what embeds reads many tokens at once, which is faster with it.
        if not self.c.embeddings and not ggml_is_quantized(self.c.type_v) and scores <= MOST_SCORES:
            self.c.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED
        return 0

    cdef int check_sequences(self, llama_model * weights, dict metadata) except -1:
        """Refuse combinations whose graph llama.cpp can't build; it would assert."""
        if self.c.ctx_type == LLAMA_CONTEXT_TYPE_MTP and llama_model_n_layer_nextn(weights) == 0:
            raise ContextError("ctx_type='mtp' needs layers that predict further tokens, and the model has none")
        causal = metadata.get(f"{metadata.get('general.architecture')}.attention.causal") != "false"
        if not causal:
            # An encoder has no cache to unify, and llama.cpp would pool over it all the same.
            self.c.kv_unified = False
        n_batch = min(self.c.n_ctx, self.c.n_batch) if causal else self.c.n_batch
        n_outputs = self.c.n_outputs_max or n_batch
        if self.c.n_seq_max > min(n_batch, n_outputs):
            raise ContextError(
                f"n_seq_max is {self.c.n_seq_max}, more than the {min(n_batch, n_outputs)} outputs that n_ctx, "
                "n_batch and n_outputs_max leave room for"
            )
        encodes = llama_model_has_encoder(weights)
        if self.c.n_seq_max > 1 and not self.c.kv_unified and encodes and llama_model_has_decoder(weights):
            raise ContextError(f"an encoder-decoder model with n_seq_max {self.c.n_seq_max} needs kv_unified=True")
        if self.c.embeddings:
            self.fit_ubatch(metadata, encodes)
        # A rollback needs its snapshots, and one token more, within one micro-batch.
        whole = min((self.c.n_ctx + 255) // 256 * 256, self.c.n_batch, self.c.n_ubatch)
        if self.c.n_rs_seq and self.c.n_rs_seq + 2 > whole:
            raise ContextError(f"n_rs_seq {self.c.n_rs_seq} needs an n_ubatch of {self.c.n_rs_seq + 2}; it is {whole}")
        return 0

    cdef int fit_ubatch(self, dict metadata, bint encodes) except -1:
        """Give a micro-batch of embeddings the size of a graph that llama.cpp can build."""
        pooling = metadata.get(f"{metadata.get('general.architecture')}.pooling_type", "0")
        pooled = self.c.pooling_type > 0 or self.c.pooling_type < 0 and pooling not in ("-1", "0")
        whole = min((self.c.n_ctx + 255) // 256 * 256, self.c.n_batch, self.c.n_ubatch)
        if self.c.n_outputs_max and not encodes and self.c.n_outputs_max < whole:
            if not self.given_ubatch:
                self.c.n_ubatch = whole = self.c.n_outputs_max
            elif pooled:
                raise ContextError(
                    f"n_ubatch {whole} is more than n_outputs_max {self.c.n_outputs_max}: pooling needs the output of "
                    "each token"
                )
        rest = whole % self.c.n_seq_max
        if rest and (self.given_ubatch or whole < self.c.n_seq_max):
            raise ContextError(
                f"n_ubatch {whole} is not a multiple of n_seq_max {self.c.n_seq_max}, as embeddings=True needs"
            )
        if self.c.n_seq_max > 1:
            self.c.n_ubatch = whole - rest
        return 0
