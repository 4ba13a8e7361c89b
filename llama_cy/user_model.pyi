import re
from collections.abc import Callable, Mapping
from typing import Any, final

import numpy.typing as npt

from .enums import GGMLType

NAME: str
MAX_NAME: int
NEUTRAL: re.Pattern[str]
FROM_FLOATS: frozenset[str]

@final
class Weights: ...

def init_from_user(
    metadata: Mapping[str, Any],
    set_tensor_data: Callable[[str, tuple[int, ...], GGMLType], npt.ArrayLike | None],
    types: Mapping[str, GGMLType | str] | None,
    n_gpu_layers: Any,
    params: dict[str, Any],
) -> Any: ...
