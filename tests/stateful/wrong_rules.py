"""Calls that are wrong whatever went before."""

from __future__ import annotations

from hypothesis import strategies as st

import llama_cy

from .base import INDEX, Rules, step

__all__ = ["WrongRules"]

NUMBERS = ("-1", "10**6", "2**31", "-2**31", "2**63", "10**5000", "1.5", "'a'", "None", "b'x'", "float('nan')")
SEQUENCES = ("-2", "256", "2**31", "-2**40", "'0'", "None", "0.5")
# {c}, {s}: a context and a sampler; {n}, {q}: no token, no sequence.
CALLS = (
    *("{c}.decode([1, {n}])", "{c}.decode([{n}, 1])", "{c}.decode(5)", "{c}.decode([])", "{c}.decode('text')"),
    *("{c}.decode(Batch(3))", "{c}.decode(np.zeros((2, 2), np.int32))", "{c}.encode([{n}])", "{c}.generate([{n}])"),
    *("{c}.memory.seq_rm({q})", "{c}.memory.seq_keep({q})", "{c}.memory.seq_pos_max({q})", "{c}.memory.seq_cp(0, {q})"),
    *("{c}.memory.seq_rm(0, -2, 3)", "{c}.memory.seq_add(0, 0, 2**31, 1)", "{c}.memory.seq_div(0, 0, -1, 0)"),
    *("{c}.logits(2**31)", "{c}.logits('0')", "{c}.logits(10**6)", "{c}.embeddings_seq({q})", "{c}.set_n_threads(0)"),
    *(
        "{c}.stream([1], stop='')",
        "{c}.stream([1], stop=5)",
        "{c}.complete(5)",
        "{c}.generate([])",
        "{c}.process(None)",
    ),
    *(
        "{c}.set_adapters(5)",
        "{c}.set_adapters([5])",
        "{c}.attach(None)",
        "{c}.set_embeddings('no')",
        "{c}.state.set(5)",
    ),
    *("{c}.state.set(b'')", "{c}.state.set(bytes(100))", "{c}.set_causal_attn('no')", "{c}.set_abort_callback(5)"),
    *("{c}.logprobs([{n}])", "{c}.set_sampler({q}, None)", "{c}.set_control_vectors(5)", "{c}.state.load('missing')"),
    *("{c}.state.save('/nowhere/at/all')", "{c}.generate([1], {s}, sampler=5)", "{c}.memory.seq_add({q}, 0, 1, 1)"),
    *(
        "{s}.accept(-1)",
        "{s}.accept(2**31)",
        "{s}.accept('a')",
        "{s}.sample(None)",
        "{s}.sample(5)",
        "{s}.copy(None)",
        "{s}.sample_logits([1.0])",
    ),
    *("{s}.sample_logits(np.zeros(0, np.float32))", "{s}.sample_logits(np.zeros((2, 2), np.float32))", "{s}.apply(5)"),
    *("SamplerChain({s}, 5)", "SamplerChain().add(None)", "SamplerChain().sample_logits(np.zeros(9, np.float32))"),
    *(
        "llama.vocab.token_to_piece({n})",
        "llama.vocab.detokenize([{n}])",
        "llama.vocab.is_eog({n})",
        "demo.vocab.get_text({n})",
    ),
    *(
        "llama.vocab.tokenize(5)",
        "llama.vocab.tokenize('\\ud800')",
        "demo.vocab.get_score({n})",
        "Batch(-2)",
        "Batch(2**40)",
        "Batch('0')",
        "Batch(0)",
    ),
    *(
        "Batch(1).add(-1, 0)",
        "Batch(1).add(2**31, 0)",
        "Batch(1).add(1, -1)",
        "Batch(1).add(1, 2**31)",
        "Batch(1).add(1, '0')",
        "Batch(1).add(1, 0, [{q}])",
        "Batch(1).add(1, 0, ())",
        "Context(5)",
    ),
    *(
        "Batch.from_arrays([1, 2], [0])",
        "Batch.from_arrays([-1], [0])",
        "Threadpool(0)",
        "Threadpool('2')",
        "Context(None)",
    ),
    *("load('missing')", "load(None)", "load('lora')", "load('llama', n_gpu_layers=-5)", "load('llama', vocab_only=7)"),
    *("llama.load_adapter('missing')", "llama.load_adapter(None)", "mamba.load_adapter(folder + '/lora.gguf')"),
    *("llama.save('/nowhere/at/all')", "llama.chat_template(5)", "llama.embed(5)", "llama.rerank('a', ['b'])"),
    *(
        "BatchExt(5)",
        "BatchExt({c}).add_token({q}, 1)",
        "BatchExt({c}).add_token(0, {n})",
        "{c}.process(BatchExt({c}))",
    ),
    *("llama_cy.sample_rows(5, 5)", "llama_cy.chat_apply_template(5, [])", "llama_cy.json_schema_to_grammar('{{')"),
    *("Sampler()", "llama_cy.Vocab()", "llama_cy.Model.__new__(llama_cy.Model)"),
)
WRONG_OPTIONS = (
    *(
        "max_tokens=-1",
        "max_tokens='5'",
        "max_tokens=2**63",
        "stop_tokens=[-1]",
        "stop_tokens=[10**6]",
        "stop_tokens=5",
    ),
    *("reuse='some'", "logprobs=-1", "logprobs=10**6", "run_ahead=-1", "run_ahead=1025", "maximum=1", "sampler=5"),
)
WRONG_PARAMS = (
    *("n_ctx=0", "n_ctx=-1", "n_ctx=2**31", "n_ctx='64'", "n_batch=0", "n_ubatch=0", "n_seq_max=0", "n_seq_max=257"),
    *(
        "n_threads=0",
        "n_threads=10**6",
        "pooling_type='sum'",
        "type_k='q2_k'",
        "rope_freq_base=float('nan')",
        "n_cxt=64",
    ),
    *("n_batch=1, n_seq_max=2", "n_ctx=2, n_seq_max=64", "n_outputs_max=1, n_seq_max=2", "eval_callback=5"),
)
WRONG_SAMPLERS = (
    *("top_k(-1)", "top_k('3')", "top_k(2**31)", "top_p(1.5)", "top_p(float('nan'))", "min_p(-0.1)", "temp(-1)"),
    *("penalties(-2)", "penalties(64, 0.0)", "logit_bias({-1: 1.0})", "logit_bias({5: float('nan')})", "dist(-1)"),
    *("mirostat(0)", "grammar(llama.vocab, 'root ::= (((')", "grammar(None, 'a')"),
    *("grammar(llama.vocab, 'root ::= root \"a\"')", "grammar(llama.vocab, 'a ::= \"a\"')", "init(5)", "dry(None)"),
    *("grammar_lazy(llama.vocab, 'root ::= \"a\"')", "xtc(2, 0.1)", "typical(-1)", "adaptive_p(float('nan'))"),
    "grammar_lazy(llama.vocab, 'root ::= \"a\"', trigger_patterns=['('])",
)


class WrongRules(Rules):
    """What is refused."""

    def refuse(self, source: str, i: int, j: int) -> None:
        if "{c}" in source:
            context, known = self.pick(self.contexts, i)
            source = source.replace("{c}", context)
            # Whether it still is depends on how far the call came.
            known.doubt_cancelled()
        if "{s}" in source:
            source = source.replace("{s}", self.pick(self.samplers, j)[0])
        self.check(
            self.session.do(source),
            (ValueError, TypeError, IndexError, OSError, BufferError, llama_cy.LlamaError, AttributeError),
        )

    @step(
        i=INDEX,
        j=INDEX,
        call=st.sampled_from(CALLS),
        number=st.sampled_from(NUMBERS),
        sequence=st.sampled_from(SEQUENCES),
    )
    def call_wrong(self, i: int, j: int, call: str, number: str, sequence: str) -> None:
        self.refuse(call.replace("{n}", number).replace("{q}", sequence).replace("{{", "{"), i, j)

    @step(
        i=INDEX,
        j=INDEX,
        kind=st.integers(0, 2),
        which=st.integers(0, 63),
        key=st.sampled_from(("llama", "demo", "mamba")),
    )
    def make_wrong(self, i: int, j: int, kind: int, which: int, key: str) -> None:
        if kind == 0:
            self.refuse(f"{key}.context({WRONG_PARAMS[which % len(WRONG_PARAMS)]})", i, j)
        elif kind == 1:
            self.refuse(f"Sampler.{WRONG_SAMPLERS[which % len(WRONG_SAMPLERS)]}", i, j)
        else:
            self.refuse("{c}.generate([1], " + WRONG_OPTIONS[which % len(WRONG_OPTIONS)] + ")", i, j)
