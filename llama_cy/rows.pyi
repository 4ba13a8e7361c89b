import sys
from typing import final

import numpy as np
import numpy.typing as npt

from .context import Context

@final
class Row:
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
        def __release_buffer__(self, buffer: memoryview, /) -> None: ...

def view(context: Context, i: int) -> npt.NDArray[np.float32]: ...
