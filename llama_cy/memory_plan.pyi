from typing import Any, NamedTuple

from .loading import _Path

OF_A_MODEL: frozenset[str]
MARGIN: int
DEFAULT_N_CTX: int

class DevicePlan(NamedTuple):
    device: str
    model: int
    context: int
    compute: int
    memory_free: int
    memory_total: int

    @property
    def nbytes(self) -> int: ...
    @property
    def fits(self) -> bool: ...

class MemoryPlan(NamedTuple):
    devices: tuple[DevicePlan, ...]
    n_ctx: int
    n_layer: int

    @property
    def nbytes(self) -> int: ...
    @property
    def fits(self) -> bool: ...

def plan_memory(path: _Path, **params: Any) -> MemoryPlan: ...
def available_memory() -> int | None: ...
def fit_gpu_layers(path: _Path, **params: Any) -> int: ...
