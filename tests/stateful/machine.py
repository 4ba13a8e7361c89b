"""The machine: all steps, and the end, at which nothing may be left."""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from .base import NothingThereError
from .context_rules import PARAMS
from .lifetime_rules import LifetimeRules
from .sampler_rules import KINDS
from .session import SHARED
from .wrong_rules import WrongRules

__all__ = ["Machine"]


class Machine(LifetimeRules, WrongRules, RuleBasedStateMachine):
    """Any public call after any other."""

    # Lines of the latest example.
    last: ClassVar[list[str]] = []

    @initialize(
        params=st.sampled_from(PARAMS), key=st.sampled_from(SHARED), kind=st.sampled_from(tuple(KINDS)),
        favourites=st.integers(0, 2**64 - 1),
    )  # fmt: skip
    def begin(self, params: str, key: str, kind: str, favourites: int) -> None:
        """Begin with one of each, so that the first call has something to go wrong with."""
        # Examples differ in what they do at all: a step that undoes others' work keeps some states from coming up.
        self.steps = [name for i, name in enumerate(STEPS) if favourites >> i & 1] or list(STEPS)
        self.open(key, key, PARAMS[0])
        self.open("llama", "llama", params)
        self.make_sampler(kind)
        self.make_sampler("greedy")
        self.make_chain()

    @rule(which=st.integers(0, 255), data=st.data())
    def call(self, which: int, data: Any) -> None:
        """Do one of the steps."""
        name = self.steps[which % len(self.steps)]
        arguments = data.draw(STEPS[name], label=name)
        try:
            getattr(self, name)(**arguments)
        except NothingThereError:
            return

    def teardown(self) -> None:
        type(self).last = list(self.session.lines)
        left = self.session.end()
        # The traceback of an exception on its way holds what it saw.
        assert left == {} or sys.exc_info()[0] is not None, f"left behind: {left}"


STEPS = {name: getattr(Machine, name).strategy for name in dir(Machine) if hasattr(getattr(Machine, name), "strategy")}
