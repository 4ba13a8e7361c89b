"""Models whose random tokens are as awkward as text can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_lfm2, write_mamba
from support.vocabulary import bpe, spm

import llama_cy

# Tokens that begin or end within a character, invalid bytes, and characters of every length in UTF-8.
BROKEN: tuple[str | bytes, ...] = (
    *("é", "€", "🙂", "éé", "a€", "🙂🙂"),
    *(b"\xe2\x82", b"\xac", b"\xf0\x9f", b"\x99\x82", b"\xf0\x9f\x99", b"a\xe2", b"\xac\xe2", b"\xc3", b"\xa9z"),
    *(b"\xff", b"\xfe\xff", b"\x80\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5", b"\xf4\x90\x80\x80"),
)
WRITERS: dict[str, Callable[[Path], Path]] = {
    "spm": write_llama,
    "broken": lambda path: write_llama(path, vocab=spm(pieces=BROKEN), seed=2),
    "no-prefix": lambda path: write_llama(path, vocab=spm(add_space_prefix=False, add_bos=False), seed=3),
    "bpe": lambda path: write_llama(path, vocab=bpe(words=("the", "once", "€", "🙂", "日本")), seed=4),
    "gpt-2": lambda path: write_llama(path, vocab=bpe(pre="gpt-2"), seed=5),
    "gemma3": write_gemma3,
    "mamba": write_mamba,
    "jamba": write_jamba,
    "lfm2": write_lfm2,
}


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, llama_cy.Model]]:
    """Give one model of each kind, by name."""
    folder: Path = tmp_path_factory.mktemp("models")
    loaded = {}
    for name, write in WRITERS.items():
        path = folder / f"{name}.gguf"
        write(path)
        loaded[name] = llama_cy.Model(path)
    yield loaded
    for model in loaded.values():
        model.close()
