"""Models of random weights, made on the spot and kept in a cache folder outside the repository."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType
from numpy.typing import NDArray

__all__ = ["MODELS", "Shape", "model_path"]

BLOCK = 32
BLOCK_BYTES = 34
# Standard deviation of evenly drawn signed bytes.
BYTE_STD = 73.9
LOGIT_STD = 3.0
SPECIAL = 259
FORMAT = 2


@dataclass(frozen=True)
class Shape:
    """Sizes of a llama model whose token embedding is its output matrix, in Q8_0."""

    n_vocab: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ff: int


MODELS = {
    "tiny": Shape(2048, 128, 4, 4, 2, 384),
    "32k": Shape(32000, 128, 2, 4, 2, 384),
    "128k": Shape(128256, 128, 2, 4, 2, 384),
    "0.5B": Shape(128256, 896, 24, 14, 2, 4864),
    "1.5B": Shape(128256, 1536, 28, 12, 2, 8960),
}


def cache_folder() -> Path:
    """Return the folder that keeps the models: ``$LLAMA_CY_BENCH_CACHE`` or the user's cache."""
    base = os.environ.get("LLAMA_CY_BENCH_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "llama_cy" / "benchmarks"


def model_path(name: str) -> Path:
    """Return the file of a model, which is written the first time."""
    path = cache_folder() / f"{name}-{FORMAT}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            write(unfinished, MODELS[name])
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def write(path: Path, shape: Shape) -> None:
    """Write a model, tensor by tensor, so that none but the largest has to fit into memory."""
    writer = GGUFWriter(path, "llama")
    writer.add_name(f"random {path.stem}")
    writer.add_file_type(LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_rope_dimension_count(shape.n_embd // shape.n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    add_vocabulary(writer, shape.n_vocab)
    tensors = layout(shape)
    for name, size in tensors.items():
        if len(size) == 1:
            writer.add_tensor_info(name, size, np.dtype(np.float32), size[0] * 4)
        else:
            # gguf takes the shape in bytes where blocks are given as such.
            rows = (*size[:-1], size[-1] // BLOCK * BLOCK_BYTES)
            writer.add_tensor_info(
                name, rows, np.dtype(np.uint8), int(np.prod(rows)), raw_dtype=GGMLQuantizationType.Q8_0
            )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.Generator(np.random.SFC64(1))
    for name, size in tensors.items():
        writer.write_tensor_data(values(random, name, size))
    writer.close()


def layout(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Name the tensors of a model, each with its shape as NumPy orders it."""
    width, kv = shape.n_embd, shape.n_embd // shape.n_head * shape.n_head_kv
    tensors: dict[str, tuple[int, ...]] = {"token_embd.weight": (shape.n_vocab, width), "output_norm.weight": (width,)}
    for layer in range(shape.n_layer):
        tensors |= {
            f"blk.{layer}.attn_norm.weight": (width,),
            f"blk.{layer}.attn_q.weight": (width, width),
            f"blk.{layer}.attn_k.weight": (kv, width),
            f"blk.{layer}.attn_v.weight": (kv, width),
            f"blk.{layer}.attn_output.weight": (width, width),
            f"blk.{layer}.ffn_norm.weight": (width,),
            f"blk.{layer}.ffn_gate.weight": (shape.n_ff, width),
            f"blk.{layer}.ffn_up.weight": (shape.n_ff, width),
            f"blk.{layer}.ffn_down.weight": (width, shape.n_ff),
        }
    return tensors


def values(random: np.random.Generator, name: str, size: tuple[int, ...]) -> NDArray[np.float32] | NDArray[np.uint8]:
    """Draw a tensor: ones with some noise for a norm, random Q8_0 blocks of one scale for a matrix."""
    if len(size) == 1:
        return (1.0 + 0.1 * random.standard_normal(size)).astype(np.float32)
    embedding = name == "token_embd.weight"
    deviation = (LOGIT_STD if embedding else 1.0) / size[-1] ** 0.5
    blocks = np.empty((size[0], size[1] // BLOCK, BLOCK_BYTES), dtype=np.uint8)
    blocks[..., :2] = np.frombuffer(np.float16(deviation / BYTE_STD).tobytes(), dtype=np.uint8)
    drawn = np.frombuffer(random.bytes(size[0] * size[1]), dtype=np.uint8)
    blocks[..., 2:] = drawn.reshape(size[0], size[1] // BLOCK, BLOCK)
    if embedding:
        # What is no word is improbable, so that no run ends early and every piece is text.
        blocks[:SPECIAL, :, 2:] = 0
    return blocks.reshape(size[0], -1)


def add_vocabulary(writer: GGUFWriter, n_vocab: int) -> None:
    """Add a vocabulary of made-up words, with a token for each byte."""
    words = [f"\N{LOWER ONE EIGHTH BLOCK}{word_of(number)}" for number in range(n_vocab - SPECIAL)]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *words]
    kinds = [TokenType.UNKNOWN, TokenType.CONTROL, TokenType.CONTROL, *[TokenType.BYTE] * 256]
    writer.add_tokenizer_model("llama")
    writer.add_vocab_size(n_vocab)
    writer.add_token_list(tokens)
    writer.add_token_types([*kinds, *[TokenType.NORMAL] * len(words)])
    writer.add_token_scores([-float(number) for number in range(n_vocab)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def word_of(number: int) -> str:
    """Spell a number with syllables."""
    syllables = []
    while True:
        number, digit = divmod(number, 75)
        syllables.append("bdfghklmnprstvz"[digit // 5] + "aeiou"[digit % 5])
        if number == 0:
            return "".join(syllables)
        number -= 1
