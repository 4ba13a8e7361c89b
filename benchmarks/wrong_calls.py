"""Wrong calls, said in the words of each binding; a row says nothing where a binding has no such call.

Those that others can be asked too, out of the table in ``tests/lifecycle/test_bad_calls.py``.
"""

from __future__ import annotations

from benchmarks.wrong_parameters import PARAMETERS
from benchmarks.wrong_setups import SETUPS, Row, row
from benchmarks.wrong_uses import USES

__all__ = ["CALLS", "SETUPS", "Row"]


def tokens(ours: str) -> Row:
    return row(
        f"fresh().decode({ours})",
        f"fresh().decode(low.llama_batch_get_one({ours}))",
        f"llama.eval({ours})",
        f"ask({ours})",
    )


def entries(source: str, n_seq_max: int = 1) -> Row:
    call = f"batch({source}, {n_seq_max})"
    return row(f"decoded().decode({call})", f"decoded().decode({call})", f"decoded()._ctx.decode({call})")


CALLS: dict[str, Row] = (
    {
        "token -1": tokens("[1, -1]"),
        "token of the vocabulary's size": tokens("[1, 10**6]"),
        "token 2**31": tokens("[2**31]"),
        "a token that is text": tokens("['a']"),
        "a token that is a float": tokens("[1.5]"),
        "no tokens": tokens("[]"),
        "None for tokens": tokens("None"),
        "more tokens than the context": tokens("[1] * 300"),
        "more tokens than n_batch, as a batch": entries("[(1, 3 + i, (0,), False) for i in range(33)]"),
        "a batch with a gap": entries("[(1, 9, (0,), True)]"),
        "a batch that goes back": entries("[(1, 0, (0,), True)]"),
        "a sequence that is not there": entries("[(1, 0, (5,), True)]"),
        "sequence -1": entries("[(1, 3, (-1,), True)]"),
        "sequence 10**6": entries("[(1, 3, (10**6,), True)]"),
        "position -1": entries("[(1, -1, (0,), True)]"),
        "no sequence at all": entries("[(1, 3, (), True)]"),
        "more sequences than a batch has room for": entries("[(1, 3, tuple(range(64)), True)]"),
        "more entries than a batch has room for": row(
            "b = Batch(1); [b.add(1, i) for i in range(5000)]",
            "b = low.LlamaBatch(n_tokens=1, embd=0, n_seq_max=1); [b.add(1, i, [0], False) for i in range(5000)]",
            "b = low.LlamaBatch(n_tokens=1, embd=0, n_seq_max=1, verbose=False); b.set_batch([1] * 5000, 0, False)",
        ),
        "a batch of a negative size": row(
            "Batch(-1)",
            "low.LlamaBatch(n_tokens=-1, embd=0, n_seq_max=1)",
            "low.LlamaBatch(n_tokens=-1, embd=0, n_seq_max=1, verbose=False)",
        ),
        "a closed batch": row(
            "b = batch([(1, 0, (0,), True)]); b.close(); fresh().decode(b)",
            "b = batch([(1, 0, (0,), True)]); b.close(); fresh().decode(b)",
            "b = batch([(1, 0, (0,), True)]); b.close(); llama._ctx.decode(b)",
        ),
        "logits before any decode": row(
            "fresh().logits()", "fresh().get_logits_ith(-1)", "llama._ctx.get_logits_ith(-1)"
        ),
        "a row that is not there": row(
            "decoded().logits(99)", "decoded().get_logits_ith(99)", "decoded()._ctx.get_logits_ith(99)"
        ),
        "sampling before any decode": row(
            "Sampler.greedy().sample(fresh())",
            "sampler('greedy').sample(fresh(), -1)",
            "sampler('greedy').sample(llama._ctx, -1)",
        ),
        "sampling a row that is not there": row(
            "Sampler.greedy().sample(decoded(), 7)",
            "sampler('greedy').sample(decoded(), 7)",
            "sampler('greedy').sample(decoded()._ctx, 7)",
        ),
        "an empty chain": row(
            "SamplerChain().sample(decoded())",
            "sampler().sample(decoded(), -1)",
            "sampler().sample(decoded()._ctx, -1)",
        ),
        "a chain that selects nothing": row(
            "SamplerChain(Sampler.top_k(3)).sample(decoded())",
            "s = sampler(); s.add_top_k(3); s.sample(decoded(), -1)",
            "s = sampler(); s.add_top_k(3); s.sample(decoded()._ctx, -1)",
        ),
        "accepting a token that is none": row(
            "Sampler.dist().accept(-1)", "s = sampler(); s.add_penalties(8, 1.1, 0.0, 0.0); s.accept(-1)"
        ),
        "a closed sampler": row(
            "s = Sampler.greedy(); s.close(); s.sample(decoded())",
            "s = sampler('greedy'); s.close(); s.sample(decoded(), -1)",
            "s = sampler('greedy'); s.close(); s.sample(decoded()._ctx, -1)",
        ),
        "a malformed grammar": row(
            "Sampler.grammar(model.vocab, 'root ::= (((')",
            "sampler().add_grammar(vocab, 'root ::= (((', 'root')",
            "llama.create_completion('a', grammar=LlamaGrammar.from_string('root ::= ((('))",
            "ask(grammar='root ::= (((')",
        ),
        "a grammar that begins with itself": row(
            "Sampler.grammar(model.vocab, 'root ::= root \"a\"')",
            "sampler().add_grammar(vocab, 'root ::= root \"a\"', 'root')",
            "llama.create_completion('a', grammar=LlamaGrammar.from_string('root ::= root \"a\"'))",
            "ask(grammar='root ::= root \"a\"')",
        ),
        "a grammar without its root": row(
            "Sampler.grammar(model.vocab, 'a ::= \"a\"')",
            "sampler().add_grammar(vocab, 'a ::= \"a\"', 'root')",
            "llama.create_completion('a', grammar=LlamaGrammar.from_string('a ::= \"a\"'))",
            "ask(grammar='a ::= \"a\"')",
        ),
        "a grammar that refuses the token": row(
            "Sampler.grammar(model.vocab, 'root ::= \"a\"').accept(60)",
            "s = sampler(); s.add_grammar(vocab, 'root ::= \"a\"', 'root'); s.accept(60)",
        ),
        "a closed context": row(
            "c = fresh(); c.close(); c.decode([1])",
            "c = fresh(); c.close(); c.decode(low.llama_batch_get_one([1]))",
            "llama.close(); llama.eval([1])",
        ),
        "logits of a closed context": row(
            "c = decoded(); c.close(); c.logits()",
            "c = decoded(); c.close(); c.get_logits_ith(-1)",
            "c = decoded(); c.close(); c._ctx.get_logits_ith(-1)",
        ),
        "a context whose model was closed": row(
            "m = llama_cy.Model(sys.argv[1]); m.close(); m.context()",
            "c = fresh(); model.close(); c.decode(low.llama_batch_get_one([1, 2]))",
            "llama._model.close(); llama.eval([1, 2])",
        ),
        "a vocabulary whose model was closed": row(
            "m = llama_cy.Model(sys.argv[1]); m.close(); m.vocab",
            "model.close(); vocab.tokenize('a', True, True)",
            "llama._model.close(); llama.tokenize(b'a')",
        ),
        "text of a token that is none": row(
            "model.vocab.get_text(10**6)", "vocab.get_text(10**6)", "llama._model.token_get_text(10**6)"
        ),
        "score of a token that is none": row(
            "model.vocab.get_score(-1)", "vocab.get_score(-1)", "llama._model.token_get_score(-1)"
        ),
        "piece of a token that is none": row(
            "model.vocab.token_to_piece(10**6)",
            "vocab.token_to_piece(10**6, 0, True)",
            "llama._model.token_to_piece(10**6)",
        ),
        "detokenize a token that is none": row(
            "model.vocab.detokenize([10**6])", "vocab.detokenize([10**6])", "llama.detokenize([10**6])"
        ),
        "a lone surrogate": row(
            "model.vocab.tokenize('\\ud800')",
            "vocab.tokenize('\\ud800', True, True)",
            "llama.create_completion('\\ud800')",
            "ask('\\ud800')",
        ),
        "divided by 0": row("decoded().memory.seq_div(0, 0, -1, 0)"),
        "a sequence beyond those that there are": row(
            "fresh().memory.seq_rm(99)", "fresh().memory_seq_rm(99, -1, -1)", "llama._ctx.kv_cache_seq_rm(99, -1, -1)"
        ),
        "a copy to a sequence that is not there": row(
            "decoded().memory.seq_cp(0, 99)",
            "decoded().memory_seq_cp(0, 99, -1, -1)",
            "decoded()._ctx.kv_cache_seq_cp(0, 99, -1, -1)",
        ),
        "the highest position of no sequence": row("fresh().memory.seq_pos_max(99)", "fresh().memory_seq_pos_max(99)"),
        "a state of zeros": row("fresh().state.set(bytes(1000))", "fresh().set_state_data(bytes(1000))"),
        "an empty state": row("fresh().state.set(b'')", "fresh().set_state_data(b'')"),
        "a state of garbage": row(
            "fresh().state.set(bytes(range(256)) * 40)", "fresh().set_state_data(bytes(range(256)) * 40)"
        ),
        "half a state": row(
            "c = decoded(); d = c.state.get(); c.state.set(d[:len(d) // 2])",
            "c = decoded(); d = bytes(c.get_state_data()); c.set_state_data(d[:len(d) // 2])",
        ),
        "a model as an adapter": row(
            "model.load_adapter(sys.argv[1])",
            "model.lora_adapter_init(sys.argv[1])",
            "Llama(sys.argv[1], lora_path=sys.argv[1], verbose=False)",
        ),
        "a model file that is cut": row(
            "llama_cy.Model(sys.argv[2])",
            "low.LlamaModel(sys.argv[2], params, verbose=False)",
            "Llama(sys.argv[2], verbose=False)",
            "serve(sys.argv[2])",
        ),
        "a context of no tokens a batch": row(
            "fresh(n_batch=0)",
            "p = low.LlamaContextParams(); p.n_batch = 0; c = low.LlamaContext(model, p, verbose=False); "
            "c.decode(low.llama_batch_get_one([1]))",
            "Llama(sys.argv[1], n_batch=0, verbose=False).eval([1])",
            "server = serve(n_batch=0); ask()",
        ),
        "more sequences than there can be": row(
            "fresh(n_seq_max=10**6)",
            "p = low.LlamaContextParams(); p.n_seq_max = 10**6; low.LlamaContext(model, p, verbose=False)",
        ),
        "a context in a context's place": row(
            "llama_cy.Context(5)", "low.LlamaContext(5)", "low.LlamaContext(model=5, params=None)"
        ),
        "None for a model": row(
            "llama_cy.Context(None)", "low.LlamaContext(None)", "low.LlamaContext(model=None, params=None)"
        ),
        "None for a context": row(
            "Sampler.greedy().sample(None)", "sampler('greedy').sample(None, -1)", "sampler('greedy').sample(None, -1)"
        ),
    }
    | PARAMETERS
    | USES
)
