from collections.abc import Sequence

from .errors import ModelLoadError

def load_failure(name: str, reason: str, lines: Sequence[str] = ()) -> ModelLoadError: ...
