"""A model file of random weights, written with the ``gguf`` package."""

from __future__ import annotations

import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import quantize
from numpy.typing import NDArray

from .vocabulary import Vocabulary

__all__ = ["MetadataValue", "ModelWriter", "WeightType"]

WeightType: TypeAlias = Literal["F32", "F16", "Q8_0", "Q4_0"]
MetadataValue: TypeAlias = bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str]

FILE_TYPES = {
    "F32": LlamaFileType.ALL_F32,
    "F16": LlamaFileType.MOSTLY_F16,
    "Q8_0": LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": LlamaFileType.MOSTLY_Q4_0,
}
# Of the quantized ones.
BLOCK = 32


class ModelWriter:
    """Collects metadata and random tensors of one model and writes them as a GGUF file.

    The numbers in a tensor depend on the seed and on its name alone, so two files with the same seed share every
    tensor of the same name and shape.

    Parameters
    ----------
    path : path-like
        File to write.
    arch : str
        ``general.architecture``.
    vocab : Vocabulary
        Tokenizer of the model.
    weight_type : {"F32", "F16", "Q8_0", "Q4_0"}
        Type of the weight matrices; vectors stay F32.
    seed : int
        Seed of the weights, 0 or more.
    metadata : mapping, optional
        More metadata by full key, for example ``{"tokenizer.chat_template": "..."}``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        arch: str,
        *,
        vocab: Vocabulary,
        weight_type: WeightType = "F32",
        seed: int = 0,
        metadata: Mapping[str, MetadataValue] | None = None,
    ) -> None:
        if weight_type not in FILE_TYPES:
            raise ValueError(f"weight_type={weight_type!r} is none of {', '.join(FILE_TYPES)}")
        self.path = Path(path)
        self.weight_type = weight_type
        self.seed = seed
        self.gguf = GGUFWriter(self.path, arch)
        self.gguf.add_name(f"tiny random {arch}")
        self.gguf.add_file_type(FILE_TYPES[weight_type])
        self.gguf.add_quantization_version(GGML_QUANT_VERSION)
        vocab.add_to(self.gguf)
        for key, value in (metadata or {}).items():
            self._add_metadata(key, value)

    def _add_metadata(self, key: str, value: MetadataValue) -> None:
        if isinstance(value, int) and not isinstance(value, bool):
            # llama.cpp reads its own counts and ids as unsigned and refuses a signed one
            self.gguf.add_key_value(key, value, GGUFValueType.UINT32 if value >= 0 else GGUFValueType.INT32)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            self.gguf.add_array(key, value)
        else:
            self.gguf.add_key_value(key, value, GGUFValueType.get_type(value))

    def normal(self, name: str, *shape: int) -> NDArray[np.float32]:
        """Return standard normal numbers that depend on the seed and on ``name``."""
        rng = np.random.default_rng([self.seed, zlib.crc32(name.encode())])
        return rng.standard_normal(shape, dtype=np.float32)

    def tensor(self, name: str, values: NDArray[np.float32]) -> None:
        """Add a tensor that stays F32."""
        self.gguf.add_tensor(name, np.ascontiguousarray(values, dtype=np.float32))

    def matrix(self, name: str, *shape: int, std: float) -> None:
        """Add a weight of the model's weight type; ``shape`` is (..., n_out, n_in), as NumPy orders it."""
        values = std * self.normal(name, *shape)
        if self.weight_type == "F32":
            self.tensor(name, values)
        elif self.weight_type == "F16":
            self.gguf.add_tensor(name, values.astype(np.float16))
        else:
            if shape[-1] % BLOCK:
                raise ValueError(f"{name} has rows of {shape[-1]}; {self.weight_type} needs a multiple of {BLOCK}")
            quantized = GGMLQuantizationType[self.weight_type]
            self.gguf.add_tensor(name, quantize(values, quantized), raw_dtype=quantized)

    def linear(self, name: str, n_out: int, n_in: int, *, gain: float = 1.0, stack: int | None = None) -> None:
        """Add the weight of a linear map that keeps the size of its input, times ``gain``.

        ``stack`` adds a leading dimension: one such map for each expert.
        """
        shape = (n_out, n_in) if stack is None else (stack, n_out, n_in)
        self.matrix(name, *shape, std=gain / n_in**0.5)

    def norm(self, name: str, n: int, *, gain: float = 1.0) -> None:
        """Add the weight of a normalization: around ``gain``, and different in each place."""
        self.tensor(name, gain * (1.0 + 0.1 * self.normal(name, n)))

    def bias(self, name: str, n: int) -> None:
        """Add a small bias."""
        self.tensor(name, 0.1 * self.normal(name, n))

    def write(self) -> Path:
        """Write the file and return its path."""
        self.gguf.write_header_to_file()
        self.gguf.write_kv_data_to_file()
        self.gguf.write_tensors_to_file()
        self.gguf.close()
        return self.path
