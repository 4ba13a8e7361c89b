"""What all rules share: names for what was made, and the comparison of an outcome with what was to be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

import numpy as np
from hypothesis import strategies as st

import llama_cy

from .expected import Chain, ContextModel, Entry, Loop, greedy, logits_of
from .session import Outcome, Session

__all__ = ["ANY", "INDEX", "NothingThereError", "Rules", "step"]

_T = TypeVar("_T")
_F = TypeVar("_F", bound=Callable[..., None])
Errors = tuple[type[BaseException], ...]

# What a public call may raise at all, where nobody knows better.
ANY: Errors = (llama_cy.LlamaError, ValueError, BufferError, IndexError, TypeError, OSError)
INDEX = st.integers(0, 7)
# Caches hold halves, and batches of another size round otherwise; weights of the built-in model are quantized.
TOLERANCE = 0.08
# Logits have a standard deviation near 3.
MARGIN = 1.0


class NothingThereError(Exception):
    """There is nothing yet that a step could be about."""


def step(**strategies: st.SearchStrategy[Any]) -> Callable[[_F], _F]:
    """Mark a method as something that may come next, with what its arguments are drawn from.

    One rule of Hypothesis's runs them all: it takes longer to choose among fifty than what they do.
    """

    def mark(method: _F) -> _F:
        method.strategy = st.fixed_dictionaries(strategies)  # type: ignore[attr-defined]
        return method

    return mark


class Rules:
    """Names, and what is known of the things that bear them."""

    journal: ClassVar[Callable[[str], None] | None] = None

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(type(self).journal)
        self.contexts: dict[str, ContextModel] = {}
        self.loops: dict[str, Loop] = {}
        self.samplers: dict[str, Chain] = {}
        self.batches: dict[str, list[Entry] | None] = {}
        self.states: dict[str, ContextModel] = {}
        self.models: dict[str, str | None] = {}
        self.adapters: dict[str, str | None] = {}
        self.pools: dict[str, str | None] = {}
        self.count = 0

    def new(self, letter: str) -> str:
        self.count += 1
        return f"{letter}{self.count}"

    def pick(self, table: Mapping[str, _T], index: int) -> tuple[str, _T]:
        """Choose one of what there is, the youngest first, as 0 is what examples shrink to.

        Where there is nothing the step does nothing.
        """
        # What is within a clone has no name that a line could say.
        named = [name for name in table if not name.startswith("hidden")]
        if not named:
            raise NothingThereError
        name = named[-1 - index % len(named)]
        return name, table[name]

    def named(self, table: Mapping[str, Any], index: int) -> str | None:
        """Choose as :meth:`pick` does, or return None."""
        try:
            return self.pick(table, index)[0]
        except NothingThereError:
            return None

    def check(self, outcome: Outcome, must: Errors = (), may: Errors = ()) -> bool:
        """Compare an outcome with the exceptions that it must or may be; return whether nothing was raised."""
        error = outcome.error
        if error is None:
            assert not must, f"{self.session.lines[-1]}: {names(must)} expected, and it gave {outcome.value!r:.200}"
            return True
        assert isinstance(error, (*must, *may)), (
            f"{self.session.lines[-1]}: {names(must) or 'nothing'} expected, and it raised {error!r:.500}"
        )
        assert str(error) or isinstance(error, (StopIteration, MemoryError)), f"{self.session.lines[-1]}: no message"
        return False

    def check_row(self, key: str, tokens: tuple[int, ...] | None, row: Any) -> None:
        assert row.dtype == np.float32
        assert np.isfinite(row).all(), self.session.lines[-1]
        if tokens:
            want = logits_of(key, tokens)
            off = float(np.linalg.norm(row - want) / np.linalg.norm(want))
            assert off < TOLERANCE, f"{self.session.lines[-1]}: off by {off} behind {tokens}"

    def check_token(self, context: ContextModel, tokens: tuple[int, ...] | None, token: Any) -> None:
        """Check what a greedy sampler chose."""
        assert 0 <= token < context.n_vocab
        if tokens:
            best, margin = greedy(context.key, tokens)
            assert token == best or margin < MARGIN, f"{self.session.lines[-1]}: {token}, not {best}"

    def chooses(self, name: str) -> bool:
        """Whether a sampler selects a token at all."""
        model = self.samplers[name]
        return any(map(self.chooses, model.members)) or model.kind in ("greedy", "dist", "mirostat_v2", "adaptive_p")

    def is_greedy(self, name: str) -> bool:
        """Whether a sampler takes the most probable token."""
        kinds = self.kinds(name)
        return bool(kinds) and kinds[-1] == "greedy" and set(kinds[:-1]) <= {"top_k", "top_p", "min_p"}

    def kinds(self, name: str) -> list[str]:
        model = self.samplers[name]
        return (
            [kind for member in model.members for kind in self.kinds(member)] if model.kind == "chain" else [model.kind]
        )

    def sampler_errors(self, name: str) -> Errors:
        model = self.samplers[name]
        return (llama_cy.ClosedError,) if model.closed or model.inside else ()

    def vocabulary(self, name: str) -> int:
        model = self.samplers[name]
        return max([model.vocabulary, *map(self.vocabulary, model.members)])

    def close_sampler(self, name: str) -> None:
        """Note that a chain takes what is in it along."""
        self.samplers[name].closed = True
        for member in self.samplers[name].members:
            self.close_sampler(member)


def names(errors: Iterable[type[BaseException]]) -> str:
    return " or ".join(error.__name__ for error in errors)
