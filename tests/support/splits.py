"""A model written again as several files, with the ``gguf`` package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter

__all__ = ["write_splits"]

LEFT_OUT = ("GGUF.", "general.architecture")


def _copy_metadata(reader: GGUFReader, writer: GGUFWriter) -> None:
    for name, field in reader.fields.items():
        if not name.startswith(LEFT_OUT):
            value: Any = field.contents()
            writer.add_key_value(name, value, field.types[0], field.types[-1] if len(field.types) > 1 else None)


def write_splits(path: Path, folder: Path, n_split: int, *, prefix: str = "model") -> list[Path]:
    """Write the tensors of a model to `n_split` files in turn; the first one has the metadata."""
    reader = GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    paths = []
    for number in range(n_split):
        paths.append(folder / f"{prefix}-{number + 1:05}-of-{n_split:05}.gguf")
        writer = GGUFWriter(paths[-1], arch)
        if number == 0:
            _copy_metadata(reader, writer)
        writer.add_key_value("split.no", number, GGUFValueType.UINT16)
        writer.add_key_value("split.count", n_split, GGUFValueType.UINT16)
        writer.add_key_value("split.tensors.count", len(reader.tensors), GGUFValueType.INT32)
        for tensor in reader.tensors[number::n_split]:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths
