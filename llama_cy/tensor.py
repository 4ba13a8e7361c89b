"""What an eval callback gets to see of a computation."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .enums import GGMLType

# What NumPy has no type for is handed over as float32.
DTYPES = {
    GGMLType.F32: np.float32, GGMLType.F16: np.float16, GGMLType.F64: np.float64,
    GGMLType.I8: np.int8, GGMLType.I16: np.int16, GGMLType.I32: np.int32, GGMLType.I64: np.int64,
}  # fmt: skip


class Tensor(NamedTuple):
    """One step of a computation, as ``ggml_tensor`` describes it.

    Attributes
    ----------
    name : str
        As llama.cpp calls it, with the layer behind: ``ffn_out-3``, ``l_out-0``, ``result_output``.
    op : str
        The operation that gave it, for example ``MUL_MAT``.
    type : GGMLType
        How ggml keeps it.
    shape : tuple of int
        In NumPy's order: what lies side by side in memory comes last, so activations are ``(n_tokens, n_embd)``. Ones
        in front are left out, down to two dimensions.
    sources : tuple of str
        Names of the operands.
    data : numpy.ndarray
        A copy of the values, of `shape` and :attr:`dtype`; empty while a filter is asked.
    """

    name: str
    op: str
    type: GGMLType
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    data: npt.NDArray[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """What `data` consists of: float32 also where ggml keeps bfloat16 or a quantized type."""
        return np.dtype(DTYPES.get(self.type, np.float32))
