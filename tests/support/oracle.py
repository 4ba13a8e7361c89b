"""What the logits should be, and how far off others are: the package's own NumPy engine, in double precision."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_cy.numpy_llama import NumpyLlama as LlamaOracle

__all__ = ["LlamaOracle", "relative_error"]


def relative_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Return the largest error of a row: the root mean square of its difference, over that of the wanted row."""
    want = np.asarray(want, dtype=np.float64)
    squares = np.mean((np.asarray(got, dtype=np.float64) - want) ** 2, axis=-1)
    return float(np.max(np.sqrt(squares / np.mean(want**2, axis=-1))))
