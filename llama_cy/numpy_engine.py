"""The engine that computes with NumPy alone: for reading, for comparing, and where nothing can be compiled."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from .checks import integer, real
from .errors import BackendError, ClosedError
from .loop import prompt_tokens
from .model import Model
from .numpy_llama import NumpyLlama, softmax
from .text_pieces import stop_texts, texts_of

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from .vocab import Vocab

_Prompt = str | bytes | Iterable[SupportsIndex]


class NumpyEngine:
    """Run models of the llama architecture in Python and NumPy, on the CPU; slow, and written to be read.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Weights of F32, F16, BF16 or Q8_0.
    n_gpu_layers : 0 or "auto"
        There is no other choice.
    n_ctx : int, optional
        Tokens of a prompt and what follows at most; by default what the model was trained with.
    progress : callable, optional
        Called with the share loaded, 0.0 to 1.0.
    dtype : dtype
        What to compute in; all weights are kept in it.

    Attributes
    ----------
    vocab : Vocab
        llama.cpp's tokenizer.
    weights : NumpyLlama
        What computes.
    n_ctx : int

    Raises
    ------
    ModelLoadError
        The file is damaged, or has something that there is no rule for.
    BackendError
        GPU layers were asked for.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        n_gpu_layers: int | Literal["auto"] = "auto",
        n_ctx: int | None = None,
        progress: Callable[[float], object] | None = None,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        if n_gpu_layers not in (0, "auto"):
            raise BackendError(f"n_gpu_layers is {n_gpu_layers!r}, and NumPy computes on the CPU; pass 0 or nothing")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype is {np.dtype(dtype)}; float32 and float64 are possible")
        limit = None if n_ctx is None else integer("n_ctx", n_ctx, 1, 2**31 - 1)
        self.weights = NumpyLlama(path, dtype=dtype, progress=progress)
        with Model(path, vocab_only=True, n_gpu_layers=0) as model:
            self.vocab: Vocab = model.vocab
        self.n_ctx = limit or self.weights.n_ctx_train
        self._closed = False

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
        tokens = self._tokens(prompt)
        most = self.n_ctx - len(tokens) + 1
        if max_tokens is not None:
            most = min(most, integer("max_tokens", max_tokens, 0, 2**62))
        warmth = real("temperature", temperature, 0)
        draw = np.random.default_rng(None if seed is None else integer("seed", seed, 0, 2**32 - 1))
        return self._generate(tokens, most, warmth, draw, ignore_eog)

    def _generate(
        self, tokens: list[int], most: int, temperature: float, draw: np.random.Generator, ignore_eog: bool
    ) -> Iterator[int]:
        cache = self.weights.cache()
        for _ in range(most):
            self._check()
            row = self.weights.logits(tokens, cache)[-1].astype(np.float64)
            token = int(draw.choice(len(row), p=softmax(row / temperature)) if temperature else np.argmax(row))
            if self.vocab.is_eog(token) and not ignore_eog:
                return
            yield token
            tokens = [token]

    def stream(self, prompt: _Prompt, *, stop: str | Iterable[str] = (), **options: Any) -> Iterator[str]:
        """Return an iterator of the text that follows a prompt; see :meth:`Engine.stream`."""
        stops = stop_texts(stop)
        return texts_of(map(self.vocab.token_to_piece, self.generate(prompt, **options)), stops)

    def logits(self, prompt: _Prompt) -> npt.NDArray[np.float32]:
        """Return the logits after each token of a prompt; see :meth:`Engine.logits`."""
        tokens = self._tokens(prompt)
        return self.weights.logits(tokens).astype(np.float32)

    def _tokens(self, prompt: _Prompt) -> list[int]:
        self._check()
        if isinstance(prompt, (str, bytes)):
            tokens = prompt_tokens(self.vocab, prompt)
        else:
            tokens = [integer("a token", token, 0, self.weights.n_vocab - 1) for token in prompt]
        if not tokens:
            raise ValueError("the prompt is empty: there is no token to begin with")
        if len(tokens) > self.n_ctx:
            raise ValueError(f"the prompt has {len(tokens)} tokens and n_ctx is {self.n_ctx}")
        return tokens

    def _check(self) -> None:
        if self._closed:
            raise ClosedError("the engine is closed")

    def close(self) -> None:
        """Let go of the weights; may be called again."""
        self._closed = True
        # Gone for those who keep the engine as well.
        for name in ("weights", "vocab"):
            self.__dict__.pop(name, None)

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    def __enter__(self) -> Self:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "<NumpyEngine, closed>" if self._closed else f"<NumpyEngine of {self.n_ctx} tokens>"
