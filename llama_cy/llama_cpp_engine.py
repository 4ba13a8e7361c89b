"""The engine that computes with llama.cpp: a model and a context, behind the methods that all engines have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from .batch import Batch
from .checks import real
from .loop import prompt_tokens
from .model import Model
from .sampler import Sampler
from .sampler_chain import SamplerChain, sampling

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .vocab import Vocab

_Prompt = str | bytes | Iterable[SupportsIndex]


class LlamaCppEngine:
    """Run any model with llama.cpp, on all devices of the build.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    n_gpu_layers : int or "auto"
        As in :class:`Model`.
    n_ctx : int, optional
        As in :class:`Context`.
    progress : callable, True or None
        As in :class:`Model`.
    context : mapping, optional
        The other parameters of the :class:`Context`.
    **params
        The other parameters of the :class:`Model`.

    Attributes
    ----------
    model : Model
    context : Context
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        n_gpu_layers: int | Literal["auto"] = "auto",
        n_ctx: int | None = None,
        progress: Callable[[float], object] | bool | None = None,
        context: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> None:
        self.model = Model(path, n_gpu_layers=n_gpu_layers, progress=progress, **params)
        self.context = self.model.context(n_ctx=n_ctx, **(context or {}))

    @classmethod
    def load(cls, path: str | bytes | os.PathLike[str] | os.PathLike[bytes], **params: Any) -> Self:
        """Load a model; parameters as in the constructor."""
        return cls(path, **params)

    def generate(
        self,
        prompt: _Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        ignore_eog: bool = False,
    ) -> Iterator[int]:
        """Return an iterator of the tokens that follow a prompt; see :meth:`Engine.generate`."""
        sampler = self._sampler(temperature, seed)
        return self.context.generate(prompt, sampler, max_tokens=max_tokens, ignore_eog=ignore_eog)

    def stream(
        self,
        prompt: _Prompt,
        *,
        stop: str | Iterable[str] = (),
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        ignore_eog: bool = False,
    ) -> Iterator[str]:
        """Return an iterator of the text that follows a prompt; see :meth:`Engine.stream`."""
        sampler = self._sampler(temperature, seed)
        return self.context.stream(prompt, sampler, stop=stop, max_tokens=max_tokens, ignore_eog=ignore_eog)

    def _sampler(self, temperature: float, seed: int | None) -> SamplerChain:
        warmth = real("temperature", temperature, 0)
        if warmth == 0:
            return sampling(temperature=0)
        return SamplerChain(Sampler.temp(warmth), Sampler.dist(seed=seed))

    def logits(self, prompt: _Prompt) -> npt.NDArray[np.float32]:
        """Return the logits after each token of a prompt; see :meth:`Engine.logits`."""
        context = self.context
        tokens: list[Any] = prompt_tokens(self.vocab, prompt) if isinstance(prompt, (str, bytes)) else list(prompt)
        if not tokens:
            raise ValueError("the prompt is empty: there is no token to begin with")
        context.memory.clear()
        rows = []
        for start in range(0, len(tokens), context.n_batch):
            part = tokens[start : start + context.n_batch]
            context.decode(Batch.from_arrays(part, range(start, start + len(part)), 0, True))
            rows.append(context.logits_all())
        return np.concatenate(rows)

    @property
    def vocab(self) -> Vocab:
        """The model's :class:`Vocab`."""
        return self.model.vocab

    def close(self) -> None:
        """Free the context and the weights; may be called again."""
        self.context.close()
        self.model.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self.context.closed

    def __enter__(self) -> Self:
        self.context.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LlamaCppEngine with {self.model!r}>"
