from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

from .model import Model
from .training_data import Epoch as Epoch
from .training_data import Fit as Fit

_Tokens = Iterable[int] | npt.NDArray[np.integer[Any]]
_Progress = Callable[[float], Any] | bool | None

@final
class Trainer:
    def __init__(
        self,
        model: Model,
        *,
        n_ctx: int = 256,
        optimizer: Literal["adamw", "sgd"] = "adamw",
        param_filter: Callable[[str, tuple[int, ...]], Any] | None = None,
        n_threads: int | None = None,
        learning_rate: float = 1e-3,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None: ...
    @property
    def parameters(self) -> tuple[str, ...]: ...
    @property
    def n_ctx(self) -> int: ...
    @property
    def optimizer(self) -> str: ...
    @property
    def learning_rate(self) -> float: ...
    @learning_rate.setter
    def learning_rate(self, value: float) -> None: ...
    def epoch(
        self,
        tokens: _Tokens,
        *,
        stride: int | None = None,
        validation: float = 0.0,
        shuffle: bool = True,
        seed: int = 0,
        progress: _Progress = None,
    ) -> Epoch: ...
    def evaluate(self, tokens: _Tokens, *, stride: int | None = None, progress: _Progress = None) -> Fit: ...
    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
