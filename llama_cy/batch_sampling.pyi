from collections.abc import Iterable
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from .context import Context
from .sampler import Sampler

THREAD_LOGITS: int

def sample_rows(
    chains: Iterable[Sampler],
    source: Context | npt.NDArray[np.float32],
    rows: Iterable[SupportsIndex] | None = None,
    *,
    n_threads: int | None = None,
) -> npt.NDArray[np.int32]: ...
def sampler_list(chains: Iterable[Sampler]) -> list[Sampler]: ...
def check_count(there: int, wanted: int) -> None: ...
def logits_array(source: Any) -> npt.NDArray[np.float32]: ...
