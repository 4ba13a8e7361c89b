from typing import Final, final

from typing_extensions import Self

MAX_THREADS: Final[int]

@final
class Threadpool:
    def __new__(cls, n_threads: int, *, poll: int = 50) -> Self: ...
    @property
    def n_threads(self) -> int: ...

def default_n_threads() -> int: ...
