"""Contexts: made, computed with, looked at, closed."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

import llama_cy

from .base import ANY, INDEX, Errors, Rules, step
from .expected import ContextModel, Entry
from .session import SHARED

__all__ = ["ContextRules"]

TOKENS = st.lists(st.integers(0, 100), min_size=1, max_size=6)
PARAMS = (
    "n_ctx=64, n_batch=32, n_threads=1",
    "n_ctx=64, n_batch=32, n_ubatch=4, n_threads=1",
    "n_ctx=300, n_batch=32, n_threads=1, n_seq_max=3, kv_unified=True",
    "n_ctx=700, n_batch=32, n_ubatch=8, n_threads=1, n_seq_max=3, kv_unified=False",
    "n_ctx=64, n_batch=32, n_threads=1, type_k='f32', type_v='f32', flash_attn_type='disabled'",
)
CLOSED: Errors = (llama_cy.ClosedError,)


class ContextRules(Rules):
    """What a context does by itself."""

    def open(self, source: str, key: str, params: str) -> None:
        name = self.new("c")
        outcome = self.session.do(f"{source}.context({params})", name)
        refused: Errors = (llama_cy.ContextError,) if key in ("t5", "bert") else ()
        if not self.check(outcome, may=refused):
            return
        made = outcome.value
        self.contexts[name] = ContextModel(
            key, made.n_seq_max, made.n_ctx, made.n_ctx_seq, made.n_vocab, f"{key} {params}", source
        )

    @step(key=st.sampled_from(SHARED), params=st.sampled_from(PARAMS))
    def make_context(self, key: str, params: str) -> None:
        if len(self.contexts) < 6:
            self.open(key, key, params)

    def blocked(self, context: ContextModel) -> Errors:
        """Return what any computation raises now."""
        if context.closed:
            return CLOSED
        return (BufferError,) if context.views else ()

    @step(i=INDEX, tokens=TOKENS)
    def decode(self, i: int, tokens: list[int]) -> None:
        self.decode_tokens(i, tokens)

    @step(i=INDEX, n=st.sampled_from((33, 60, 250)), token=st.integers(0, 100))
    def decode_many(self, i: int, n: int, token: int) -> None:
        self.decode_tokens(i, [token] * n)

    def decode_tokens(self, i: int, tokens: list[int]) -> None:
        name, context = self.pick(self.contexts, i)
        source = f"[{tokens[0]}] * {len(tokens)}" if len(tokens) > 8 else repr(tokens)
        outcome = self.session.do(f"{name}.decode({source})")
        must = self.blocked(context)
        may: Errors = ()
        if not must and context.kind in ("encoder", "both"):
            may = (llama_cy.LlamaError,)
        elif not must and not context.sure:
            may = (llama_cy.LlamaError, ValueError)
        elif not must and context.exact:
            if context.used() + len(tokens) > context.n_ctx_seq or context.free() < len(tokens):
                must = (llama_cy.KVCacheFullError,)
        elif not must and context.kind != "recurrent":
            may = (llama_cy.KVCacheFullError,)
        if self.check(outcome, must, may):
            context.append(0, tokens)
            context.show_last()
            context.settle()
            context.owner, context.cancelled = None, False
            self.show(i, -1, None)
        elif not self.blocked(context):
            context.cancelled = False
            if not context.exact or context.used() + len(tokens) <= context.n_ctx_seq:
                # A part may be decoded.
                context.doubt()

    @step(i=INDEX, lengths=st.lists(st.integers(0, 4), min_size=3, max_size=3), flags=st.integers(0, 2**12))
    def decode_batch(self, i: int, lengths: list[int], flags: int) -> None:
        """Each sequence goes on by some tokens, any of which may have logits."""
        name, context = self.pick(self.contexts, i)
        if context.kind in ("encoder", "both") or not sum(lengths[: context.n_seq_max]):
            return
        entries: list[Entry] = []
        for seq_id, n in enumerate(lengths[: context.n_seq_max]):
            first = context.highest(seq_id) + 1
            for k in range(n):
                wanted = bool(flags >> len(entries) & 1)
                entries.append(((flags + 7 * k) % 100, first + k, (seq_id,), wanted))
        outcome = self.session.do(f"{name}.decode(batch({entries!r}))")
        self.judge_batch(name, context, entries, outcome)

    def judge_batch(self, name: str, context: ContextModel, entries: list[Entry], outcome: Any) -> None:
        """Compare what a right batch came to."""
        must = self.blocked(context)
        may: Errors = ()
        if not must and not context.sure:
            may = (llama_cy.LlamaError, ValueError)
        elif not must:
            # Where it lacks places, or their order, depends on more than is known here.
            tight = len(context.cells) + len(entries) + 40 > context.n_ctx_seq or not context.exact
            may = (llama_cy.DecodeError,) if tight else ()
        done = self.check(outcome, must, may)
        if self.blocked(context):
            return
        context.cancelled = False
        if done:
            context.put(entries)
            context.owner = None
            for row in (context.rows or {}) if context.sure else ():
                self.show(list(self.contexts)[::-1].index(name), row, None)
        elif isinstance(outcome.error, llama_cy.InvalidBatchError):
            context.owner = "?"
        else:
            context.doubt()

    @step(
        i=INDEX, what=st.sampled_from(("gap", "back", "seq", "token", "twice", "both", "many")), seq=st.integers(0, 2)
    )
    def decode_wrong_batch(self, i: int, what: str, seq: int) -> None:
        name, context = self.pick(self.contexts, i)
        if context.kind in ("encoder", "both") or seq >= context.n_seq_max or not context.sure:
            return
        last = context.highest(seq)
        may: Errors = ()
        if what in ("gap", "back") and last < (0 if what == "gap" else 1):
            return
        kinds: dict[str, list[Entry]] = {
            "gap": [(1, last + 2, (seq,), True)],
            "back": [(1, last - 1, (seq,), True)],
            "seq": [(1, 0, (context.n_seq_max,), True)],
            "token": [(context.n_vocab, last + 1, (seq,), True)],
            "twice": [(1, last + 1, (seq,), True), (1, last + 3, (seq,), True)],
            "both": [(1, 0, (0, 1), True)],
            "many": [(1, last + 1 + k, (seq,), False) for k in range(33)],
        }
        entries = kinds[what]
        if what == "both":
            if context.n_seq_max > 1:
                return
        elif what in ("gap", "back", "twice") and not context.exact:
            may = ANY
        outcome = self.session.do(f"{name}.decode(batch({entries!r}, n_seq_max={2 if what == 'both' else 1}))")
        blocked = self.blocked(context)
        if may and not blocked:
            self.check(outcome, may=may)
            context.doubt()
            return
        self.check(outcome, blocked or (llama_cy.InvalidBatchError,))
        if not blocked:
            context.owner, context.cancelled = "?", False

    @step(i=INDEX, tokens=TOKENS)
    def encode(self, i: int, tokens: list[int]) -> None:
        name, context = self.pick(self.contexts, i)
        outcome = self.session.do(f"{name}.encode({tokens})")
        if context.kind in ("encoder", "both"):
            self.check(outcome, self.blocked(context), () if context.closed or context.views else ANY)
            if not self.blocked(context):
                context.doubt()
        else:
            self.check(outcome, self.blocked(context) or (llama_cy.ContextError,))
        if not self.blocked(context):
            context.cancelled = False

    @step(i=INDEX, row=st.integers(-4, 8))
    def look_at_row(self, i: int, row: int) -> None:
        self.show(i, row, None)

    @step(i=INDEX, row=st.sampled_from((-1, 0)))
    def view_row(self, i: int, row: int) -> None:
        self.show(i, row, self.new("v"))

    def show(self, i: int, row: int, view: str | None) -> None:
        name, context = self.pick(self.contexts, i)
        outcome = self.session.do(f"{name}.logits{'_view' if view else ''}({row})", view)
        if context.closed:
            self.check(outcome, CLOSED)
            return
        if context.rows is None or context.kind in ("encoder", "both"):
            shown = self.check(outcome, may=(ValueError, llama_cy.LlamaError))
            tokens = None
        elif context.rows.keys() == {-1}:
            # Where the last of some plain tokens is counted from the front depends on how they were cut.
            shown = self.check(
                outcome, () if row in (-1, 0) or row > 0 else (ValueError,), () if row == -1 else (ValueError,)
            )
            tokens = context.rows[-1]
        else:
            shown = self.check(outcome, () if row in context.rows else (ValueError,))
            tokens = context.rows.get(row)
        if shown:
            self.check_row(context.key, tokens, outcome.value)
            if view:
                context.views.add(view)

    @step(i=INDEX)
    def drop_view(self, i: int) -> None:
        views = {view: context for context in self.contexts.values() for view in sorted(context.views)}
        view, context = self.pick(views, i)
        context.views.discard(view)
        self.session.forget(view)

    @step(i=INDEX, source=st.sampled_from(("logits_all()", "embeddings(-1)", "embeddings_all()", "embeddings_seq(0)")))
    def look_at_all(self, i: int, source: str) -> None:
        name, context = self.pick(self.contexts, i)
        outcome = self.session.do(f"{name}.{source}")
        self.check(outcome, CLOSED if context.closed else (), ANY)

    @step(i=INDEX, sure=st.integers(0, 3))
    def close_context(self, i: int, sure: int) -> None:
        name, context = self.pick(self.contexts, i)
        if sure == 3:
            outcome = self.session.do(f"{name}.close()")
            if self.check(outcome, (BufferError,) if context.views else ()):
                context.closed = True
                for pool in context.pools:
                    if pool in self.pools:
                        self.pools[pool] = None

    @step(i=INDEX, n=st.sampled_from(("1", "2", "0", "-1", "10**9", "'1'")))
    def set_threads(self, i: int, n: str) -> None:
        name, context = self.pick(self.contexts, i)
        outcome = self.session.do(f"{name}.set_n_threads({n})")
        wrong = n not in ("1", "2")
        # A context begins with a pool of one thread.
        self.check(outcome, (ValueError, TypeError) if wrong else CLOSED if context.closed else (), (ValueError,))

    @step(
        i=INDEX,
        source=st.sampled_from(("synchronize()", "perf()", "perf_reset()", "n_threads", "set_causal_attn(True)")),
    )
    def ask(self, i: int, source: str) -> None:
        name, context = self.pick(self.contexts, i)
        self.check(self.session.do(f"{name}.{source}"), CLOSED if context.closed else ())

    @step(i=INDEX)
    def cancel(self, i: int) -> None:
        name, context = self.pick(self.contexts, i)
        if self.check(self.session.do(f"{name}.cancel()"), CLOSED if context.closed else ()):
            context.cancelled = True
