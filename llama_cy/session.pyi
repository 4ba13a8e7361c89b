from collections.abc import Iterable
from typing import SupportsIndex

import numpy as np
import numpy.typing as npt

from .loading import _Path
from .state import State

def save_session(
    state: State, path: _Path, tokens: Iterable[SupportsIndex] | None, seq_id: SupportsIndex | None
) -> None: ...
def count_tokens(path: _Path, whole: bool) -> int: ...
def load_session(state: State, path: _Path, seq_id: SupportsIndex | None) -> npt.NDArray[np.int32]: ...
