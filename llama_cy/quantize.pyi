import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

import numpy.typing as npt

from .enums import Ftype, GGMLType
from .importance_matrix import ImportanceMatrix
from .quantize_plan import Quantization as Quantization
from .quantize_plan import QuantizedTensor as QuantizedTensor

def quantize(
    src: str | bytes | os.PathLike[str] | os.PathLike[bytes],
    dst: str | bytes | os.PathLike[str] | os.PathLike[bytes] | None = None,
    ftype: Ftype | str | int = "Q4_K_M",
    *,
    imatrix: ImportanceMatrix | Mapping[str, npt.ArrayLike] | None = None,
    kv_overrides: Mapping[str, bool | int | float | str] | None = None,
    tensor_types: Mapping[str, GGMLType | str | int] | None = None,
    prune_layers: Iterable[int] | None = None,
    dry_run: bool = False,
    progress: Callable[[float], Any] | bool | None = None,
    n_threads: int | None = None,
    output_tensor_type: GGMLType | str | int | None = None,
    token_embedding_type: GGMLType | str | int | None = None,
    allow_requantize: bool = False,
    quantize_output_tensor: bool = True,
    pure: bool = False,
    only_copy: bool = False,
    keep_split: bool = False,
    max_buf_size: int = 0,
) -> Quantization: ...

@final
class Lines: ...

@final
class QuantizeParams: ...
