"""The choice of what computes: llama.cpp, NumPy, or the engine of another package."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, Protocol, SupportsIndex, overload, runtime_checkable

from .errors import BackendError
from .llama_cpp_engine import LlamaCppEngine
from .numpy_engine import NumpyEngine

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Self

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Prompt = str | bytes | Iterable[SupportsIndex]

ENTRY_POINTS = "llama_cy.engines"
METHODS = ("load", "generate", "stream", "logits", "close")


class InferenceBackend(enum.Enum):
    """What :func:`load` computes with."""

    LLAMA_CPP = "llama_cpp"
    """llama.cpp: all models, on all devices of the build."""
    NUMPY = "numpy"
    """NumPy: models of the llama architecture, on the CPU, slowly."""


@runtime_checkable
class Engine(Protocol):
    """What every engine can do.

    Notes
    -----
    A package offers an engine of its own with an entry point in the group ``llama_cy.engines``: its name is what
    :func:`load` knows it by, and it is a class with these methods.
    """

    @classmethod
    def load(cls, path: _Path, **params: Any) -> Self:
        """Load a model.

        Parameters
        ----------
        path : str, bytes or os.PathLike
        **params
            ``n_gpu_layers``, ``n_ctx``, ``progress`` (a callable that gets the share loaded and may raise to end it, or
            None) and what else the engine takes; it raises for what it can't do.
        """
        ...

    def generate(
        self,
        prompt: _Prompt,
        *,
        max_tokens: int | None = None,
        temperature: float = 0.0,
        seed: int | None = None,
        ignore_eog: bool = False,
    ) -> Iterator[int]:
        """Return an iterator of the tokens that follow a prompt.

        Parameters
        ----------
        prompt : str, bytes or iterable of int
            Text is tokenized with the special tokens that the model wants.
        max_tokens : int, optional
            At most so many.
        temperature : float
            0 for the likeliest token each time.
        seed : int, optional
            The same one gives the same tokens with the same engine.
        ignore_eog : bool
            Go on after the model's own end.
        """
        ...

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
        """Return an iterator of the text that follows a prompt: whole characters, and nothing of a stop string.

        Parameters
        ----------
        prompt, max_tokens, temperature, seed, ignore_eog
            As in :meth:`generate`.
        stop : str or iterable of str
            Texts that end it.
        """
        ...

    def logits(self, prompt: _Prompt) -> npt.NDArray[np.float32]:
        """Return the logits after each token of a prompt.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(tokens, n_vocab)``.
        """
        ...

    def close(self) -> None:
        """Free everything; may be called again."""
        ...


def engines() -> list[str]:
    """List the names of the engines that :func:`load` knows: our own, and those that other packages installed."""
    return sorted({*(backend.value for backend in InferenceBackend), *_entry_points()})


def _entry_points() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _engine_class(backend: InferenceBackend | str) -> type[Engine]:
    name = backend.value if isinstance(backend, InferenceBackend) else backend
    if not isinstance(name, str):
        raise TypeError(f"backend must be an InferenceBackend or a name, not {type(backend).__name__}")
    name = name.lower()
    # Nobody else can take the place of these.
    if name == InferenceBackend.LLAMA_CPP.value:
        return LlamaCppEngine
    if name == InferenceBackend.NUMPY.value:
        return NumpyEngine
    point = _entry_points().get(name)
    if point is None:
        import difflib

        near = difflib.get_close_matches(name, engines(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BackendError(f"there is no engine {backend!r}; installed are {', '.join(engines())}{hint}")
    try:
        found = point.load()
    except Exception as error:
        raise BackendError(f"the engine {name!r} ({point.value}) can't be imported: {error}") from error
    missing = [method for method in METHODS if not callable(getattr(found, method, None))]
    if missing:
        raise BackendError(f"the engine {name!r} ({point.value}) has no {', '.join(missing)}")
    return found  # type: ignore[no-any-return]


@overload
def load(
    path: _Path, backend: Literal[InferenceBackend.LLAMA_CPP] = InferenceBackend.LLAMA_CPP, **params: Any
) -> LlamaCppEngine: ...
@overload
def load(path: _Path, backend: Literal[InferenceBackend.NUMPY], **params: Any) -> NumpyEngine: ...
@overload
def load(path: _Path, backend: InferenceBackend | str, **params: Any) -> Engine: ...
def load(path: _Path, backend: InferenceBackend | str = InferenceBackend.LLAMA_CPP, **params: Any) -> Engine:
    """Load a model into the engine of one's choice.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    backend : InferenceBackend or str
        A member, or the name of an engine that :func:`engines` lists.
    **params
        As in :class:`LlamaCppEngine` or :class:`NumpyEngine`, or what the other engine takes.

    Returns
    -------
    Engine

    Raises
    ------
    BackendError
        There is no such engine, or it can't be used here.
    """
    return _engine_class(backend).load(path, **params)


@overload
async def load_async(
    path: _Path, backend: Literal[InferenceBackend.LLAMA_CPP] = InferenceBackend.LLAMA_CPP, **params: Any
) -> LlamaCppEngine: ...
@overload
async def load_async(path: _Path, backend: Literal[InferenceBackend.NUMPY], **params: Any) -> NumpyEngine: ...
@overload
async def load_async(path: _Path, backend: InferenceBackend | str, **params: Any) -> Engine: ...
async def load_async(
    path: _Path, backend: InferenceBackend | str = InferenceBackend.LLAMA_CPP, **params: Any
) -> Engine:
    """Load a model in a thread, while the event loop goes on; as :func:`load`.

    Parameters
    ----------
    path : str, bytes or os.PathLike
    backend : InferenceBackend or str
        A member, or the name of an engine that :func:`engines` lists.
    **params
        As in :func:`load`. `progress` is called in that thread, and a cancelled task ends the load there.
    """
    from .async_load import load_in_thread

    return await load_in_thread(_engine_class(backend).load, path, **params)
