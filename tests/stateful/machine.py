"""The calls, what they should come to, and what is looked at after each of them."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import llama_cy

from .world import Raised, SeenContext, World

__all__ = ["KINDS", "Machine"]

KINDS = ("llama", "gemma3", "mamba", "bert")
GOOD = st.lists(st.integers(3, 300), min_size=1, max_size=6)
WRONG = st.sampled_from([-(2**63), -2, -1, 64, 395, 2**31 - 1, 2**31, 10**30, 1.5, "a", None])
TOKENS = st.one_of(GOOD, GOOD, GOOD, st.lists(st.one_of(st.integers(0, 300), WRONG), max_size=5), st.just([5] * 70))
SEQ = st.one_of(st.integers(0, 2), st.integers(0, 2), WRONG)
POS = st.one_of(st.integers(-1, 8), st.integers(-1, 8), WRONG)
SAMPLERS = (
    "greedy()", "dist(1)", "top_k(4)", "top_p(0.5)", "min_p(0.1)", "temp(0.7)", "penalties(8, 1.2)",
    "mirostat_v2(2)", "top_n_sigma(1.0)", "xtc(0.5, 0.1, seed=3)", "typical(0.5)", "logit_bias({5: 1.0})",
    "adaptive_p(0.5)", "top_k(0)", "temp(-1)", "top_p(2)", "min_p(float('nan'))", "penalties(-5)",
    "logit_bias({-1: 1})",
)  # fmt: skip
CALLS = (
    "embeddings()", "embeddings_seq(0)", "state.get()", "logits_all()", "perf()", "memory.can_shift",
    "set_embeddings(True)", "set_embeddings(False)", "set_causal_attn(False)", "set_causal_attn(True)",
    "logprobs([5, 6, 7])", "samplers", "set_n_threads(1)", "set_n_threads(0)", "memory.seq_div(0, 0, -1, 2)",
    "state.set(b'abc')", "sampled_token()", "encode([5, 6])", "logits(99)", "logits(-99)", "complete([])",
    "vocab.tokenize('a b')", "set_sampler(0, None)",
)  # fmt: skip
# Those that leave alone what is remembered.
LOOKS = {
    call
    for call in CALLS
    if call.startswith(("embeddings", "logits", "perf", "samplers", "sampled", "vocab", "state.get"))
}


class Machine(RuleBasedStateMachine):
    """One example; the models live as long as the process."""

    models: ClassVar[dict[str, Any]] = {}
    folder: ClassVar[Path]
    log: ClassVar[int]
    baseline: ClassVar[dict[str, int]]
    examples: ClassVar[int] = 0
    # Logits by model and all tokens that led there.
    known: ClassVar[dict[tuple[str, tuple[int, ...]], Any]] = {}

    def __init__(self) -> None:
        super().__init__()
        type(self).examples += 1
        self.world = World(self.models, self.folder, self.log)
        self.contexts: dict[str, SeenContext] = {}
        # None is one that is closed or in a chain.
        self.samplers: dict[str, bool] = {}
        self.chains: dict[str, list[str] | None] = {}
        self.batches: dict[str, int | None] = {}
        self.states: dict[str, tuple[Any, ...]] = {}
        self.loops: list[str] = []

    def pick(self, data: Any, names: Any) -> str:
        return str(data.draw(st.sampled_from(sorted(names))))

    def closed(self, found: Any) -> None:
        assert isinstance(found, Raised), found
        assert isinstance(found.error, llama_cy.ClosedError), found

    # contexts

    @initialize(kind=st.sampled_from(("llama", "llama", *KINDS)), seqs=st.integers(1, 3), unified=st.booleans())
    def begin(self, kind: str, seqs: int, unified: bool) -> None:
        """Without a context little can be done."""
        self.create(kind, 64, 1 if kind == "bert" else seqs, unified)
        assert self.contexts

    @precondition(lambda self: len(self.contexts) < 3)
    @rule(
        kind=st.sampled_from(KINDS),
        n_ctx=st.sampled_from([64, 64, 1, 0, 2**31, "x"]),
        seqs=st.integers(0, 3),
        unified=st.booleans(),
    )
    def create(self, kind: str, n_ctx: Any, seqs: int, unified: bool) -> None:
        name = self.world.name("c")
        found = self.world.do(
            f"{name} = models[{kind!r}].context(n_ctx={n_ctx!r}, n_seq_max={seqs}, n_threads=1, n_batch=32, "
            f"kv_unified={unified})"
        )
        if isinstance(found, Raised):
            assert n_ctx != 64 or seqs == 0 or isinstance(found.error, llama_cy.ContextError), found
            return
        context = self.world.names[name]
        self.contexts[name] = SeenContext(kind, context.n_ctx, seqs, unified)
        if kind == "bert":
            self.contexts[name].positions = self.contexts[name].tokens = self.contexts[name].rows = None

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), tokens=TOKENS)
    def decode(self, data: Any, tokens: list[Any]) -> None:
        name = self.pick(data, self.contexts)
        seen = self.contexts[name]
        found = self.world.do(f"{name}.decode({tokens!r})")
        if seen.closed:
            self.closed(found)
            return
        right = bool(tokens) and all(type(token) is int and 0 <= token < 395 for token in tokens)
        if isinstance(found, Raised):
            if seen.positions is not None and right and seen.rows is not None:
                held = sum(map(len, seen.positions.values()))
                assert held + len(tokens) > seen.n_ctx // seen.n_seq_max - 1 or seen.model != "llama", found
            seen.rows = None
            self.resync(name)
            return
        assert right, f"accepted {tokens}"
        if seen.positions is not None:
            start = max(seen.held(0), default=-1) + 1
            seen.positions[0] = [*seen.held(0), *range(start, start + len(tokens))]
        if seen.tokens is not None:
            seen.tokens += tuple(tokens)
        seen.rows = True if seen.rows is not None else None
        if seen.model == "llama" and seen.tokens and seen.rows:
            self.same_logits(name, seen)

    def same_logits(self, name: str, seen: SeenContext) -> None:
        row = self.world.names[name].logits(-1)
        assert seen.tokens is not None
        want = self.known.setdefault((seen.model, seen.tokens), row)
        np.testing.assert_allclose(row, want, rtol=0, atol=2e-3)
        if len(self.known) > 5000:
            self.known.clear()

    def resync(self, name: str) -> None:
        """After a failure or what is not modelled: what came of it is asked for, and no more expected of tokens."""
        seen = self.contexts[name]
        seen.tokens = None
        seen.positions = None

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), seq=SEQ, p0=POS, p1=POS)
    def remove(self, data: Any, seq: Any, p0: Any, p1: Any) -> None:
        name = self.pick(data, self.contexts)
        seen = self.contexts[name]
        found = self.world.do(f"{name}.memory.seq_rm({seq!r}, {p0!r}, {p1!r})")
        if seen.closed:
            assert isinstance(found, Raised)
        elif isinstance(found, Raised):
            assert not (seen.model == "llama" and seq in range(seen.n_seq_max) and (p0, p1) == (-1, -1)), found
        elif seen.model != "llama":
            self.resync(name)
        elif seen.positions is not None:
            assert found is True
            low, high = max(p0, 0), p1 if p1 >= 0 else 2**40
            for each in range(seen.n_seq_max) if seq == -1 else [seq]:
                kept = [pos for pos in seen.held(each) if not low <= pos < high]
                if kept != seen.held(each):
                    if each == 0 and seen.tokens is not None:
                        whole = kept == list(range(len(kept)))
                        seen.tokens = seen.tokens[: len(kept)] if whole else None
                    seen.positions[each] = kept

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), origin=SEQ, other=SEQ, p0=POS, p1=POS)
    def share(self, data: Any, origin: Any, other: Any, p0: Any, p1: Any) -> None:
        name = self.pick(data, self.contexts)
        seen = self.contexts[name]
        found = self.world.do(f"{name}.memory.seq_cp({origin!r}, {other!r}, {p0!r}, {p1!r})")
        if seen.closed:
            assert isinstance(found, Raised)
        elif not isinstance(found, Raised) and origin != other:
            self.resync(name)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), seq=SEQ, p0=POS, delta=POS)
    def shift(self, data: Any, seq: Any, p0: Any, delta: Any) -> None:
        name = self.pick(data, self.contexts)
        found = self.world.do(f"{name}.memory.seq_add({seq!r}, {p0!r}, -1, {delta!r})")
        if not isinstance(found, Raised):
            assert not self.contexts[name].closed
            self.resync(name)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data())
    def clear(self, data: Any) -> None:
        name = self.pick(data, self.contexts)
        seen = self.contexts[name]
        found = self.world.do(f"{name}.memory.clear()")
        if seen.closed:
            assert isinstance(found, Raised)
        elif seen.model != "bert":
            assert found is None, found
            seen.positions, seen.tokens = {}, ()

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), call=st.sampled_from(CALLS))
    def call(self, data: Any, call: str) -> None:
        name = self.pick(data, self.contexts)
        seen = self.contexts[name]
        found = self.world.do(f"{name}.{call}")
        if seen.closed and call != "samplers":
            assert isinstance(found, Raised), found
        elif call not in LOOKS and not seen.closed:
            self.resync(name)
            seen.rows = None

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), close=st.booleans())
    def let_go(self, data: Any, close: bool) -> None:
        name = self.pick(data, self.contexts)
        found = self.world.do(f"{name}.close()" if close else f"del {name}")
        assert found is None, found
        if close:
            self.contexts[name].closed = True
            assert self.world.names[name].closed
        else:
            del self.contexts[name]

    # states

    @precondition(lambda self: self.contexts)
    @rule(data=st.data())
    def save(self, data: Any) -> None:
        source = self.pick(data, self.contexts)
        seen = self.contexts[source]
        name = self.world.name("s")
        found = self.world.do(f"{name} = {source}.state.get()")
        assert isinstance(found, Raised) or not seen.closed
        if not isinstance(found, Raised) and seen.positions is not None and seen.model == "llama":
            held = {seq: list(kept) for seq, kept in seen.positions.items()}
            self.states[name] = (held, seen.tokens, seen.n_seq_max, seen.unified, seen.n_ctx)

    @precondition(lambda self: self.contexts and self.states)
    @rule(data=st.data(), cut=st.integers(0, 3))
    def restore(self, data: Any, cut: int) -> None:
        target, name = self.pick(data, self.contexts), self.pick(data, self.states)
        seen = self.contexts[target]
        found = self.world.do(f"{target}.state.set({name}{f'[:-{cut}]' if cut else ''})")
        if isinstance(found, Raised):
            return
        assert not cut
        assert not seen.closed
        held, seen.tokens, *_ = self.states[name]
        seen.positions = {seq: list(kept) for seq, kept in held.items()}
        seen.rows = None

    # samplers

    @precondition(lambda self: len(self.samplers) + len(self.chains) < 8)
    @rule(source=st.sampled_from(SAMPLERS))
    def sampler(self, source: str) -> None:
        name = self.world.name("p")
        if not isinstance(self.world.do(f"{name} = llama_cy.Sampler.{source}"), Raised):
            self.samplers[name] = True

    @precondition(lambda self: len(self.chains) < 3)
    @rule()
    def chain(self) -> None:
        name = self.world.name("h")
        assert self.world.do(f"{name} = llama_cy.SamplerChain()") is None
        self.chains[name] = []

    @precondition(lambda self: self.chains and self.samplers)
    @rule(data=st.data())
    def add(self, data: Any) -> None:
        chain, sampler = self.pick(data, self.chains), self.pick(data, self.samplers)
        found = self.world.do(f"{chain}.add({sampler}) and None")
        members = self.chains[chain]
        if members is None or not self.samplers[sampler]:
            self.closed(found)
        else:
            assert found is None, found
            members.append(sampler)
            self.samplers[sampler] = False

    @precondition(lambda self: self.chains)
    @rule(data=st.data(), i=st.one_of(st.integers(-3, 3), WRONG))
    def take_out(self, data: Any, i: Any) -> None:
        chain = self.pick(data, self.chains)
        members = self.chains[chain]
        found = self.world.do(f"{chain}.remove({i!r})")
        if members is None:
            self.closed(found)
        elif type(i) is int and -len(members) <= i < len(members):
            assert found is self.world.names[members[i]]
            self.samplers[members.pop(i)] = True
        else:
            assert isinstance(found, Raised), found

    @precondition(lambda self: self.chains or self.samplers)
    @rule(
        data=st.data(),
        call=st.sampled_from(["close()", "reset()", "clone()", "accept(5)", "accept(-1)", "name", "seed"]),
    )
    def use_sampler(self, data: Any, call: str) -> None:
        name = self.pick(data, {**self.samplers, **self.chains})
        found = self.world.do(f"{name}.{call}")
        if call == "close()":
            assert found is None, found
            if name in self.chains:
                # Its members go with it.
                self.chains[name] = None
            else:
                self.samplers[name] = False
        elif call in ("reset()", "clone()", "accept(5)"):
            usable = self.chains[name] is not None if name in self.chains else self.samplers[name]
            if usable:
                assert not isinstance(found, Raised), found
            else:
                self.closed(found)

    @precondition(lambda self: self.contexts and (self.chains or self.samplers))
    @rule(data=st.data(), idx=st.one_of(st.just(-1), st.integers(-2, 2), WRONG))
    def sample(self, data: Any, idx: Any) -> None:
        name, context = self.pick(data, {**self.samplers, **self.chains}), self.pick(data, self.contexts)
        found = self.world.do(f"{name}.sample({context}, {idx!r})")
        seen = self.contexts[context]
        if not isinstance(found, Raised):
            assert 0 <= found < self.models[seen.model].vocab.n_tokens
            assert not seen.closed
            assert seen.rows is not False

    # loops and threads

    @precondition(lambda self: self.contexts)
    @rule(
        data=st.data(),
        tokens=TOKENS,
        most=st.integers(-1, 4),
        steps=st.integers(0, 3),
        how=st.sampled_from(["generate", "stream"]),
    )
    def loop(self, data: Any, tokens: list[Any], most: int, steps: int, how: str) -> None:
        context = self.pick(data, self.contexts)
        name = self.world.name("l")
        found = self.world.do(f"{name} = {context}.{how}({tokens!r}, max_tokens={most}, ignore_eog=True)")
        if isinstance(found, Raised):
            return
        assert not self.contexts[context].closed
        self.resync(context)
        self.contexts[context].rows = None
        self.loops.append(name)
        for _ in range(steps):
            self.world.do(f"next({name}, None)")
        assert len(self.world.names[name].tokens) <= most

    @precondition(lambda self: self.loops)
    @rule(
        data=st.data(), call=st.sampled_from(["next({}, None)", "{}.close()", "del {}", "list({})", "{}.finish_reason"])
    )
    def use_loop(self, data: Any, call: str) -> None:
        name = self.pick(data, self.loops)
        for context in self.contexts:
            self.resync(context)
            self.contexts[context].rows = None
        self.world.do(call.format(name))
        if call.startswith("del"):
            self.loops.remove(name)

    @precondition(lambda self: self.contexts)
    @rule(data=st.data(), tokens=GOOD)
    def threads(self, data: Any, tokens: list[int]) -> None:
        name = self.pick(data, self.contexts)
        second = data.draw(st.sampled_from([f"{name}.close()", f"{name}.decode({tokens!r})", f"{name}.logits(-1)",
                                            f"{name}.memory.clear()", f"{name}.state.get()"]))  # fmt: skip
        self.world.together(f"{name}.decode({tokens!r})", second)
        seen = self.contexts[name]
        seen.closed = self.world.names[name].closed
        self.resync(name)
        seen.rows = None

    @rule()
    def collect(self) -> None:
        gc.collect()

    # what holds after each step

    @invariant()
    def positions(self) -> None:
        for name, seen in self.contexts.items():
            context = self.world.names[name]
            assert context.closed == seen.closed
            if seen.closed or seen.model != "llama":
                continue
            for seq in range(seen.n_seq_max):
                if seen.positions is None:
                    assert -1 <= context.memory.seq_pos_max(seq) < 2**31
                else:
                    held = seen.held(seq)
                    assert context.memory.seq_pos_max(seq) == max(held, default=-1), (name, seq, held)
                    assert context.memory.seq_pos_min(seq) == min(held, default=-1), (name, seq, held)

    @invariant()
    def members(self) -> None:
        for name, members in self.chains.items():
            if members is None:
                assert self.world.names[name].closed
            else:
                assert len(self.world.names[name]) == len(members)
        for name, free in self.samplers.items():
            assert self.world.names[name].closed != free, name

    def teardown(self) -> None:
        self.world.names.clear()
        live = llama_cy.live_objects()
        if live != self.baseline:
            gc.collect()
            live = llama_cy.live_objects()
        assert live == self.baseline, (live, self.baseline)
