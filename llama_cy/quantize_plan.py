"""What a quantization is asked for and what it gives, as data; what llama.cpp would end the process for is refused."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .checks import choice, each, integer
from .enums import Ftype, GGMLType
from .gguf_header import Array, Header, TensorInfo, read_header

ALIGNMENT = 32
NO_TARGETS = (Ftype.GUESSED, Ftype.MOSTLY_NVFP4)
# What ggml computes from float32.
TARGETS = frozenset(
    {kind for kind in GGMLType if re.match(r"I?Q\d|TQ|MXFP4|NVFP4", kind.name)}
    - {GGMLType.Q8_1, GGMLType.Q8_K}
    | {GGMLType.F32, GGMLType.F16, GGMLType.BF16}
)  # fmt: skip
EMBEDDINGS = ("token_embd.weight", "per_layer_token_embd.weight")
# Without an importance matrix ggml fails on these, and llama.cpp refuses the next.
NEEDY = frozenset({GGMLType.IQ2_XXS, GGMLType.IQ2_XS, GGMLType.IQ1_S})
REFUSED = NEEDY | {GGMLType.IQ3_XXS, GGMLType.IQ2_S, GGMLType.IQ1_M}
# Squares and products of more overflow where ggml looks for the nearest of its points, and it fails without one.
MAX_WEIGHT = 1e6
MAX_IMPORTANCE = 1e15
SLAB = 2**22


class QuantizedTensor(NamedTuple):
    """What becomes of one tensor.

    Attributes
    ----------
    name : str
        In the new file.
    shape : tuple of int
        In NumPy's order.
    type_before, type : GGMLType
    nbytes_before, nbytes : int
    """

    name: str
    shape: tuple[int, ...]
    type_before: GGMLType
    type: GGMLType
    nbytes_before: int
    nbytes: int


class Quantization(NamedTuple):
    """What :func:`quantize` wrote, or would write.

    Attributes
    ----------
    paths : tuple of pathlib.Path
        The files written; empty for a dry run.
    ftype : Ftype
    tensors : tuple of QuantizedTensor
        In the order of the file.
    without_imatrix : tuple of str
        Tensors whose type needs an importance matrix, and that have none; only a dry run gets that far.
    """

    paths: tuple[Path, ...]
    ftype: Ftype
    tensors: tuple[QuantizedTensor, ...]
    without_imatrix: tuple[str, ...]

    @property
    def nbytes_before(self) -> int:
        """Bytes of the tensors in the source."""
        return sum(tensor.nbytes_before for tensor in self.tensors)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors afterwards."""
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Bits per weight afterwards."""
        return 8 * self.nbytes / max(1, sum(math.prod(tensor.shape) for tensor in self.tensors))


def file_type(value: Any) -> Ftype:
    """Return the file type, given with or without its prefix."""
    if isinstance(value, str) and value.upper() == "F32":
        value = Ftype.ALL_F32
    ftype = Ftype(choice("ftype", Ftype, value))
    if ftype in NO_TARGETS:
        raise ValueError(f"ftype is {ftype.name}, which llama.cpp can't make")
    return ftype


def target_type(name: str, value: Any) -> GGMLType:
    """Return the tensor type, one that ggml quantizes to."""
    kind = GGMLType(choice(name, GGMLType, value))
    if kind not in TARGETS:
        options = ", ".join(sorted(target.name.lower() for target in TARGETS))
        raise ValueError(f"{name} is {kind.name.lower()}, which ggml does not quantize to; it does to {options}")
    return kind


def patterns(given: Any) -> dict[str, GGMLType]:
    """Check the types by pattern."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"tensor_types must be a mapping, not {type(given).__name__}")
    for pattern in given:
        if not isinstance(pattern, str):
            raise TypeError(f"tensor_types must have patterns as keys, not {pattern!r}")
        # llama.cpp's compiler of regular expressions calls itself for each parenthesis.
        if not 0 < len(pattern) <= 500 or "\0" in pattern:
            raise ValueError(
                f"a pattern of tensor_types has {len(pattern)} characters; 1 to 500 without NUL are allowed"
            )
    return {pattern: target_type(f"tensor_types[{pattern!r}]", kind) for pattern, kind in given.items()}


def check_overrides(given: Any) -> None:
    """Refuse metadata that would be written as something else, or that says how the file itself is laid out."""
    if given is None:
        return
    if not isinstance(given, Mapping):
        raise TypeError(f"kv_overrides must be a mapping, not {type(given).__name__}")
    for key, value in given.items():
        if isinstance(key, str) and (key == "general.alignment" or key.startswith("split.")):
            raise ValueError(f"kv_overrides has {key!r}, which says how the file is laid out")
        if isinstance(value, int) and not isinstance(value, bool):
            integer(f"kv_overrides[{key!r}]", value, 0, 2**32 - 1)


def check_alignment(headers: Sequence[Header]) -> None:
    """Refuse files whose tensors are aligned otherwise than those that llama.cpp writes."""
    for header in headers:
        if header.alignment != ALIGNMENT:
            raise header.failure(f"its tensors are aligned to {header.alignment} bytes; llama.cpp writes {ALIGNMENT}")


def pruned(given: Any, header: Header) -> list[int]:
    """Return the layers to leave out, ascending."""
    if given is None:
        return []
    arch = header.values.get("general.architecture")
    n_layer = header.values.get(f"{arch}.block_count", 0)
    layers = sorted({integer("prune_layers", layer, 0, n_layer - 1) for layer in each("prune_layers", given)})
    if layers and len(layers) == n_layer:
        raise ValueError(f"prune_layers has all {n_layer} layers of the model")
    for key, value in header.values.items() if layers else ():
        if key.startswith(f"{arch}.") and isinstance(value, Array) and value.n == n_layer:
            raise ValueError(
                f"prune_layers can't be used: {key} has a value for each layer, and llama.cpp keeps them all"
            )
    return layers


def renamed(layers: list[int], tensors: Mapping[str, TensorInfo]) -> dict[str, str]:
    """Return the old name of each tensor by its new one."""
    names = {}
    for name in tensors:
        match = re.search(r"blk\.(\d+)\.", name)
        if match is None:
            names[name] = name
        elif int(match[1]) not in layers:
            layer = int(match[1]) - sum(gone < int(match[1]) for gone in layers)
            names[f"{name[: match.start(1)]}{layer}{name[match.end(1) :]}"] = name
    return names


def check_imatrix(given: Any, tensors: Mapping[str, TensorInfo]) -> dict[str, npt.NDArray[np.float32]]:
    """Return the importance matrix as float32 vectors, each checked against its tensor."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        given = getattr(given, "importance", given)
    if not isinstance(given, Mapping):
        raise TypeError(f"imatrix must be a mapping of names to arrays, not {type(given).__name__}")
    checked: dict[str, npt.NDArray[np.float32]] = {}
    for name, value in given.items():
        info = tensors.get(name)
        if info is None:
            raise ValueError(f"imatrix has {name!r}, and the model has no such tensor")
        array = np.asarray(value)
        if array.dtype.kind not in "fiu":
            raise TypeError(f"imatrix[{name!r}] must be float32, not {array.dtype}")
        size = info.dims[0] * info.dims[2]
        if array.size != size:
            raise ValueError(f"imatrix[{name!r}] has {array.size} values; {size} are expected")
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
        if not ((array >= 0) & (array <= MAX_IMPORTANCE)).all():
            raise ValueError(f"imatrix[{name!r}] has values outside 0 to {MAX_IMPORTANCE:g}")
        checked[name] = array
    return checked


def in_want(plan: Quantization, imatrix: Mapping[str, Any], names: Mapping[str, str]) -> tuple[str, ...]:
    """Return the tensors that can't be quantized without an importance matrix."""
    found = []
    for tensor in plan.tensors:
        refused = REFUSED | ({GGMLType.Q2_K} if plan.ftype == Ftype.MOSTLY_Q2_K_S else set())
        if tensor.name in (*EMBEDDINGS, "output.weight"):
            refused = NEEDY
        if tensor.type != tensor.type_before and tensor.type in refused and names[tensor.name] not in imatrix:
            found.append(tensor.name)
    return tuple(found)


def check_plan(plan: Quantization, allow_requantize: bool) -> None:
    """Refuse what llama.cpp would find out in the middle of the work, or not at all."""
    if plan.without_imatrix:
        some = ", ".join(plan.without_imatrix[:3])
        raise ValueError(
            f"{plan.ftype.name} needs an importance matrix for {len(plan.without_imatrix)} tensors, such as {some}; "
            "pass imatrix"
        )
    plain = (GGMLType.F32, GGMLType.F16, GGMLType.BF16)
    for tensor in plan.tensors:
        if tensor.type != tensor.type_before and tensor.type_before not in plain and not allow_requantize:
            raise ValueError(
                f"{tensor.name} is {tensor.type_before.name} already, which loses precision; pass allow_requantize=True"
            )


def check_weights(plan: Quantization, headers: list[Header], names: Mapping[str, str]) -> None:
    """Refuse weights that ggml finds no point of a lattice for; it would end the process from one of its threads."""
    wanted = {names[tensor.name] for tensor in plan.tensors if tensor.type.name.startswith("IQ")}
    for header in headers:
        for name in wanted & header.tensors.keys():
            info = header.tensors[name]
            if info.kind not in (GGMLType.F32, GGMLType.BF16):
                continue
            dtype = np.dtype("<f4" if info.kind == GGMLType.F32 else "<u2")
            raw = np.memmap(header.name, dtype, "r", header.data_start + info.offset, (info.size // dtype.itemsize,))
            for start in range(0, raw.size, SLAB):
                part = raw[start : start + SLAB]
                if info.kind == GGMLType.BF16:
                    part = (part.astype(np.uint32) << 16).view(np.float32)
                if not (np.abs(part) <= MAX_WEIGHT).all():
                    raise ValueError(
                        f"{name} has weights beyond {MAX_WEIGHT:g} or NaN; {plan.ftype.name} has no room for them"
                    )


def check_written(path: Path) -> None:
    """Raise an OSError for a file that is not whole: llama.cpp does not notice that a disk is full."""
    with path.open("rb") as file:
        try:
            header = read_header(file, 0, "model", str(path))
        except Exception as error:
            raise OSError(f"the file could not be written whole: {error}") from None
    end = max((tensor.offset + tensor.size for tensor in header.tensors.values()), default=0)
    if path.stat().st_size < header.data_start + end:
        raise OSError(f"only {path.stat().st_size} of {header.data_start + end} bytes could be written")
