"""Loops, streams and completions."""

from __future__ import annotations

from hypothesis import strategies as st

import llama_cy

from .base import ANY, INDEX, Errors, step
from .context_rules import CLOSED, TOKENS
from .expected import ContextModel, Loop
from .memory_rules import MemoryRules
from .sampler_rules import SamplerRules
from .session import Outcome

__all__ = ["LoopRules"]


class LoopRules(MemoryRules, SamplerRules):
    """What generates."""

    @step(
        i=INDEX, j=INDEX, prompt=st.none() | TOKENS, left=st.integers(0, 5), ahead=st.sampled_from((0, 0, 0, 1, 3)),
        own=st.booleans(), n=st.integers(0, 4), reuse=st.sampled_from(("True", "True", "False", "'exact'")),
    )  # fmt: skip
    def make_loop(
        self, *, i: int, j: int, prompt: list[int] | None, left: int, ahead: int, own: bool, n: int, reuse: str
    ) -> None:
        where, context = self.pick(self.contexts, i)
        sampler, _ = self.pick(self.samplers, j) if own else (None, None)
        name = self.new("g")
        source = sampler or "SamplerChain(Sampler.greedy())"
        options = f"max_tokens={left}, ignore_eog=True, run_ahead={ahead}, reuse={reuse}"
        outcome = self.session.do(f"{where}.generate({prompt}, {source}, {options})", name)
        must: Errors = ()
        if context.closed or (sampler and self.sampler_errors(sampler)):
            must = CLOSED
        elif context.kind == "encoder":
            must = (llama_cy.LlamaError,)
        elif ahead and context.kind in ("recurrent", "hybrid"):
            must = (ValueError,)
        may: Errors = (ValueError,) if ahead and context.kind in ("window", "both", "encoder") else ()
        if not context.closed:
            context.cancelled = False
        if self.check(outcome, must, may):
            self.loops[name] = Loop(where, sampler, tuple(prompt) if prompt is not None else None, left)
            self.take(0, n)

    @step(i=INDEX, n=st.integers(1, 4))
    def take_more(self, i: int, n: int) -> None:
        self.take(i, n)

    def take(self, i: int, n: int) -> None:
        for _ in range(n):
            name, loop = self.pick(self.loops, i)
            if loop is None or not self.take_one(name, loop):
                return

    def take_one(self, name: str, loop: Loop) -> bool:
        context = self.contexts[loop.context]
        outcome = self.session.do(f"next({name})")
        if loop.vague:
            context.doubt()
            return self.check(outcome, may=(*ANY, StopIteration))
        if loop.over:
            return self.check(outcome, (StopIteration,))
        if context.closed or (loop.sampler and self.sampler_errors(loop.sampler)):
            return self.check(outcome, CLOSED)
        if context.views:
            return self.check(outcome, (BufferError,))
        if loop.started and context.owner != name:
            if context.owner == "?":
                loop.vague = True
                context.doubt()
                return self.check(outcome, may=(*ANY, StopIteration))
            return self.check(outcome, (llama_cy.LlamaError,))
        if context.cancelled:
            loop.vague = True
            context.doubt()
            return self.check(outcome, may=(*ANY, StopIteration))
        if not loop.started and not self.start(loop, context, outcome.error):
            loop.vague = not isinstance(outcome.error, ValueError)
            return self.check(outcome, may=(*ANY, StopIteration)) and False
        return self.judge_token(name, loop, context, outcome)

    def start(self, loop: Loop, context: ContextModel, error: BaseException | None) -> bool:
        """Note what the prompt did; False where nobody knows."""
        if loop.prompt is None:
            if context.rows is None or context.kind == "both":
                context.doubt()
                return False
            if -1 not in context.rows:
                assert isinstance(error, ValueError), f"{self.session.lines[-1]}: {error!r}"
                return False
            loop.held = context.rows[-1]
            loop.started = True
            return True
        others = [cell for cell in context.cells if cell.seqs - {0}]
        tight = len(others) + len(loop.prompt) > context.n_ctx_seq
        if error is not None and not isinstance(error, StopIteration):
            # The sampler may have refused after the prompt was decoded.
            context.doubt()
            loop.started = not tight and context.kind != "both"
            assert tight or context.kind == "both" or loop.sampler, f"{self.session.lines[-1]}: {error!r}"
            return False
        context.seq_rm(0, -1, -1)
        context.append(0, loop.prompt)
        if not context.exact:
            context.cells = [cell for cell in context.cells if 0 in cell.seqs] if context.sure else context.cells
            context.sure = context.n_seq_max == 1
        context.settle()
        context.show_last()
        # Where something was in doubt, other sequences are still.
        loop.held = context.rows[-1] if context.rows else None
        loop.started = True
        return True

    def judge_token(self, name: str, loop: Loop, context: ContextModel, outcome: Outcome) -> bool:
        context.owner = name
        if loop.left == 0:
            loop.over = True
            return self.check(outcome, (StopIteration,)) and False
        greedy = loop.sampler is None or self.is_greedy(loop.sampler)
        must: Errors = ()
        if loop.sampler and (
            not self.chooses(loop.sampler) or self.vocabulary(loop.sampler) not in (0, context.n_vocab)
        ):
            must = (ValueError,)
        may: Errors = () if greedy else ANY
        full = context.free() <= 0 or context.used() >= context.n_ctx_seq or not context.sure
        if full:
            may = (*may, llama_cy.KVCacheFullError, StopIteration)
        if not self.check(outcome, must, may):
            loop.over |= isinstance(outcome.error, StopIteration)
            if not must:
                context.doubt()
            return False
        token = outcome.value
        if greedy:
            self.check_token(context, loop.held, token)
        loop.left -= 1
        loop.over = loop.left == 0
        if full:
            context.doubt()
            return True
        context.append(0, [token])
        # What it goes on from is what the memory holds, whatever the logits came from.
        context.show_last()
        loop.held = context.rows[-1] if context.rows else None
        return True

    @step(i=INDEX)
    def look_at_loop(self, i: int) -> None:
        name, loop = self.pick(self.loops, i)
        outcome = self.session.do(
            f"({name}.tokens, {name}.finish_reason, {name}.reused, {name}.timings, {name}.logprobs)"
        )
        self.check(outcome)
        assert loop.over <= (outcome.value[1] is not None), (self.session.lines[-1], outcome.value, loop)

    @step(i=INDEX)
    def close_loop(self, i: int) -> None:
        name, loop = self.pick(self.loops, i)
        self.check(self.session.do(f"{name}.close()"))
        loop.over = loop.closed = True

    @step(i=INDEX)
    def cancel_loop(self, i: int) -> None:
        name, loop = self.pick(self.loops, i)
        context = self.contexts[loop.context]
        if self.check(self.session.do(f"{name}.cancel()"), CLOSED if context.closed else ()):
            context.cancelled = True

    @step(
        i=INDEX,
        text=st.sampled_from(("'once'", "''", "b'a b'", "[5, 6]", "'a\\ud800'", "7", "[]")),
        n=st.integers(0, 4),
    )
    def complete(self, i: int, text: str, n: int) -> None:
        where, context = self.pick(self.contexts, i)
        outcome = self.session.do(
            f"{where}.complete({text}, SamplerChain(Sampler.greedy()), max_tokens={n}, stop=['zq'])"
        )
        must: Errors = ()
        if context.closed:
            must = (llama_cy.ClosedError, ValueError, TypeError)
        elif text in ("'a\\ud800'", "7", "[]") or context.kind == "encoder":
            must = (ValueError, TypeError, llama_cy.LlamaError)
        elif context.views:
            must = (BufferError, ValueError)
        may: Errors = (
            (llama_cy.LlamaError, ValueError) if context.kind == "both" or not context.sure or text == "''" else ()
        )
        if len(context.cells) > 200 or not context.exact:
            may = (*may, llama_cy.KVCacheFullError)
        if self.check(outcome, must, may):
            assert len(outcome.value.tokens) <= n
        if not context.closed:
            # How many tokens the text was is for the vocabulary to say.
            others = context.n_seq_max > 1 or not context.sure
            context.doubt()
            context.cancelled = False
            if outcome.error is None and not others and context.exact:
                context.owner = None
