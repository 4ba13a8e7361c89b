"""What a finished generation leaves: text, tokens, why it ended, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Timings(NamedTuple):
    """Seconds and tokens of the two phases of a generation.

    Attributes
    ----------
    prompt_tokens : int
        Tokens of the prompt that were decoded, without those that were in memory already.
    prompt_seconds : float
    tokens : int
        Tokens generated.
    seconds : float
        Time inside the loop, without the caller's own.
    """

    prompt_tokens: int
    prompt_seconds: float
    tokens: int
    seconds: float

    @property
    def prompt_tokens_per_second(self) -> float:
        """Speed of reading the prompt; 0.0 before anything was read."""
        return self.prompt_tokens / self.prompt_seconds if self.prompt_seconds else 0.0

    @property
    def tokens_per_second(self) -> float:
        """Speed of generating; 0.0 before anything was generated."""
        return self.tokens / self.seconds if self.seconds else 0.0


class TokenLogprob(NamedTuple):
    """How probable the model found a token, before any sampler changed it.

    Attributes
    ----------
    token : int
    logprob : float
        Natural logarithm of its probability.
    best : tuple of (int, float)
        The most probable tokens and their log probabilities, best first.
    """

    token: int
    logprob: float
    best: tuple[tuple[int, float], ...]


class ContextPerf(NamedTuple):
    """What a context did since it was made or :meth:`Context.perf_reset` was called: ``llama_perf_context_data``.

    Attributes
    ----------
    t_start : float
        When that was, in seconds of the monotonic clock.
    t_load : float
        Seconds from the model's load to the first decode.
    t_p_eval, t_eval : float
        Seconds in decodes of several tokens, and of one. 0.0 unless the context has ``no_perf=False``.
    n_p_eval, n_eval : int
        Tokens in those decodes; llama.cpp counts at least 1.
    n_reused : int
        Decodes that took the computation graph of the one before.
    """

    t_start: float
    t_load: float
    t_p_eval: float
    t_eval: float
    n_p_eval: int
    n_eval: int
    n_reused: int


class SamplerPerf(NamedTuple):
    """What a chain did since it was made or :meth:`SamplerChain.perf_reset` was called: ``llama_perf_sampler_data``.

    Attributes
    ----------
    t_sample : float
        Seconds in its samplers. 0.0 unless the chain has ``no_perf=False``.
    n_sample : int
        Tokens that it accepted.
    """

    t_sample: float
    n_sample: int


@dataclass(frozen=True)
class Completion:
    """A generation that ran to its end.

    Attributes
    ----------
    text : str
        What was generated, without the stop string.
    tokens : list of int
        The ids, with those of the stop string where one was found.
    finish_reason : str
        ``stop`` (stop string or stop token), ``length`` (`max_tokens` or the context is full), ``eog`` (the model ended
        it), ``cancelled``.
    timings : Timings
    reused : int
        Tokens of the prompt that were in memory already.
    logprobs : list of TokenLogprob, optional
        One for each of `tokens`, where they were asked for.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    timings: Timings
    reused: int = 0
    logprobs: list[TokenLogprob] | None = None

    def __str__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        from .notebook import completion_html

        return completion_html(self)
