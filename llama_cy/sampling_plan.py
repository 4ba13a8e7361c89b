"""How a chain goes from logits to a token."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SamplingPlan:
    """Which samplers one pass over the logits stands for, and which ones llama.cpp applies to what is left.

    Attributes
    ----------
    one_pass : tuple of str
        Samplers that are done in one pass, which finds the few tokens that they can leave. Empty where llama.cpp goes
        through the whole vocabulary.
    rest : tuple of str
        Samplers that llama.cpp applies to those tokens, or to all.
    reason : str
        Why there is no such pass; empty where there is one.

    Notes
    -----
    A row may be too short for a pass to save anything, and a row without a finite logit has no few to find: then
    llama.cpp goes through all of it in any case.
    """

    one_pass: tuple[str, ...]
    rest: tuple[str, ...]
    reason: str

    def __str__(self) -> str:
        rest = ", ".join(self.rest)
        if not self.one_pass:
            return f"llama.cpp's own path: {self.reason}"
        return f"one pass: {', '.join(self.one_pass)}" + (f"; then llama.cpp's {rest}" if rest else "")
