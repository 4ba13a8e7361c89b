"""What a training is given and what it tells, as data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import FLOAT32_MAX, each, fill, integer, real

# As ggml has them.
ADAMW = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
SGD = {"learning_rate": 1e-3, "weight_decay": 0.0}


class Fit(NamedTuple):
    """How well a model predicts some tokens.

    Attributes
    ----------
    loss : float
        Mean cross entropy of a token, in nats.
    loss_uncertainty : float
        Its standard error over the windows; NaN for a single one.
    accuracy : float
        Share of the tokens that are the model's first choice.
    accuracy_uncertainty : float
        Its standard error.
    n_tokens : int
        Tokens predicted.
    """

    loss: float
    loss_uncertainty: float
    accuracy: float
    accuracy_uncertainty: float
    n_tokens: int


class Epoch(NamedTuple):
    """What one pass over the tokens gave.

    Attributes
    ----------
    train : Fit
        Of each window before the step that it leads to.
    validation : Fit or None
        Of the windows kept aside, after the last step.
    """

    train: Fit
    validation: Fit | None


def settings(optimizer: str, given: dict[str, Any]) -> dict[str, float]:
    """Return the optimizer's parameters, each in the range that ggml asserts."""
    values = fill(dict(ADAMW if optimizer == "adamw" else SGD), given, f"Trainer with {optimizer}")
    for name, value in values.items():
        values[name] = real(name, value, 0.0, FLOAT32_MAX if name in ("learning_rate", "eps") else 1.0)
    rate(values["learning_rate"])
    for name in ("beta1", "beta2"):
        # ggml divides by what is left.
        if name in values and np.float32(values[name]) == 1:
            raise ValueError(f"{name} is {values[name]}; less than 1 is expected")
    return values


def rate(value: Any) -> float:
    """Return a learning rate that is more than 0, also in 32 bits."""
    number = real("learning_rate", value, 0.0)
    if np.float32(number) <= 0:
        raise ValueError(f"learning_rate is {number}; more than 0 is expected")
    return number


def token_array(name: str, tokens: Any, n_vocab: int) -> npt.NDArray[np.int32]:
    """Return tokens as an array; each is one of the vocabulary."""
    array = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(each(name, tokens, "an iterable of tokens")))
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(f"{name} must be integers in one row, not {array.ndim} dimensions of {array.dtype}")
    if array.size:
        integer(f"the least of {name}", int(array.min()), 0, n_vocab - 1)
        integer(f"the greatest of {name}", int(array.max()), 0, n_vocab - 1)
    return array.astype(np.int32)


def windows(name: str, tokens: Any, n_vocab: int, n_ctx: int, stride: int) -> npt.NDArray[np.int32]:
    """Return rows of `n_ctx` tokens and the one behind them, `stride` apart."""
    array = token_array(name, tokens, n_vocab)
    if array.size <= n_ctx:
        raise ValueError(f"{name} has {array.size} tokens; a window and the token behind it are {n_ctx + 1}")
    rows = np.lib.stride_tricks.sliding_window_view(array, n_ctx + 1)[::stride]
    return np.ascontiguousarray(rows)
