from collections.abc import Callable, Iterable
from typing import Any, Final, SupportsIndex, final

from typing_extensions import Self

from .enums import SchedPriority

MAX_THREADS: Final[int]
FIFO: Final[dict[SchedPriority, int]]

@final
class Threadpool:
    def __new__(
        cls,
        n_threads: int,
        *,
        poll: int = 50,
        cpumask: Iterable[SupportsIndex] | None = None,
        strict_cpu: bool = False,
        prio: SchedPriority | str = "normal",
    ) -> Self: ...
    @property
    def n_threads(self) -> int: ...
    @property
    def poll(self) -> int: ...
    @property
    def cpumask(self) -> tuple[int, ...]: ...
    @property
    def strict_cpu(self) -> bool: ...
    @property
    def prio(self) -> SchedPriority: ...

def create(pool: Threadpool) -> None: ...
def in_a_thread(function: Callable[..., object], *arguments: Any) -> None: ...
def cpus_of(cpumask: Iterable[SupportsIndex]) -> tuple[int, ...]: ...
def check_priority(prio: SchedPriority) -> None: ...
def default_n_threads() -> int: ...
