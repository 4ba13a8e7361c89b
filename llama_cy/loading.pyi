import os
from typing import Any, Literal, TypeAlias, final

from .errors import ModelLoadError

_Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

@final
class LoadProgress: ...

@final
class LoadParams:
    def __init__(self, n_gpu_layers: int | Literal["auto"], params: dict[str, Any]) -> None: ...

def readable(name: str, what: str = "model") -> bytes: ...
def gpu_layers(value: int | Literal["auto"], device: object = "auto") -> int: ...
def load_failure(name: str) -> ModelLoadError: ...
