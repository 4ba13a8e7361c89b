from collections.abc import Callable, Iterable
from typing import SupportsIndex, final

from .context import Context
from .enums import OptOptimizerType
from .tensor import Tensor
from .training_result import EpochResult

@final
class Trainer:
    def __init__(
        self,
        context: Context,
        param_filter: Callable[[Tensor], object] | None = None,
        *,
        optimizer: OptOptimizerType | str = "adamw",
        learning_rate: float = 1e-4,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None: ...
    @property
    def context(self) -> Context: ...
    @property
    def parameters(self) -> tuple[Tensor, ...]: ...
    @property
    def learning_rate(self) -> float: ...
    @learning_rate.setter
    def learning_rate(self, value: float) -> None: ...
    def epoch(
        self,
        tokens: Iterable[SupportsIndex],
        *,
        stride: SupportsIndex | None = None,
        eval_share: float = 0.0,
        eval_tokens: Iterable[SupportsIndex] = (),
        seed: SupportsIndex | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> EpochResult: ...

# One sequence at a time for llama.cpp, and its results of many.
@final
class Pass:
    def __new__(cls, n_ctx: int) -> Pass: ...
