"""Samplers and chains: made, moved, used, taken apart, closed."""

from __future__ import annotations

from hypothesis import strategies as st

import llama_cy

from .base import ANY, INDEX, Errors, Rules, step
from .expected import Chain

__all__ = ["SamplerRules"]

# Kind to source; some are for the vocabulary of one model only.
KINDS = {
    "greedy": "greedy()",
    "dist": "dist(7)",
    "top_k": "top_k(3)",
    "top_p": "top_p(0.9)",
    "min_p": "min_p(0.05)",
    "temp": "temp(0.5)",
    "penalties": "penalties(8, 1.1)",
    "logit_bias": "logit_bias({5: 1.0, 7: -float('inf')})",
    "typical": "typical(0.9)",
    "xtc": "xtc(0.1, 0.1, 1, 7)",
    "top_n_sigma": "top_n_sigma(1.0)",
    "mirostat_v2": "mirostat_v2(7)",
    "adaptive_p": "adaptive_p(0.5, 0.9, 7)",
    "dry": "dry(llama.vocab)",
    "grammar": "grammar(llama.vocab, 'root ::= [a-z ]*')",
    "biased": "logit_bias({5: 1.0}, n_vocab=395)",
    "python": "init(lambda candidates: None)",
}
FOR_LLAMA = ("dry", "grammar", "biased")


class SamplerRules(Rules):
    """What a sampler does."""

    @step(kind=st.sampled_from(tuple(KINDS)))
    def make_another_sampler(self, kind: str) -> None:
        self.make_sampler(kind)

    def make_sampler(self, kind: str) -> None:
        name = self.new("s")
        if self.check(self.session.do(f"Sampler.{KINDS[kind]}", name)):
            self.samplers[name] = Chain(kind, vocabulary=395 if kind in FOR_LLAMA else 0)

    @step()
    def make_another_chain(self) -> None:
        self.make_chain()

    def make_chain(self) -> None:
        name = self.new("s")
        self.check(self.session.do("SamplerChain()", name))
        self.samplers[name] = Chain("chain")

    @step(i=INDEX, j=INDEX)
    def add(self, i: int, j: int) -> None:
        chains = {name: chain for name, chain in self.samplers.items() if chain.kind == "chain"}
        name, chain = self.pick(chains, i)
        added, sampler = self.pick(self.samplers, j)
        outcome = self.session.do(f"{name}.add({added})")
        must: Errors = self.sampler_errors(name) or self.sampler_errors(added)
        # One that was removed from a chain has two names.
        itself = sampler is chain
        if not must and itself:
            must = (ValueError,)
        may: Errors = (ValueError,) if itself else ()
        if self.check(outcome, must, may):
            sampler.inside = name
            chain.members.append(added)

    @step(i=INDEX, at=st.integers(-3, 3))
    def remove(self, i: int, at: int) -> None:
        chains = {name: chain for name, chain in self.samplers.items() if chain.kind == "chain"}
        name, chain = self.pick(chains, i)
        made = self.new("s")
        outcome = self.session.do(f"{name}.remove({at})", made)
        fits = -len(chain.members) <= at < len(chain.members)
        if self.check(
            outcome, self.sampler_errors(name) or (() if fits else (IndexError,)), () if fits else (IndexError,)
        ):
            # The very object that was put in, so it has two names from here on.
            member = chain.members.pop(at)
            self.samplers[member].inside = None
            assert outcome.value is self.session.names.get(member, outcome.value)
            self.samplers[made] = self.samplers[member]

    @step(i=INDEX)
    def look_at_sampler(self, i: int) -> None:
        name, sampler = self.pick(self.samplers, i)
        outcome = self.session.do(f"{name}.closed")
        assert outcome.value is bool(sampler.closed or sampler.inside), (self.session.lines[-1], sampler)
        if sampler.kind == "chain" and not outcome.value:
            assert self.session.do(f"len({name})").value == len(sampler.members)
        self.check(self.session.do(f"({name}.name, {name}.seed)"), (llama_cy.ClosedError,) if sampler.closed else ())
        self.check(self.session.do(f"{name}.plan"), self.sampler_errors(name))

    @step(i=INDEX, method=st.sampled_from(("clone", "reset", "close", "close")))
    def call_sampler(self, i: int, method: str) -> None:
        name, sampler = self.pick(self.samplers, i)
        made = self.new("s") if method == "clone" else None
        outcome = self.session.do(f"{name}.{method}()", made)
        if method == "close":
            self.check(outcome)
            if not sampler.inside:
                self.close_sampler(name)
        elif self.check(outcome, self.sampler_errors(name)) and made:
            self.samplers[made] = self.twin(sampler)

    def twin(self, sampler: Chain) -> Chain:
        """Note a clone, whose members nobody can name."""
        twin = Chain(sampler.kind, vocabulary=sampler.vocabulary)
        for member in sampler.members:
            hidden = self.new("hidden")
            self.samplers[hidden] = inner = self.twin(self.samplers[member])
            twin.members.append(hidden)
            inner.inside = "a clone"
        return twin

    @step(i=INDEX, token=st.integers(0, 94))
    def accept(self, i: int, token: int) -> None:
        name, _ = self.pick(self.samplers, i)
        grammar = "grammar" in self.kinds(name)
        outcome = self.session.do(f"{name}.accept({token})")
        self.check(outcome, self.sampler_errors(name), (llama_cy.GrammarError,) if grammar else ())

    @step(i=INDEX, j=INDEX)
    def copy(self, i: int, j: int) -> None:
        name, sampler = self.pick(self.samplers, i)
        other, source = self.pick(self.samplers, j)
        must = self.sampler_errors(name) or self.sampler_errors(other)
        # A chain of one is no sampler.
        alike = self.kinds(name) == self.kinds(other) and not sampler.members and not source.members
        self.check(self.session.do(f"{name}.copy({other})"), must, () if alike else (ValueError,))

    @step(i=INDEX, j=INDEX, row=st.integers(-3, 6))
    def sample(self, i: int, j: int, row: int) -> None:
        name, _ = self.pick(self.samplers, i)
        where, context = self.pick(self.contexts, j)
        outcome = self.session.do(f"{name}.sample({where}, {row})")
        must: Errors = ()
        may: Errors = ()
        if context.closed or self.sampler_errors(name):
            must = (llama_cy.ClosedError,)
        elif context.rows is None or context.kind in ("encoder", "both") or context.rows.keys() == {-1}:
            may = (ValueError, llama_cy.LlamaError)
        elif row not in context.rows:
            must = (ValueError,)
        if not must and (not self.chooses(name) or self.vocabulary(name) not in (0, context.n_vocab)):
            must = (ValueError,)
        elif not must and not self.is_greedy(name):
            # Nothing may be left to choose from.
            may = ANY
        if self.check(outcome, must, may):
            known = context.rows.get(row) if context.rows else None
            self.check_token(context, known if self.is_greedy(name) else None, outcome.value)

    @step(
        i=INDEX, row=st.sampled_from(("np.zeros(395, np.float32)", "np.zeros(0, np.float32)", "np.zeros(395)", "[1.0]"))
    )
    def sample_row(self, i: int, row: str) -> None:
        name, _ = self.pick(self.samplers, i)
        outcome = self.session.do(f"{name}.sample_logits({row})")
        if "395, np" in row:
            self.check(outcome, self.sampler_errors(name), (ValueError, llama_cy.LlamaError))
        else:
            self.check(outcome, (ValueError, TypeError))
