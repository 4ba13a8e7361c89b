"""Wrong uses of tokens, memories, states and closed objects, for the table of wrong calls."""

from __future__ import annotations

from benchmarks.wrong_setups import Row, row

__all__ = ["USES"]

# What is asked of a token: in ours and cyllama's words, and in llama-cpp-python's.
ABOUT_A_TOKEN = {
    "token_to_piece": ("({})", "({}, 0, True)", "token_to_piece"),
    "get_text": ("({})", "({})", "token_get_text"),
    "get_score": ("({})", "({})", "token_get_score"),
    "get_attr": ("({})", "({})", "token_get_attr"),
    "is_eog": ("({})", "({})", ""),
    "is_control": ("({})", "({})", ""),
}
TWICE_AT_ONCE = """
import threading
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    for done in [pool.submit(work) for _ in range(400)]:
        done.result()
"""


def about(name: str, token: str) -> Row:
    ours, cyllama, python = ABOUT_A_TOKEN[name]
    return row(
        f"model.vocab.{name}{ours.format(token)}",
        f"vocab.{name}{cyllama.format(token)}",
        python and f"llama._model.{python}({token})",
    )


def memory(ours: str, cyllama: str, python: str = "") -> Row:
    return row(
        f"decoded().memory.{ours}", f"decoded().memory_{cyllama}", python and f"decoded()._ctx.kv_cache_{python}"
    )


def closed_context(ours: str, cyllama: str = "", python: str = "") -> Row:
    return row(
        f"c = decoded(); c.close(); {ours}",
        cyllama and f"c = decoded(); c.close(); {cyllama}",
        python and f"llama.close(); {python}",
    )


def closed_sampler(ours: str, cyllama: str = "", python: str = "") -> Row:
    return row(
        f"s = Sampler.greedy(); s.close(); {ours}",
        cyllama and f"s = sampler('greedy'); s.close(); {cyllama}",
        python and f"s = sampler('greedy'); s.close(); {python}",
    )


def closed_batch(ours: str, cyllama: str = "", python: str = "") -> Row:
    made = "b = low.LlamaBatch(n_tokens=4, embd=0, n_seq_max=1{}); b.close(); "
    return row(
        f"b = Batch(4); b.close(); {ours}",
        cyllama and made.format("") + cyllama,
        python and made.format(", verbose=False") + python,
    )


USES: dict[str, Row] = {
    f"{name}() of {token}": about(name, token) for name in ABOUT_A_TOKEN for token in ("-1", "10**6", "2**31", "'a'")
} | {
    # tokens and texts
    "detokenize token -1": row("model.vocab.detokenize([-1])", "vocab.detokenize([-1])", "llama.detokenize([-1])"),
    "detokenize None": row("model.vocab.detokenize(None)", "vocab.detokenize(None)", "llama.detokenize(None)"),
    "detokenize text": row("model.vocab.detokenize(['a'])", "vocab.detokenize(['a'])", "llama.detokenize(['a'])"),
    "tokenize None": row("model.vocab.tokenize(None)", "vocab.tokenize(None, True, True)", "llama.tokenize(None)"),
    "tokenize a number": row("model.vocab.tokenize(5)", "vocab.tokenize(5, True, True)", "llama.tokenize(5)"),
    # batches
    "a sequence twice": row(
        "decoded().decode(batch([(1, 3, (0, 0), True)], 2))",
        "decoded().decode(batch([(1, 3, (0, 0), True)], 2))",
        "decoded()._ctx.decode(batch([(1, 3, (0, 0), True)], 2))",
    ),
    "a batch for a number of tokens that is text": row(
        "Batch('a')",
        "low.LlamaBatch(n_tokens='a', embd=0, n_seq_max=1)",
        "low.LlamaBatch(n_tokens='a', embd=0, n_seq_max=1, verbose=False)",
    ),
    "a batch of 2**31 tokens": row(
        "Batch(2**31)",
        "low.LlamaBatch(n_tokens=2**31, embd=0, n_seq_max=1)",
        "low.LlamaBatch(n_tokens=2**31, embd=0, n_seq_max=1, verbose=False)",
    ),
    "a batch of no sequences": row(
        "Batch(1, n_seq_max=0).add(1, 0)",
        "low.LlamaBatch(n_tokens=1, embd=0, n_seq_max=0).add(1, 0, [0], False)",
        "low.LlamaBatch(n_tokens=1, embd=0, n_seq_max=0, verbose=False).set_batch([1], 0, False)",
    ),
    "an empty batch": row(
        "fresh().decode(Batch(4))",
        "fresh().decode(low.LlamaBatch(n_tokens=4, embd=0, n_seq_max=1))",
        "llama._ctx.decode(low.LlamaBatch(n_tokens=4, embd=0, n_seq_max=1, verbose=False))",
    ),
    "None for a batch": row("fresh().decode(None)", "fresh().decode(None)", "llama._ctx.decode(None)"),
    "encode without an encoder": row(
        "fresh().encode([1])",
        "fresh().encode(low.llama_batch_get_one([1]))",
        "llama._ctx.encode(batch([(1, 0, (0,), True)]))",
    ),
    # rows
    "row -5": row("decoded().logits(-5)", "decoded().get_logits_ith(-5)", "decoded()._ctx.get_logits_ith(-5)"),
    "row 2**31": row(
        "decoded().logits(2**31)", "decoded().get_logits_ith(2**31)", "decoded()._ctx.get_logits_ith(2**31)"
    ),
    "a row that was not asked for": row(
        "decoded().logits(0)", "decoded().get_logits_ith(0)", "decoded()._ctx.get_logits_ith(0)"
    ),
    "embeddings that were not asked for": row(
        "decoded().embeddings()", "decoded().get_embeddings_ith(-1)", "decoded()._ctx.get_embeddings()[0]"
    ),
    "embedding 99": row("fresh(embeddings=True).embeddings(99)", "fresh(embeddings=True).get_embeddings_ith(99)"),
    "sampling row 2**31": row(
        "Sampler.greedy().sample(decoded(), 2**31)",
        "sampler('greedy').sample(decoded(), 2**31)",
        "sampler('greedy').sample(decoded()._ctx, 2**31)",
    ),
    "a text for an embedding from a context without": row(
        "decoded().embeddings_seq(0)",
        llama_cpp_python="llama.embed('a')",
        xllamacpp="server.handle_embeddings({'input': 'a'})['data']",
    ),
    # memory
    "removing sequence -2": memory("seq_rm(-2)", "seq_rm(-2, -1, -1)", "seq_rm(-2, -1, -1)"),
    "keeping a sequence that is not there": memory("seq_keep(99)", "seq_keep(99)", "seq_keep(99)"),
    "keeping sequence -1": memory("seq_keep(-1)", "seq_keep(-1)", "seq_keep(-1)"),
    "shifting a sequence that is not there": memory(
        "seq_add(99, 0, -1, 1)", "seq_add(99, 0, -1, 1)", "seq_shift(99, 0, -1, 1)"
    ),
    "shifting beyond 2**31": memory(
        "seq_add(0, 0, -1, 2**31 - 1)", "seq_add(0, 0, -1, 2**31 - 1)", "seq_shift(0, 0, -1, 2**31 - 1)"
    ),
    "shifting by text": memory("seq_add(0, 0, -1, 'a')", "seq_add(0, 0, -1, 'a')", "seq_shift(0, 0, -1, 'a')"),
    "a copy from a sequence that is not there": memory(
        "seq_cp(99, 0)", "seq_cp(99, 0, -1, -1)", "seq_cp(99, 0, -1, -1)"
    ),
    "the lowest position of no sequence": memory("seq_pos_min(99)", "seq_pos_min(99)"),
    "the highest position of sequence -1": memory("seq_pos_max(-1)", "seq_pos_max(-1)"),
    # states
    "a state of None": row("fresh().state.set(None)", "fresh().set_state_data(None)", "llama.load_state(None)"),
    "a state that is text": row("fresh().state.set('a')", "fresh().set_state_data('a')", "llama.load_state('a')"),
    "a state of a larger context": row(
        "fresh(n_ctx=512).state.set(decoded().state.get())",
        "c = fresh(n_ctx=512); c.decode(low.llama_batch_get_one([1] * 30)); "
        "fresh(n_ctx=16).set_state_data(c.get_state_data())",
    ),
    "a sequence's state of zeros": row(
        "llama_cy.Snapshot.from_bytes(bytes(1000))", "fresh().set_state_seq_data(bytes(1000), 0)"
    ),
    "a sequence's state for no sequence": row(
        "c = decoded(); c.restore(c.snapshot(0), 99)",
        "c = decoded(); c.set_state_seq_data(c.get_state_seq_data(0), 99)",
    ),
    "the state of no sequence": row("decoded().snapshot(99)", "decoded().get_state_seq_data(99)"),
    "a model for a state's file": row("fresh().state.load(sys.argv[1])", "fresh().load_state_file(sys.argv[1], 100)"),
    "a state's file that is not there": row(
        "fresh().state.load('/nowhere/state')", "fresh().load_state_file('/nowhere/state', 100)"
    ),
    "a session of -1 tokens": row(
        "fresh().state.load_session(sys.argv[1], seq_id=-5)", "fresh().load_state_file(sys.argv[1], -1)"
    ),
    "a state's file where there is no folder": row(
        "decoded().state.save('/nowhere/state')", "decoded().save_state_file('/nowhere/state', [1])"
    ),
    # objects that are closed
    "the memory of a closed context": closed_context(
        "c.memory.clear()", "c.kv_cache_clear()", "llama._ctx.kv_cache_clear()"
    ),
    "removing from a closed context": closed_context(
        "c.memory.seq_rm(0)", "c.memory_seq_rm(0, -1, -1)", "llama._ctx.kv_cache_seq_rm(0, -1, -1)"
    ),
    "the state of a closed context": closed_context("c.state.get()", "c.get_state_data()", "llama.save_state()"),
    "threads of a closed context": closed_context("c.n_threads", "c.n_threads()", "llama._ctx.set_n_threads(1, 1)"),
    "the size of a closed context": closed_context("c.state.get()", "c.n_ctx", "llama.n_ctx()"),
    "sampling from a closed context": closed_context(
        "Sampler.greedy().sample(c)", "sampler('greedy').sample(c, -1)", "sampler('greedy').sample(llama._ctx, -1)"
    ),
    "synchronizing a closed context": closed_context("c.synchronize()", "c.synchronize()"),
    "embeddings of a closed context": closed_context(
        "c.embeddings()", "c.get_embeddings_ith(-1)", "llama._ctx.get_embeddings()"
    ),
    "a completion of what is closed": closed_context(
        "c.complete('a')", "c.encode(low.llama_batch_get_one([1]))", "llama.create_completion('a', max_tokens=4)"
    ),
    "text of a closed model": row(
        "m = llama_cy.Model(sys.argv[1]); m.close(); m.vocab",
        "model.close(); vocab.get_text(1)",
        "llama.close(); llama.detokenize([1, 2])",
    ),
    "the description of a closed model": row(
        "m = llama_cy.Model(sys.argv[1]); m.close(); m.desc",
        "model.close(); model.desc",
        "llama.close(); llama._model.desc()",
    ),
    "facts of a closed model": row(
        "m = llama_cy.Model(sys.argv[1]); m.close(); m.metadata",
        "model.close(); model.meta_count()",
        "llama.close(); llama._model.metadata()",
    ),
    "an adapter for a closed model": row(
        "m = llama_cy.Model(sys.argv[1]); m.close(); m.load_adapter(sys.argv[1])",
        "model.close(); model.lora_adapter_init(sys.argv[1])",
    ),
    "accepting with a closed sampler": closed_sampler("s.accept(1)", "s.accept(1)", "s.accept(1, False)"),
    "the name of a closed sampler": closed_sampler("s.clone()", "s.name()"),
    "a clone of a closed sampler": closed_sampler("s.clone()", "s.clone()", "s.clone()"),
    "a reset of a closed sampler": closed_sampler("s.reset()", "s.reset()", "s.reset()"),
    "more for a closed chain": row(
        "c = SamplerChain(); c.close(); c.add(Sampler.greedy())",
        "s = sampler(); s.close(); s.add_greedy()",
        "s = sampler(); s.close(); s.add_greedy(); s.sample(decoded()._ctx, -1)",
    ),
    "a token for a closed batch": closed_batch("b.add(1, 0)", "b.add(1, 0, [0], False)", "b.set_batch([1], 0, False)"),
    "clearing a closed batch": closed_batch("b.clear()", "b.reset()", "b.reset()"),
    "several tokens for a closed batch": closed_batch(
        "b.add(1, 0); b.add(2, 1)", "b.set_batch([1, 2], 0, False)", "b.add_sequence([1, 2], 0, False)"
    ),
    # several threads
    "one context in eight threads": row(
        "c = fresh()\ndef work():\n    c.memory.clear(); c.decode([1] * 30)\n" + TWICE_AT_ONCE,
        "c = fresh()\ndef work():\n    c.kv_cache_clear(True); c.decode(low.llama_batch_get_one([1] * 30))\n"
        + TWICE_AT_ONCE,
        "def work():\n    llama.reset(); llama.eval([1] * 30)\n" + TWICE_AT_ONCE,
    ),
    "closed in one thread while another computes": row(
        "c = fresh()\ndef work():\n    c.memory.clear(); c.decode([1] * 30); c.close()\n" + TWICE_AT_ONCE,
        "c = fresh()\ndef work():\n    c.decode(low.llama_batch_get_one([1] * 30)); c.close()\n" + TWICE_AT_ONCE,
        "def work():\n    llama.reset(); llama.eval([1] * 30); llama.close()\n" + TWICE_AT_ONCE,
    ),
}
