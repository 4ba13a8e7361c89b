"""What is closed gives its memory back: making and closing it again and again does not grow the process."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

import llama_cy

# What a driver keeps for itself would be taken for ours.
pytestmark = pytest.mark.cpu


class Closable(Protocol):
    def close(self) -> None: ...


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout) * 1024


@pytest.fixture(autouse=True, scope="module")
def large_blocks_return() -> None:
    """Make glibc give back large blocks at once, as it does before it has seen some; other allocators do."""
    c_library = ctypes.CDLL(None)
    if hasattr(c_library, "mallopt"):
        m_mmap_threshold = -3
        assert c_library.mallopt(m_mmap_threshold, 128 * 1024) == 1


@pytest.fixture(scope="module")
def biased() -> Iterator[llama_cy.Sampler]:
    """Give a sampler of 2 MB; a clone of it is quickly made."""
    with llama_cy.Sampler.logit_bias(dict.fromkeys(range(2**18), 1.0)) as sampler:
        yield sampler


# How to make one, and the megabytes that it takes at least.
MAKERS: dict[str, tuple[Callable[[llama_cy.Model, llama_cy.Sampler], Closable], int]] = {
    "model": (lambda model, biased: llama_cy.demo_model(load_mode="none"), 5),
    "context": (lambda model, biased: model.context(n_ctx=2**14, n_threads=1, type_k="f32", type_v="f32"), 8),
    "sampler": (lambda model, biased: biased.clone(), 2),
    "chain": (lambda model, biased: llama_cy.SamplerChain(biased.clone()), 2),
    "batch": (lambda model, biased: llama_cy.Batch(2**18), 1),
}


def grows(make: Callable[[], Closable]) -> int:
    """Return by how many bytes the process grows when eight are made and closed, three times."""
    used = []
    for _ in range(4):
        for thing in [make() for _ in range(8)]:
            thing.close()
        used.append(resident())
    # What the allocator keeps of the first round serves the next ones; a leak takes as much each time.
    return used[-1] - used[0]


@pytest.mark.parametrize("kind", MAKERS)
def test_memory_returns(tiny: llama_cy.Model, biased: llama_cy.Sampler, kind: str) -> None:
    make, size = MAKERS[kind]
    assert grows(lambda: make(tiny, biased)) < 8 * size * 2**20


def test_memory_of_an_adapter_returns(tiny: llama_cy.Model, tmp_path: Path) -> None:
    rank = 2048
    pair = np.ones((rank, tiny.n_embd)), np.ones((tiny.vocab.n_tokens, rank))
    llama_cy.write_lora(tmp_path / "lora.gguf", tiny, {"output.weight": pair})
    size = (tmp_path / "lora.gguf").stat().st_size
    assert size > 2**21
    assert grows(lambda: tiny.load_adapter(tmp_path / "lora.gguf")) < 8 * size


def test_memory_of_an_extended_batch_returns(tiny: llama_cy.Model) -> None:
    n_tokens = 2**16
    with tiny.context(n_ctx=n_tokens, n_batch=n_tokens, n_ubatch=64, n_outputs_max=1, n_threads=1) as context:

        def full() -> llama_cy.BatchExt:
            batch = llama_cy.BatchExt(context)
            for _ in range(n_tokens):
                batch.add_token(0, 1)
            return batch

        # An entry takes 256 bytes.
        assert grows(full) < 8 * n_tokens * 128
