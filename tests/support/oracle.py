"""A forward pass of the llama architecture in NumPy, in double precision: what the logits should be.

Written from the papers: RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021) over neighbouring
pairs, grouped-query attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020), mixture of experts with the weights of
the chosen ones normalized (Jiang et al. 2024).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
from numpy.typing import NDArray

__all__ = ["LlamaOracle", "relative_error"]

Array: TypeAlias = NDArray[np.float64]


class LlamaOracle:
    """Computes logits of a llama model file.

    Parameters
    ----------
    path : path-like
        Model file; its weights are dequantized to float64.

    Attributes
    ----------
    n_vocab : int
        Number of logits in a row.
    router_margin : float
        Over all passes so far, the least gap between the score of the last expert chosen and the first one left
        out. Where it is tiny, rounding can choose another expert and the logits jump. Infinite for a dense model.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        reader = GGUFReader(path)
        self._metadata = {name: entry.contents() for name, entry in reader.fields.items()}
        if self._metadata["general.architecture"] != "llama":
            raise ValueError(f"architecture {self._metadata['general.architecture']!r} is not 'llama'")
        self._weights = {
            tensor.name: dequantize(tensor.data, tensor.tensor_type).astype(np.float64) for tensor in reader.tensors
        }
        self._n_layer = int(self._hparam("block_count"))
        self._n_head = int(self._hparam("attention.head_count"))
        self._n_head_kv = int(self._hparam("attention.head_count_kv"))
        self._rms_eps = float(self._hparam("attention.layer_norm_rms_epsilon"))
        self._rope_freq_base = float(self._hparam("rope.freq_base"))
        self._n_expert_used = int(self._metadata.get("llama.expert_used_count", 0))
        self._refuse_unknown_tensors()
        self._directions: dict[int, Any] = {}
        self.n_vocab = len(self._weights["token_embd.weight"])
        self.router_margin = float("inf")

    def _hparam(self, name: str) -> Any:
        return self._metadata[f"llama.{name}"]

    def _refuse_unknown_tensors(self) -> None:
        per_layer = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm"]
        experts = ["ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"]
        per_layer += experts if self._n_expert_used else ["ffn_gate", "ffn_up", "ffn_down"]
        known = {"token_embd.weight", "output_norm.weight", "output.weight"}
        known |= {f"blk.{layer}.{name}.weight" for layer in range(self._n_layer) for name in per_layer}
        unknown = sorted(self._weights.keys() - known)
        if unknown:
            raise NotImplementedError(f"no rule for the tensors {', '.join(unknown)}")

    def add(self, name: str, delta: NDArray[Any]) -> None:
        """Add to a weight, as a LoRA does."""
        self._weights[name] = self._weights[name] + delta

    def steer(self, layer: int, direction: NDArray[Any]) -> None:
        """Add to what a layer gives, as a control vector does."""
        self._directions[layer] = self._directions.get(layer, 0.0) + np.asarray(direction, dtype=np.float64)

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return the logits after each token of one sequence that starts at position 0.

        Parameters
        ----------
        tokens : sequence of int
            Token ids.

        Returns
        -------
        ndarray of float64, shape (len(tokens), n_vocab)
        """
        hidden = self._weights["token_embd.weight"][np.asarray(tokens)]
        for layer in range(self._n_layer):
            hidden = hidden + self._attention(layer, self._norm(f"blk.{layer}.attn_norm", hidden))
            feed_forward = self._experts if self._n_expert_used else self._feed_forward
            hidden = hidden + feed_forward(layer, self._norm(f"blk.{layer}.ffn_norm", hidden))
            hidden = hidden + self._directions.get(layer, 0.0)
        output = self._weights.get("output.weight", self._weights["token_embd.weight"])
        logits: Array = self._norm("output_norm", hidden) @ output.T
        return logits

    def _norm(self, name: str, x: Array) -> Array:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        normed: Array = x / np.sqrt(mean_square + self._rms_eps) * self._weights[f"{name}.weight"]
        return normed

    def _linear(self, name: str, x: Array) -> Array:
        mapped: Array = x @ self._weights[f"{name}.weight"].T
        return mapped

    def _attention(self, layer: int, x: Array) -> Array:
        n_tokens = len(x)
        block = f"blk.{layer}"
        q = self._rotate(self._linear(f"{block}.attn_q", x).reshape(n_tokens, self._n_head, -1))
        k = self._rotate(self._linear(f"{block}.attn_k", x).reshape(n_tokens, self._n_head_kv, -1))
        v = self._linear(f"{block}.attn_v", x).reshape(n_tokens, self._n_head_kv, -1)
        group = self._n_head // self._n_head_kv
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)

        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1])
        scores[:, np.triu(np.ones((n_tokens, n_tokens), dtype=bool), k=1)] = -np.inf
        mixed = np.einsum("hqk,khd->qhd", softmax(scores), v)
        return self._linear(f"{block}.attn_output", mixed.reshape(n_tokens, -1))

    def _rotate(self, x: Array) -> Array:
        n_tokens, _, head_dim = x.shape
        frequencies = self._rope_freq_base ** (-np.arange(0, head_dim, 2) / head_dim)
        angles = (np.arange(n_tokens)[:, None] * frequencies)[:, None, :]
        even, odd = x[..., 0::2], x[..., 1::2]
        turned = np.empty_like(x)
        turned[..., 0::2] = even * np.cos(angles) - odd * np.sin(angles)
        turned[..., 1::2] = even * np.sin(angles) + odd * np.cos(angles)
        return turned

    def _feed_forward(self, layer: int, x: Array) -> Array:
        block = f"blk.{layer}"
        gated = silu(self._linear(f"{block}.ffn_gate", x)) * self._linear(f"{block}.ffn_up", x)
        return self._linear(f"{block}.ffn_down", gated)

    def _experts(self, layer: int, x: Array) -> Array:
        block = f"blk.{layer}"
        scores = softmax(self._linear(f"{block}.ffn_gate_inp", x))
        order = np.argsort(-scores, axis=-1)
        ranked = np.take_along_axis(scores, order, axis=-1)
        used = self._n_expert_used
        if used < ranked.shape[-1]:
            self.router_margin = min(self.router_margin, float(np.min(ranked[:, used - 1] - ranked[:, used])))
        shares = ranked[:, :used] / np.sum(ranked[:, :used], axis=-1, keepdims=True)

        gate, up, down = (self._weights[f"{block}.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
        mixed = np.zeros_like(x)
        for token, (experts, weights) in enumerate(zip(order[:, :used], shares, strict=True)):
            for expert, share in zip(experts, weights, strict=True):
                gated = silu(gate[expert] @ x[token]) * (up[expert] @ x[token])
                mixed[token] += share * (down[expert] @ gated)
        return mixed


def softmax(x: Array) -> Array:
    """Return the softmax over the last axis."""
    powers = np.exp(x - np.max(x, axis=-1, keepdims=True))
    shares: Array = powers / np.sum(powers, axis=-1, keepdims=True)
    return shares


def silu(x: Array) -> Array:
    """Return ``x`` times its logistic function."""
    return x / (1.0 + np.exp(-x))


def relative_error(got: NDArray[Any], want: NDArray[Any]) -> float:
    """Return the largest error of a row: the root mean square of its difference, over that of the wanted row."""
    want = np.asarray(want, dtype=np.float64)
    squares = np.mean((np.asarray(got, dtype=np.float64) - want) ** 2, axis=-1)
    return float(np.max(np.sqrt(squares / np.mean(want**2, axis=-1))))
