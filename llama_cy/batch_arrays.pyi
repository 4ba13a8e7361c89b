import sys
from typing import Any, final

import numpy.typing as npt

from .batch import Batch

@final
class Column:
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
        def __release_buffer__(self, buffer: memoryview, /) -> None: ...

def view(batch: Batch, name: str) -> npt.NDArray[Any]: ...
