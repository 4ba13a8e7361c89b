"""Look at a GGUF file before llama.cpp does: what it would not survive is a ModelLoadError that names the key."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from .errors import ModelLoadError
from .gguf_header import Header, read_header
from .gguf_rules import check_numbers, check_tensor
from .gguf_vocab import check_vocab

SPLIT_NAME = re.compile(rb"(.*)-(\d{5})-of-(\d{5})\.gguf", re.DOTALL)
UINT16 = 2


def overridden(header: Header, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata as the load will see it; llama.cpp keeps 32 bits of a number."""
    values = dict(header.values)
    for key, value in overrides.items():
        if isinstance(value, int) and not isinstance(value, bool):
            values[key] = value % 2**32
        else:
            values[key] = ctypes.c_float(value).value if isinstance(value, float) else value
    return values


def check_model(
    file: BinaryIO,
    name: str,
    *,
    start: int = 0,
    overrides: Mapping[str, Any] | None = None,
    vocab_only: bool = False,
    what: str = "model",
) -> Header:
    """Raise a ModelLoadError for a model file that llama.cpp would not survive.

    Parameters
    ----------
    file : binary file
        The model, or the first of its files.
    name : str
        Where it comes from, for the message.
    start : int
        Where in the file the GGUF begins.
    overrides : mapping, optional
        The ``kv_overrides`` of the load.
    vocab_only : bool
        Whether nothing but the vocabulary will be loaded.

    Returns
    -------
    Header
        What the file says of itself.
    """
    header = read_header(file, start, what, name)
    values = overridden(header, overrides or {})
    check_vocab(header, values)
    arch = values.get("general.architecture")
    if isinstance(arch, str):
        size = values.get(f"{arch}.vocab_size")
        if isinstance(size, int) and size > 2**24:
            # A model without a tokenizer makes itself so many tokens.
            raise header.failure(f"{arch}.vocab_size is {size}, which is out of range [1, {2**24}]")
        if not vocab_only:
            check_numbers(arch, values, header.failure)
    if not vocab_only:
        check_tensors(header)
    return header


def check_position_bias(headers: Sequence[Header], values: Mapping[str, Any]) -> None:
    """Raise a ModelLoadError for a T5 whose first layers lack the bias that those without one of their own take.

    Parameters
    ----------
    headers : sequence of Header
        Those of all files of the model.
    values : mapping
        The metadata as the load will see it.
    """
    arch = values.get("general.architecture")
    if arch not in ("t5", "t5encoder"):
        return
    decodes = arch == "t5" and values.get("t5.decoder_block_count", 1)
    for part in ("enc", "dec") if decodes else ("enc",):
        name = f"{part}.blk.0.attn_rel_b.weight"
        if not any(name in header.tensors for header in headers):
            raise headers[0].failure(f"the tensor {name} is missing, which every layer without one of its own takes")


def check_tensors(header: Header) -> None:
    """Raise a ModelLoadError for a tensor of a type that can't be computed with."""
    for tensor in header.tensors.values():
        check_tensor(tensor.name, tensor.type_name, tensor.multiplies, header.failure)


def check_splits(header: Header, path: bytes) -> list[Header]:
    """Check the other files of a model that comes in several, named as llama.cpp names them; return what all say."""
    count = header.values.get("split.count", 0)
    headers = [header]
    if header.kinds.get("split.count") != UINT16 or count < 2:
        # Of another type, llama.cpp refuses it.
        return headers
    match = SPLIT_NAME.fullmatch(path)
    if match is None or int(match[2]) != 1 or int(match[3]) != count:
        raise header.failure(f"split.count is {count}, and the file is not called …-00001-of-{count:05}.gguf")
    for number in range(1, count):
        other = b"%b-%05d-of-%05d.gguf" % (match[1], number + 1, count)
        name = os.fsdecode(other)
        try:
            with open(other, "rb") as file:
                headers.append(check_split(file, name, number))
        except ModelLoadError:
            raise
        except OSError as error:
            raise header.failure(f"its part {name!r} can't be read: {error.strerror}") from None
    return headers


def check_parts(header: Header, names: Sequence[str]) -> list[Header]:
    """Check all files of a model, given in their order, against the header of the first; return what all say."""
    count = header.values.get("split.count", 0) if header.kinds.get("split.count") == UINT16 else 0
    if len(names) != max(1, count):
        raise header.failure(f"split.count is {count}, and {len(names)} files are given")
    headers = [header]
    for number, name in enumerate(names[1:], 1):
        with open(name, "rb") as file:
            headers.append(check_split(file, name, number))
    return headers


def check_split(file: BinaryIO, name: str, number: int, *, start: int = 0) -> Header:
    """Check one of the other files of a model: its structure, its number and the types of its tensors."""
    header = read_header(file, start, "model", name)
    if header.kinds.get("split.no") != UINT16:
        raise header.failure("split.no, a u16, is missing")
    if header.values["split.no"] != number:
        raise header.failure(f"split.no is {header.values['split.no']}; {number} is expected")
    check_tensors(header)
    return header
