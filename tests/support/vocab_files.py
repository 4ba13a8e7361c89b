"""The vocabulary files with expected tokens that come with llama.cpp's source."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from vendor.fetch import source_dir

__all__ = ["VocabFile", "vocab_files"]

SEPARATOR = b"\n__ggml_vocab_test__\n"


@dataclass(frozen=True)
class VocabFile:
    """A model file with a tokenizer and no weights, and what that tokenizer makes of some texts.

    Attributes
    ----------
    path : Path
        The ``ggml-vocab-<name>.gguf`` file.
    cases : dict of bytes to list of int
        Expected tokens of each text, without special tokens added and with their texts taken literally.
    """

    path: Path
    cases: dict[bytes, list[int]]

    @property
    def name(self) -> str:
        """The part of the file name that tells the tokenizer, such as ``llama-spm``."""
        return self.path.stem.removeprefix("ggml-vocab-")


def vocab_files() -> list[VocabFile]:
    """Return every vocabulary file that has an ``.inp`` and an ``.out`` file, in the order of their names."""
    models = source_dir(os.environ) / "models"
    paths = sorted(path for path in models.glob("ggml-vocab-*.gguf") if _beside(path, ".out").exists())
    if not paths:
        raise FileNotFoundError(f"no ggml-vocab-*.gguf with expected tokens in {models}")
    return [VocabFile(path, _read_cases(path)) for path in paths]


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _read_cases(path: Path) -> dict[bytes, list[int]]:
    texts = _beside(path, ".inp").read_bytes().split(SEPARATOR)
    if texts[-1] == b"":  # most files end with a separator
        texts.pop()
    lines = _beside(path, ".out").read_text(encoding="ascii").splitlines()
    if len(texts) != len(lines):
        raise ValueError(f"{path.name}: {len(texts)} texts and {len(lines)} lines of tokens")
    return {text: [int(token) for token in line.split()] for text, line in zip(texts, lines, strict=True)}
