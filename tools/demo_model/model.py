"""The llama architecture in PyTorch: RMSNorm, rotary embedding of adjacent pairs, grouped queries, SwiGLU."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Config:
    n_vocab: int
    n_embd: int
    n_layer: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_ctx: int = 1024
    rope_freq_base: float = 10000.0
    rms_norm_eps: float = 1e-5

    @property
    def n_embd_head(self) -> int:
        return self.n_embd // self.n_head


def demo_config(n_vocab: int) -> Config:
    """Return the shape of the demo model. Rows are multiples of 256, so every llama.cpp quantization fits them."""
    return Config(n_vocab, n_embd=256, n_layer=6, n_head=4, n_head_kv=2, n_ff=768)


def draft_config(n_vocab: int) -> Config:
    """Return the shape of the draft model, about a tenth of the demo model's size."""
    return Config(n_vocab, n_embd=128, n_layer=2, n_head=2, n_head_kv=1, n_ff=384)


def rotations(config: Config, n_ctx: int) -> Tensor:
    """Return cosine and sine of every position's rotation, ``[2, n_ctx, n_embd_head / 2]``."""
    exponents = torch.arange(0, config.n_embd_head, 2, dtype=torch.float64) / config.n_embd_head
    angles = torch.outer(torch.arange(n_ctx, dtype=torch.float64), config.rope_freq_base**-exponents)
    return torch.stack((angles.cos(), angles.sin())).float()


def rotate(x: Tensor, rope: Tensor) -> Tensor:
    """Rotate the pairs (0, 1), (2, 3) ... of ``x``, ``[batch, head, time, n_embd_head]``, as llama.cpp does."""
    cos, sin = rope[:, : x.shape[-2]]
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).type_as(x)


class RMSNorm(nn.Module):  # type: ignore[misc]
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * self.weight).type_as(x)


class Block(nn.Module):  # type: ignore[misc]
    """One layer, its weights named as in GGUF."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        n_embd, n_kv = config.n_embd, config.n_head_kv * config.n_embd_head
        self.config = config
        self.attn_norm = RMSNorm(n_embd, config.rms_norm_eps)
        self.attn_q = nn.Linear(n_embd, n_embd, bias=False)
        self.attn_k = nn.Linear(n_embd, n_kv, bias=False)
        self.attn_v = nn.Linear(n_embd, n_kv, bias=False)
        self.attn_output = nn.Linear(n_embd, n_embd, bias=False)
        self.ffn_norm = RMSNorm(n_embd, config.rms_norm_eps)
        self.ffn_gate = nn.Linear(n_embd, config.n_ff, bias=False)
        self.ffn_up = nn.Linear(n_embd, config.n_ff, bias=False)
        self.ffn_down = nn.Linear(config.n_ff, n_embd, bias=False)

    def attention(self, x: Tensor, rope: Tensor, mask: Tensor) -> Tensor:
        config = self.config

        def heads(y: Tensor, n: int) -> Tensor:
            return y.unflatten(-1, (n, config.n_embd_head)).transpose(1, 2)

        q = rotate(heads(self.attn_q(x), config.n_head), rope)
        k = rotate(heads(self.attn_k(x), config.n_head_kv), rope)
        v = heads(self.attn_v(x), config.n_head_kv)
        shared = config.n_head // config.n_head_kv
        k, v = k.repeat_interleave(shared, dim=1), v.repeat_interleave(shared, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to(q.dtype))
        return self.attn_output(mixed.transpose(1, 2).flatten(-2))

    def forward(self, x: Tensor, rope: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.attn_norm(x), rope, mask)
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):  # type: ignore[misc]
    """The whole model; the output shares its weights with the token embedding."""

    rope: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.n_vocab, config.n_embd)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.output_norm = RMSNorm(config.n_embd, config.rms_norm_eps)
        self.register_buffer("rope", rotations(config, config.n_ctx), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                into_residual = name.endswith(("attn_output.weight", "ffn_down.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * config.n_layer) ** 0.5 if into_residual else 0.02)

    def forward(self, tokens: Tensor, documents: Tensor | None = None) -> Tensor:
        """Return logits ``[batch, time, n_vocab]``; tokens of different ``documents`` do not see each other."""
        time = tokens.shape[1]
        visible = torch.ones(time, time, dtype=torch.bool, device=tokens.device).tril()[None, None]
        if documents is not None:
            visible = visible & (documents[:, None, :, None] == documents[:, None, None, :])
        mask = torch.zeros(visible.shape, device=tokens.device).masked_fill(~visible, float("-inf"))
        if torch.is_autocast_enabled(tokens.device.type):
            mask = mask.to(torch.get_autocast_dtype(tokens.device.type))
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.rope, mask)
        return F.linear(self.output_norm(x), self.token_embd.weight)

    @property
    def n_params(self) -> int:
        return sum(weight.numel() for weight in self.parameters())


def save(model: Llama, path: Path) -> None:
    """Write shape and weights (as float16) to an ``.npz`` file."""
    arrays: dict[str, Any] = {f"config.{key}": np.array(value) for key, value in asdict(model.config).items()}
    for name, weight in model.named_parameters():
        arrays[name] = weight.detach().cpu().numpy().astype(np.float16)
    np.savez(path, **arrays)


def read(path: Path) -> tuple[Config, dict[str, npt.NDArray[np.float32]]]:
    """Read what ``save`` wrote."""
    with np.load(path) as file:
        values = {key.removeprefix("config."): file[key].item() for key in file.files if key.startswith("config.")}
        weights = {key: file[key].astype(np.float32) for key in file.files if not key.startswith("config.")}
    return Config(**values), weights
