from collections.abc import Mapping
from typing import Any

DRAFTS: str
TARGET: str
SHARED: tuple[str, ...]

def layers(own: Mapping[str, Any], name: str, n_layer: int, default: Any) -> list[Any] | None: ...
def heads(own: Mapping[str, Any], n_layer: int) -> list[tuple[bool, Any, Any]] | None: ...
