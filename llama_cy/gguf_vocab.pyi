from collections.abc import Mapping
from typing import Any

from .gguf_header import Header

def check_vocab(header: Header, values: Mapping[str, Any]) -> None: ...
