"""Memories, states, adapters and pools of contexts."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

import llama_cy

from .base import ANY, INDEX, Errors, step
from .context_rules import CLOSED, ContextRules

__all__ = ["MemoryRules"]

SEQ = st.integers(0, 2)
END = st.integers(-1, 12)
OPERATIONS = st.one_of(
    st.tuples(st.just("seq_rm"), st.integers(-1, 2), END, END),
    st.tuples(st.just("seq_cp"), SEQ, SEQ, END, END),
    st.tuples(st.just("seq_cp"), SEQ, SEQ, st.just(-1), st.just(-1)),
    st.tuples(st.just("seq_keep"), SEQ),
    st.tuples(st.just("seq_add"), SEQ, END, END, st.integers(-6, 6)),
    st.tuples(st.just("seq_div"), SEQ, END, END, st.integers(1, 3)),
)
DAMAGE = ("[:-1]", "[:20]", " + b'x'", ".replace(b'llamacy2', b'llamacy9')", "[:60] + bytes(8) + {0}[68:]", "[:0]")


def stored(params: str) -> str:
    """Leave out of a context's parameters what its state does not depend on, whatever the model."""
    return re.sub(r"n_ubatch=\d+, ", "", params)


class MemoryRules(ContextRules):
    """What a context remembers."""

    @step(i=INDEX, operation=OPERATIONS)
    def change_memory(self, i: int, operation: tuple[Any, ...]) -> None:
        name, context = self.pick(self.contexts, i)
        method, *arguments = operation
        outcome = self.session.do(f"{name}.memory.{method}({', '.join(map(str, arguments))})")
        wrong_seq = any(seq >= context.n_seq_max for seq in arguments[: 2 if method == "seq_cp" else 1])
        if wrong_seq:
            self.check(outcome, (ValueError,))
            return
        if context.closed:
            self.check(outcome, CLOSED)
            return
        if not context.exact or not context.sure:
            if self.check(outcome, may=(llama_cy.LlamaError, ValueError)):
                context.moving = True
            context.doubt()
            return
        if method == "seq_cp" and not context.unified and arguments[0] != arguments[1]:
            last = context.highest(arguments[0])
            if arguments[2] > 0 or 0 <= arguments[3] <= last:
                self.check(outcome, (ValueError,))
                context.owner = None
                return
        if self.check(outcome):
            assert outcome.value is (True if method == "seq_rm" else None)
            getattr(context, method)(*arguments)
            context.owner = None
            context.moving |= method in ("seq_add", "seq_div") or (method == "seq_cp" and not context.unified)

    @step(i=INDEX, data=st.sampled_from(("", "False")))
    def clear_memory(self, i: int, data: str) -> None:
        name, context = self.pick(self.contexts, i)
        outcome = self.session.do(f"{name}.memory.clear({data})")
        encoder = (llama_cy.ContextError,) if context.kind == "encoder" else ()
        if self.check(outcome, CLOSED if context.closed else encoder):
            context.clear()
            context.owner = None

    @step(i=INDEX)
    def ask_positions(self, i: int) -> None:
        name, context = self.pick(self.contexts, i)
        if context.closed or context.kind == "encoder":
            return
        for seq_id in range(context.n_seq_max):
            for end in ("min", "max"):
                outcome = self.session.do(f"{name}.memory.seq_pos_{end}({seq_id})")
                self.check(outcome)
                if context.sure and (context.exact or (end == "max" and context.kind != "both")):
                    want = context.lowest(seq_id) if end == "min" else context.highest(seq_id)
                    assert outcome.value == want, f"{self.session.lines[-1]}: {outcome.value}, not {want}"

    @step(i=INDEX)
    def save_state(self, i: int) -> None:
        name, context = self.pick(self.contexts, i)
        made = self.new("d")
        outcome = self.session.do(f"{name}.state.get()", made)
        may: Errors = (llama_cy.StateError,) if context.moving or not context.sure else ()
        if context.kind in ("encoder", "both"):
            may = ANY
        if self.check(outcome, CLOSED if context.closed else (), may):
            self.states[made] = deepcopy(context)

    @step(i=INDEX, j=INDEX)
    def restore_state(self, i: int, j: int) -> None:
        name, context = self.pick(self.contexts, i)
        saved, state = self.pick(self.states, j)
        outcome = self.session.do(f"{name}.state.set({saved})")
        if context.closed:
            self.check(outcome, CLOSED)
            return
        same = context.params == state.params
        must: Errors = () if same else (llama_cy.StateError,)
        may: Errors = (llama_cy.StateError,) if context.moving or context.kind in ("encoder", "both") else ()
        if context.views:
            must, may = (BufferError, llama_cy.StateError), ()
        elif not same and ({context.key, state.key} == {"llama"} or stored(context.params) == stored(state.params)):
            # Of a context that differs in what a state does not depend on.
            must, may = (), (llama_cy.StateError,)
        if self.check(outcome, must, may):
            context.cells, context.sure = list(state.cells), state.sure and same
            context.rows, context.moving, context.owner = {}, False, None
        elif not context.views:
            context.owner = "?"

    @step(i=INDEX, j=INDEX, damage=st.sampled_from(DAMAGE))
    def restore_damaged_state(self, i: int, j: int, damage: str) -> None:
        name, context = self.pick(self.contexts, i)
        saved, _ = self.pick(self.states, j)
        outcome = self.session.do(f"{name}.state.set({saved}{damage.format(saved)})")
        self.check(outcome, CLOSED if context.closed else (llama_cy.StateError,))

    @step(source=st.sampled_from(("lora", "lora", "lora-embedding", "alora", "llama", "missing")))
    def load_adapter(self, source: str) -> None:
        name = self.new("a")
        outcome = self.session.do(f"llama.load_adapter(folder + '/{source}.gguf')", name)
        must: Errors = (llama_cy.ModelLoadError, OSError) if source in ("llama", "missing") else ()
        if self.check(outcome, must):
            self.adapters[name] = "llama"

    @step(i=INDEX, j=INDEX, scale=st.sampled_from(("1.0", "0.5", "-2", "0", "float('nan')", "'a'", "1e39")))
    def set_adapter(self, i: int, j: int, scale: str) -> None:
        name, context = self.pick(self.contexts, i)
        adapter, owner = self.pick(self.adapters, j)
        outcome = self.session.do(f"{name}.set_adapters([({adapter}, {scale})])")
        wrong: Errors = (ValueError, TypeError)
        must: Errors = wrong if scale in ("float('nan')", "'a'", "1e39") or owner is None else ()
        if context.closed:
            must = (*wrong, llama_cy.ClosedError)
        elif context.model != "llama":
            must = wrong
        if self.check(outcome, must):
            context.adapted, context.owner = True, None

    @step(i=INDEX)
    def unset_adapters(self, i: int) -> None:
        name, context = self.pick(self.contexts, i)
        if self.check(self.session.do(f"{name}.set_adapters(None)"), CLOSED if context.closed else ()):
            context.adapted, context.owner = False, None

    @step(i=INDEX)
    def close_adapter(self, i: int) -> None:
        name, _ = self.pick(self.adapters, i)
        self.check(self.session.do(f"{name}.close()"))
        self.adapters[name] = None

    @step(n=st.sampled_from(("1", "2", "0", "-1", "513", "'2'", "None")))
    def make_pool(self, n: str) -> None:
        name = self.new("t")
        if self.check(self.session.do(f"Threadpool({n})", name), () if n in ("1", "2") else (ValueError, TypeError)):
            self.pools[name] = None

    @step(i=INDEX, j=INDEX)
    def attach(self, i: int, j: int) -> None:
        name, context = self.pick(self.contexts, i)
        pool, user = self.pick(self.pools, j)
        must: Errors = CLOSED if context.closed else ()
        # A pool that was exchanged is free after the next computation only.
        busy: Errors = (ValueError,) if user is not None and user != name else ()
        if self.check(self.session.do(f"{name}.attach({pool})"), must, busy):
            self.pools[pool] = name
            context.pools.add(pool)

    @step(i=INDEX)
    def detach(self, i: int) -> None:
        name, context = self.pick(self.contexts, i)
        self.check(self.session.do(f"{name}.detach()"), CLOSED if context.closed else ())
