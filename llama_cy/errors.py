"""The exceptions: one tree, each also the built-in exception that fits."""

from __future__ import annotations

from collections.abc import Sequence


class LlamaError(RuntimeError):
    """Base of everything raised for a failure inside llama.cpp.

    Attributes
    ----------
    code : int or None
        The value that C returned, where there was one.
    log : tuple of str
        The last lines that llama.cpp logged during the failed call.
    """

    code: int | None = None
    log: tuple[str, ...] = ()

    def __init__(self, message: str = "", *, code: int | None = None, log: Sequence[str] = ()):
        self.code = code
        self.log = tuple(log)
        super().__init__("\n  ".join([message, *self.log]))


class ModelLoadError(LlamaError, OSError):
    """A model file could not be loaded."""

    # OSError would build its own text from errno and leave the reason out.
    __str__ = Exception.__str__


class ContextError(LlamaError):
    """A context could not be created from a model."""


class DecodeError(LlamaError):
    """``llama_decode`` or ``llama_encode`` failed; the tokens decoded before are still in memory."""


class KVCacheFullError(DecodeError):
    """The tokens do not fit into the context's memory.

    Attributes
    ----------
    needed, available : int or None
        Cells asked for and cells left, where known.
    """

    needed: int | None = None
    available: int | None = None


class DecodeAborted(DecodeError):  # noqa: N818 - the outcome of a cancel, not a mistake
    """The decode ended early because :meth:`Context.cancel` was called."""


class InvalidBatchError(DecodeError, ValueError):
    """A batch whose tokens, positions or sequences do not fit together or do not fit the context."""


class GrammarError(LlamaError, ValueError):
    """A grammar that can't be parsed, or a token that it does not allow.

    Attributes
    ----------
    line, column : int or None
        Where the grammar is wrong, from 1.
    """

    line: int | None = None
    column: int | None = None


class StateError(LlamaError, ValueError):
    """A saved state that is damaged or belongs to another model or context."""


class ClosedError(LlamaError, ValueError):
    """The object was closed before."""


class ContextBusyError(LlamaError):
    """The context or sampler is in use by another thread."""


class PoolTimeoutError(LlamaError, TimeoutError):
    """No context of a :class:`ContextPool` came back in time."""


class BackendError(LlamaError):
    """A device that is not there, or that failed."""
