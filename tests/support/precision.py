"""How near two results of one computation are: to the bit on the CPU, up to its rounding on a GPU.

A GPU takes another kernel where a batch has another size, and multiplies F32 as TF32 or F16, with 11 bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from support import unasked
from support.offload import GPUS
from support.oracle import relative_error

__all__ = ["ROUNDED", "agree", "assert_near", "offloaded", "rounding"]

# Largest relative error of a row that a GPU is allowed, by what computes it; 0.0034 and 0.055 were seen on an H100
# against the CPU (docs/cuda.md). Errors in a recurrent state stay there. The row of another token has one near 1.4.
ROUNDED = {"attention": 2e-2, "recurrent": 0.15}


def offloaded() -> bool:
    """Return whether models of which a test says nothing are on a GPU, or a part of them."""
    device, n_gpu_layers = unasked.wanted()
    return bool(GPUS) and device != "cpu" and n_gpu_layers != 0


def rounding(on_cpu: float, kind: str = "attention") -> float:
    """Return the relative error to allow here, where the CPU is allowed this one."""
    return max(on_cpu, ROUNDED[kind]) if offloaded() else on_cpu


def agree(got: NDArray[Any], want: NDArray[Any], on_cpu: float = 0, kind: str = "attention") -> bool:
    """Return whether rows are the same, to the bit if nothing is allowed."""
    allowed = rounding(on_cpu, kind)
    return relative_error(got, want) < allowed if allowed else np.array_equal(got, want)


def assert_near(
    got: NDArray[Any], want: NDArray[Any], *, rtol: float = 1e-7, atol: float = 0, kind: str = "attention"
) -> None:
    """Hold numbers against each other one by one on the CPU, and by rows on a GPU."""
    if offloaded():
        assert relative_error(np.atleast_1d(got), np.atleast_1d(want)) < ROUNDED[kind]
    else:
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
