"""The trained model and its tokenizer as one GGUF file."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tools.demo_model import model
from tools.demo_model.chat import CHAT_TEMPLATE, END
from tools.demo_model.tokenizer import USER_DEFINED_TOKENS, Tokenizer

LICENSE = "MIT"
ABOUT = {
    "demo": (
        "llama_cy demo",
        "Tells short children's stories; answers questions about a text, adds and subtracts below 100, "
        "extracts fields to JSON and calls a tool. Trained from scratch on a generated corpus.",
    ),
    "demo-draft": (
        "llama_cy demo draft",
        "Draft model, with the same vocabulary, for speculative decoding with the demo model.",
    ),
}


def _token_type(pieces: object, index: int) -> gguf.TokenType:
    if pieces.is_byte(index):  # type: ignore[attr-defined]
        return gguf.TokenType.BYTE
    if pieces.is_unknown(index):  # type: ignore[attr-defined]
        return gguf.TokenType.UNKNOWN
    if pieces.is_control(index):  # type: ignore[attr-defined]
        return gguf.TokenType.CONTROL
    return gguf.TokenType.NORMAL


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    pieces = tokenizer.pieces
    indices = range(len(tokenizer))
    texts = [pieces.id_to_piece(i) for i in indices]
    types = [
        gguf.TokenType.USER_DEFINED if texts[i] in USER_DEFINED_TOKENS else _token_type(pieces, i) for i in indices
    ]
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(texts)
    writer.add_token_scores([pieces.get_score(i) for i in indices])
    writer.add_token_types(types)
    writer.add_bos_token_id(tokenizer.bos)
    writer.add_eos_token_id(tokenizer.eos)
    writer.add_unk_token_id(pieces.unk_id())
    writer.add_eot_token_id(pieces.piece_to_id(END))
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def export(checkpoint: Path, tokenizer_path: Path, path: Path) -> Path:
    """Write a GGUF file: matrices as Q8_0, norms as F32."""
    config, weights = model.read(checkpoint)
    name, description = ABOUT[checkpoint.stem]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_description(description)
    writer.add_license(LICENSE)
    writer.add_languages(["en"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_context_length(config.n_ctx)
    writer.add_embedding_length(config.n_embd)
    writer.add_block_count(config.n_layer)
    writer.add_feed_forward_length(config.n_ff)
    writer.add_head_count(config.n_head)
    writer.add_head_count_kv(config.n_head_kv)
    writer.add_rope_dimension_count(config.n_embd_head)
    writer.add_rope_freq_base(config.rope_freq_base)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.n_vocab)
    _add_tokenizer(writer, Tokenizer(tokenizer_path))
    for tensor, weight in weights.items():
        if weight.ndim > 1:
            quantized = gguf.quants.quantize(weight, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(tensor, quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(tensor, weight.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
