"""How fast a model runs here, and the settings with which it runs fastest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple

from .checks import INT32_MAX, integer
from .context import Context
from .enums import FlashAttnType
from .errors import LlamaError
from .model import Model
from .sampler_chain import sampling
from .threadpool import default_n_threads

__all__ = ["Speed", "Trial", "Tuning", "measure_speed", "tune"]

# What a setting has to save before it is taken: less is noise.
GAIN = 0.03
N_BATCH = 2048


class Speed(NamedTuple):
    """Tokens per second of a model and its settings; the median of several runs.

    Attributes
    ----------
    prompt : float
        Of a prompt, read in one go.
    decode : float
        Of decodes of one token each, with no sampling: no loop can be faster.
    text : float
        Of text as :meth:`Context.stream` hands it out, with the usual chain.
    n_prompt, n_tokens : int
        How long the prompt and the text were.
    """

    prompt: float
    decode: float
    text: float
    n_prompt: int
    n_tokens: int


class Trial(NamedTuple):
    """One value that was tried.

    Attributes
    ----------
    name : str
        Of the setting.
    value : object
    seconds : float
        For what was measured with it; the shortest run.
    """

    name: str
    value: object
    seconds: float


class Tuning(NamedTuple):
    """The best settings found.

    Attributes
    ----------
    settings : dict
        Keyword arguments for :class:`Context`.
    before, after : float
        Seconds for the prompt and the text together, with the defaults and with these settings.
    trials : tuple of Trial
        All that was tried.
    """

    settings: dict[str, Any]
    before: float
    after: float
    trials: tuple[Trial, ...]


class _Course:
    """A context, and the two things to time on it."""

    def __init__(self, model: Model, n_prompt: int, n_tokens: int, settings: dict[str, Any]) -> None:
        self.context = Context(model, **{"n_ctx": n_prompt + n_tokens, **settings})
        n_vocab = model.vocab.n_tokens
        # Any tokens do: how long a decode takes does not depend on them.
        self.prompt_tokens = [(7 * i + 11) % n_vocab for i in range(n_prompt)]
        self.tokens = [(5 * i + 3) % n_vocab for i in range(n_tokens)]
        self.chain = sampling(seed=1)

    def __enter__(self) -> _Course:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def prompt(self) -> float:
        """Read the prompt; in seconds."""
        self.context.memory.clear(data=False)
        begin = time.perf_counter()
        self.context.decode(self.prompt_tokens)
        self.context.synchronize()
        return time.perf_counter() - begin

    def decode(self) -> float:
        """Decode token after token behind the prompt; in seconds."""
        self._rewind()
        begin = time.perf_counter()
        for token in self.tokens:
            self.context.decode([token])
            self.context.synchronize()
        return time.perf_counter() - begin

    def text(self) -> float:
        """Stream text behind the prompt; in seconds."""
        self._rewind()
        self.chain.reset()
        begin = time.perf_counter()
        with self.context.stream(None, self.chain, max_tokens=len(self.tokens), ignore_eog=True) as stream:
            for _ in stream:
                pass
        return time.perf_counter() - begin

    def _rewind(self) -> None:
        # All of the prompt again: a recurrent memory can't go back.
        self.prompt()


def measure_speed(model: Model, *, n_prompt: int = 512, n_tokens: int = 128, repeat: int = 3, **params: Any) -> Speed:
    """Measure how fast a model reads a prompt and generates text.

    Parameters
    ----------
    model : Model
    n_prompt, n_tokens : int
        How long prompt and text are.
    repeat : int
        Runs, of which the median counts, after one that does not.
    **params
        As in :class:`Context`.

    Returns
    -------
    Speed

    Raises
    ------
    ValueError
        A number is out of range.
    LlamaError
        The model does not generate, or its context can't be created.
    """
    n_prompt, n_tokens = integer("n_prompt", n_prompt, 1, INT32_MAX), integer("n_tokens", n_tokens, 1, INT32_MAX)
    repeat = integer("repeat", repeat, 1, INT32_MAX)
    with _Course(model, n_prompt, n_tokens, params) as course:
        runs: list[Callable[[], float]] = [course.prompt, course.decode, course.text]
        for run in runs:
            run()
        times = [[run() for run in runs] for _ in range(repeat)]
    import statistics

    prompt, decode, text = (statistics.median(column) for column in zip(*times, strict=True))
    return Speed(n_prompt / prompt, n_tokens / decode, n_tokens / text, n_prompt, n_tokens)


def tune(
    model: Model,
    *,
    n_prompt: int = 512,
    n_tokens: int = 64,
    repeat: int = 3,
    progress: Callable[[str], object] | None = None,
    **params: Any,
) -> Tuning:
    """Find the settings with which a model runs fastest on this machine.

    One setting after another: threads for text and for prompts, flash attention, how long idle threads spin, and
    micro-batches. Each value runs in turn with the others, and has to save 3 % to be taken. What else runs on the
    machine falls into the result.

    Parameters
    ----------
    model : Model
    n_prompt, n_tokens : int
        Length of the prompt and of the text that the settings are to be best for, together.
    repeat : int
        Runs of each value, of which the shortest counts.
    progress : callable, optional
        Called with a line of text for each setting that is tried.
    **params
        As in :class:`Context`; what is given here is left as it is.

    Returns
    -------
    Tuning

    Raises
    ------
    ValueError
        A number is out of range.
    LlamaError
        The model does not generate, or its context can't be created.
    """
    n_prompt, n_tokens = integer("n_prompt", n_prompt, 1, INT32_MAX), integer("n_tokens", n_tokens, 1, INT32_MAX)
    repeat = integer("repeat", repeat, 1, INT32_MAX)
    settings: dict[str, Any] = {}
    trials: list[Trial] = []

    def best(name: str, values: Iterable[Any], *measured: str) -> None:
        """Try the values of a setting, the one that it has first."""
        if name in params:
            return
        values = list(values)
        with ExitStack() as stack:
            courses = []
            for value in values:
                chosen = {**params, **settings, name: value}
                courses.append(stack.enter_context(_Course(model, n_prompt, n_tokens, chosen)))
            times = _take_turns(courses, measured, repeat)
        trials.extend(Trial(name, value, seconds) for value, seconds in zip(values, times, strict=True))
        shortest = min(range(len(values)), key=times.__getitem__)
        settings[name] = values[shortest if times[shortest] < times[0] * (1 - GAIN) else 0]
        if progress is not None:
            tried = ", ".join(f"{value} {seconds * 1e3:.1f} ms" for value, seconds in zip(values, times, strict=True))
            progress(f"{name} {settings[name]} of {tried}")

    best("n_threads", _thread_counts(), "text")
    best("n_threads_batch", _thread_counts(), "prompt")
    best("flash_attn_type", _attention(model, params), "prompt", "text")
    best("poll", (50, 0, 100), "text")
    best("n_ubatch", _sizes(n_prompt), "prompt")
    with ExitStack() as stack:
        both = [
            stack.enter_context(_Course(model, n_prompt, n_tokens, chosen))
            for chosen in (params, {**params, **settings})
        ]
        before, after = _take_turns(both, ("prompt", "text"), repeat)
    return Tuning(settings, before, after, tuple(trials))


def _take_turns(courses: list[_Course], measured: tuple[str, ...], repeat: int) -> list[float]:
    """Return the shortest of each course's runs, in seconds."""

    def run(course: _Course) -> float:
        return sum(float(getattr(course, name)()) for name in measured)

    for course in courses:
        run(course)
    times = [[run(course) for course in courses] for _ in range(repeat)]
    return [min(column) for column in zip(*times, strict=True)]


def _attention(model: Model, params: dict[str, Any]) -> list[FlashAttnType]:
    """Give both, unless one can't be: a quantized V cache needs flash attention, and some models have no such."""
    kinds = []
    for kind in (FlashAttnType.DISABLED, FlashAttnType.ENABLED):
        try:
            Context(model, **{**params, "n_ctx": 256, "flash_attn_type": kind}).close()
        except LlamaError:
            continue
        kinds.append(kind)
    return kinds or [FlashAttnType.AUTO]


def _thread_counts() -> Iterator[int]:
    """Give the default first, then halves of it and all logical CPUs."""
    physical = count = default_n_threads()
    yield count
    while count > 1:
        count //= 2
        yield count
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if allowed > physical:
        yield allowed


def _sizes(n_prompt: int) -> list[int]:
    """Give llama.cpp's default first, then what else a prompt of that length could be cut into."""
    return [512, *(size for size in (128, 256, 1024, 2048) if size < max(n_prompt, 512) * 2 and size <= N_BATCH)]
