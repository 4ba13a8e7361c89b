from typing import NamedTuple

from .context import Context
from .model import Model

class Placed(NamedTuple):
    device: str
    layers: tuple[int, ...]
    nbytes: int
    buffer_types: dict[str, int]

class MemoryUse(NamedTuple):
    device: str
    buffer_type: str
    model: int
    context: int
    compute: int

def placement(model: Model) -> list[Placed]: ...
def check_readable(model: Model) -> None: ...
def memory_breakdown(context: Context) -> list[MemoryUse]: ...
