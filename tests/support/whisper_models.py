"""A model for whisper.cpp, in its own format: random weights, small, and of the parts that it expects."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

__all__ = ["write_whisper"]

# Of English alone, where whisper.cpp knows each special token by its number.
N_VOCAB, N_MELS, N_FFT = 51864, 80, 201
N_AUDIO, N_TEXT, N_LAYER = 1500, 448, 4
F32, F16 = 0, 1


def tensors(n_state: int, random: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and weights; what multiplies is float16, the rest float32."""

    def some(*shape: int, scale: float = 1.0) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    def linear(name: str, n_in: int, n_out: int, bias: bool = True) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", some(n_out, n_in, scale=n_in**-0.5).astype(np.float16)
        if bias:
            yield f"{name}.bias", some(n_out, scale=0.1)

    def norm(name: str) -> Iterator[tuple[str, np.ndarray]]:
        yield f"{name}.weight", 1 + some(n_state, scale=0.1)
        yield f"{name}.bias", some(n_state, scale=0.1)

    def attention(name: str) -> Iterator[tuple[str, np.ndarray]]:
        yield from norm(f"{name}_ln")
        for part in ("query", "key", "value", "out"):
            yield from linear(f"{name}.{part}", n_state, n_state, bias=part != "key")

    yield "encoder.positional_embedding", some(N_AUDIO, n_state)
    for number, n_in in ((1, N_MELS), (2, n_state)):
        yield f"encoder.conv{number}.weight", some(n_state, n_in, 3, scale=(3 * n_in) ** -0.5).astype(np.float16)
        yield f"encoder.conv{number}.bias", some(n_state, 1, scale=0.1)
    yield from norm("encoder.ln_post")
    yield "decoder.positional_embedding", some(N_TEXT, n_state, scale=4)
    yield "decoder.token_embedding.weight", some(N_VOCAB, n_state).astype(np.float16)
    yield from norm("decoder.ln")
    for side in ("encoder", "decoder"):
        for block in range(N_LAYER):
            name = f"{side}.blocks.{block}"
            yield from attention(f"{name}.attn")
            if side == "decoder":
                yield from attention(f"{name}.cross_attn")
            yield from norm(f"{name}.mlp_ln")
            yield from linear(f"{name}.mlp.0", n_state, 4 * n_state)
            yield from linear(f"{name}.mlp.2", 4 * n_state, n_state)


def write_whisper(path: Path, *, n_state: int = 64, seed: int = 1) -> Path:
    """Write a model that hears nothing and says something."""
    random = np.random.default_rng(seed)

    def integers(file: BinaryIO, *numbers: int) -> None:
        file.write(struct.pack(f"<{len(numbers)}i", *numbers))

    with path.open("wb") as file:
        integers(file, 0x67676D6C, N_VOCAB)
        for n_positions in (N_AUDIO, N_TEXT):
            integers(file, n_positions, n_state, n_state // 64, N_LAYER)
        integers(file, N_MELS, F16)
        integers(file, N_MELS, N_FFT)
        file.write(random.random((N_MELS, N_FFT), np.float32).tobytes())
        integers(file, N_VOCAB)
        for token in range(N_VOCAB):
            # It looks for a blank by its text.
            text = f" w{token}".encode() if token else b" "
            integers(file, len(text))
            file.write(text)
        for name, weights in tensors(n_state, random):
            integers(file, weights.ndim, len(name), F16 if weights.dtype == np.float16 else F32)
            integers(file, *reversed(weights.shape))
            file.write(name.encode() + weights.tobytes())
    return path
