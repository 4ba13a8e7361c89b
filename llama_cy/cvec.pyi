from collections.abc import Iterable, Mapping
from typing import Final, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from .context import Context
from .control_vector import ControlVector
from .errors import ModelLoadError

_Vectors: TypeAlias = (
    ControlVector
    | Mapping[ControlVector, SupportsFloat]
    | Iterable[ControlVector | tuple[ControlVector, SupportsFloat]]
    | None
)

MAX_LAYERS: Final[int]
WITHOUT: Final[frozenset[str]]

def load_failure(name: str, reason: str, lines: tuple[str, ...] = ()) -> ModelLoadError: ...
def read(name: str) -> tuple[npt.NDArray[np.float32], str]: ...
def pairs_of(vectors: _Vectors) -> list[tuple[ControlVector, float]]: ...
def set_control_vectors(
    context: Context, vectors: _Vectors, il_start: SupportsIndex, il_end: SupportsIndex | None
) -> None: ...
def control_vectors_of(context: Context) -> list[tuple[ControlVector, float]]: ...
