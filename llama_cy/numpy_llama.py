"""The llama architecture in NumPy: what the logits should be.

Written from the papers: RMSNorm (Zhang and Sennrich 2019), rotary positions (Su et al. 2021) over neighbouring
pairs, grouped-query attention (Ainslie et al. 2023), SwiGLU (Shazeer 2020), mixture of experts with the weights of
the chosen ones normalized (Jiang et al. 2024).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .gguf_check import check_model
from .gguf_tensors import read_tensors
from .loading import readable

Array: TypeAlias = npt.NDArray[Any]

# Of these the computation takes no notice, or takes all the notice that there is to take.
HYPERPARAMETERS = {
    "attention.head_count", "attention.head_count_kv", "attention.key_length", "attention.layer_norm_rms_epsilon",
    "attention.value_length", "block_count", "context_length", "embedding_length", "expert_count",
    "expert_used_count", "feed_forward_length", "rope.dimension_count", "rope.freq_base", "vocab_size",
}  # fmt: skip


class Cache:
    """Keys and values of the tokens before, layer by layer."""

    def __init__(self, n_layer: int) -> None:
        self.layers: list[tuple[Array, Array] | None] = [None] * n_layer
        self.n_tokens = 0

    def extend(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Append those of new tokens, and return all."""
        before = self.layers[layer]
        if before is not None:
            k, v = np.concatenate([before[0], k]), np.concatenate([before[1], v])
        self.layers[layer] = k, v
        return k, v


class NumpyLlama:
    """Compute logits of a llama model file.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        Weights of F32, F16, BF16 or Q8_0; dense or a mixture of experts.
    dtype : dtype
        What to compute in.
    progress : callable, optional
        Called with the share loaded.

    Attributes
    ----------
    n_vocab : int
        Logits in a row.
    n_ctx_train : int
        Context length it was trained with, in tokens.
    router_margin : float
        Over all passes so far, the least gap between the score of the last expert chosen and the first one left
        out. Where it is tiny, rounding can choose another expert and the logits jump. Infinite for a dense model.

    Raises
    ------
    ModelLoadError
        The file is damaged, or has tensors or hyperparameters that there is no rule for.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        dtype: npt.DTypeLike = np.float64,
        progress: Callable[[float], object] | None = None,
    ) -> None:
        name = os.fsdecode(path)
        with open(readable(name), "rb") as file:
            header = check_model(file, name)
            values = header.values
            if values["general.architecture"] != "llama":
                raise header.failure(f"its architecture is {values['general.architecture']!r}; NumPy computes 'llama'")
            if values.get("split.count", 1) != 1:
                raise header.failure("it is split, and NumPy reads one file")
            own = {key.removeprefix("llama."): value for key, value in values.items() if key.startswith("llama.")}
            self._n_layer = int(own["block_count"])
            self._n_expert_used = int(own.get("expert_used_count", 0))
            unknown = sorted(f"llama.{key}" for key in own.keys() - HYPERPARAMETERS)
            unknown += sorted(header.tensors.keys() - self._known_tensors())
            if unknown:
                raise header.failure(f"NumPy has no rule for {', '.join(unknown)}")
            heads = (own["attention.head_count"], own.get("attention.head_count_kv", own["attention.head_count"]))
            if not all(isinstance(number, int) for number in heads):
                raise header.failure("its layers have different numbers of heads; NumPy has no rule for that")
            self._weights = dict(read_tensors(file, header, dtype, progress))
        self._n_head, self._n_head_kv = heads
        self._rms_eps = float(own["attention.layer_norm_rms_epsilon"])
        head_dim = len(self._weights["blk.0.attn_k.weight"]) // self._n_head_kv
        self._frequencies = self._rope(int(own.get("rope.dimension_count", head_dim)), own.get("rope.freq_base", 1e4))
        self._directions: dict[int, Any] = {}
        self.n_vocab = len(self._weights["token_embd.weight"])
        self.n_ctx_train = int(own["context_length"])
        self.router_margin = float("inf")

    def _known_tensors(self) -> set[str]:
        per_layer = ["attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm"]
        experts = ["ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"]
        per_layer += experts if self._n_expert_used else ["ffn_gate", "ffn_up", "ffn_down"]
        known = {"token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"}
        return known | {f"blk.{layer}.{name}.weight" for layer in range(self._n_layer) for name in per_layer}

    def _rope(self, n_rot: int, freq_base: float) -> Array:
        """Return the angle by which each pair turns from one position to the next."""
        frequencies: Array = float(freq_base) ** (-np.arange(0, n_rot, 2) / n_rot)
        if "rope_freqs.weight" in self._weights:
            # Llama 3 slows the slow ones down.
            frequencies = frequencies / self._weights["rope_freqs.weight"]
        return frequencies

    def add(self, name: str, delta: Array) -> None:
        """Add to a weight, as a LoRA does."""
        self._weights[name] = self._weights[name] + delta

    def steer(self, layer: int, direction: Array) -> None:
        """Add to what a layer gives, as a control vector does."""
        self._directions[layer] = self._directions.get(layer, 0.0) + np.asarray(direction, dtype=np.float64)

    def cache(self) -> Cache:
        """Return the memory of a sequence that has no tokens yet."""
        return Cache(self._n_layer)

    def logits(self, tokens: Sequence[int], cache: Cache | None = None) -> Array:
        """Return the logits after each token of one sequence.

        Parameters
        ----------
        tokens : sequence of int
            Token ids.
        cache : Cache, optional
            What went before, which these tokens are added to; without one they begin at position 0.

        Returns
        -------
        numpy.ndarray
            Shape ``(len(tokens), n_vocab)``.
        """
        cache = self.cache() if cache is None else cache
        hidden = self._weights["token_embd.weight"][np.asarray(tokens)]
        for layer in range(self._n_layer):
            hidden = hidden + self._attention(layer, self._norm(f"blk.{layer}.attn_norm", hidden), cache)
            feed_forward = self._experts if self._n_expert_used else self._feed_forward
            hidden = hidden + feed_forward(layer, self._norm(f"blk.{layer}.ffn_norm", hidden))
            hidden = hidden + self._directions.get(layer, 0.0)
        cache.n_tokens += len(tokens)
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

    def _attention(self, layer: int, x: Array, cache: Cache) -> Array:
        n_tokens, block = len(x), f"blk.{layer}"
        positions = cache.n_tokens + np.arange(n_tokens)
        q = self._rotate(self._linear(f"{block}.attn_q", x).reshape(n_tokens, self._n_head, -1), positions)
        k = self._rotate(self._linear(f"{block}.attn_k", x).reshape(n_tokens, self._n_head_kv, -1), positions)
        v: Array = self._linear(f"{block}.attn_v", x).reshape(n_tokens, self._n_head_kv, -1)
        k, v = cache.extend(layer, k, v)
        group = self._n_head // self._n_head_kv
        k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)

        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(q.shape[-1]).astype(x.dtype)
        scores[:, positions[:, None] < np.arange(len(k))] = -np.inf
        mixed = np.einsum("hqk,khd->qhd", softmax(scores), v)
        return self._linear(f"{block}.attn_output", mixed.reshape(n_tokens, -1))

    def _rotate(self, x: Array, positions: Array) -> Array:
        angles = (positions[:, None] * self._frequencies)[:, None, :]
        cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
        n_rot = 2 * len(self._frequencies)
        even, odd = x[..., 0:n_rot:2], x[..., 1:n_rot:2]
        turned: Array = x.copy()
        turned[..., 0:n_rot:2] = even * cos - odd * sin
        turned[..., 1:n_rot:2] = even * sin + odd * cos
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
    # In this form nothing overflows.
    halved: Array = 0.5 * x
    product: Array = halved * (1.0 + np.tanh(halved))
    return product
