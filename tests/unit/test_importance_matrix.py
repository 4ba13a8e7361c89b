"""Importance matrices: the sums that NumPy gives, files, and quantization with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader
from support.llama_models import write_llama

import llama_cy
from llama_cy import ImportanceMatrix, Model, quantize

TOKENS = [1, 5, 7, 11, 2, 30, 31]


@pytest.fixture(scope="module")
def moe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "moe.gguf", n_expert=4, seed=2)


def test_sums_of_the_first_layer(tiny: Model, tiny_path: Path) -> None:
    matrix = ImportanceMatrix.collect(tiny, [TOKENS], chunk_size=64, n_threads=1)
    weights = {tensor.name: tensor.data for tensor in GGUFReader(tiny_path).tensors}
    rows = weights["token_embd.weight"][TOKENS].astype(np.float64)
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True) + 1e-5)
    rows *= weights["blk.0.attn_norm.weight"]
    for name in ("attn_q", "attn_k", "attn_v"):
        np.testing.assert_allclose(matrix.sums[f"blk.0.{name}.weight"], (rows**2).sum(axis=0)[None], rtol=1e-4)
        assert matrix.counts[f"blk.0.{name}.weight"].tolist() == [len(TOKENS)]
    np.testing.assert_allclose(matrix.importance["blk.0.attn_q.weight"], (rows**2).mean(axis=0), rtol=1e-4)
    assert matrix.n_chunks == 1


def test_experts(moe: Path) -> None:
    with Model(moe, n_gpu_layers=0) as model:
        matrix = ImportanceMatrix.collect(model, [TOKENS], chunk_size=64)
        seen: dict[str, np.ndarray] = {}

        def look(tensor: llama_cy.Tensor) -> None:
            seen[tensor.name] = tensor.data

        with model.context(n_ctx=64, eval_callback=look, eval_filter=["ffn_moe_topk-0", "ffn_norm-0"]) as context:
            context.decode(TOKENS)
    ids, rows = seen["ffn_moe_topk-0"], seen["ffn_norm-0"].astype(np.float64) ** 2
    for expert in range(4):
        mine = (ids == expert).any(axis=1)[: len(rows)]
        assert matrix.counts["blk.0.ffn_up_exps.weight"][expert] == mine.sum()
        found = matrix.sums["blk.0.ffn_up_exps.weight"][expert]
        np.testing.assert_allclose(found, rows[mine].sum(axis=0), rtol=1e-4, atol=1e-6)
    assert matrix.sums["blk.0.ffn_down_exps.weight"].shape == (4, 96)


def test_file_and_quantization(tiny: Model, tiny_path: Path, tmp_path: Path) -> None:
    matrix = ImportanceMatrix.collect(tiny, ["Hello, world!", TOKENS], chunk_size=4)
    matrix.save(tmp_path / "m.gguf")
    again = ImportanceMatrix.load(tmp_path / "m.gguf")
    assert repr(again) == repr(matrix)
    assert again.sums.keys() == matrix.sums.keys()
    assert all((again.sums[name] == matrix.sums[name]).all() for name in again.sums)
    assert all((again.counts[name] == matrix.counts[name]).all() for name in again.counts)
    reader = GGUFReader(tmp_path / "m.gguf")
    assert reader.fields["imatrix.chunk_size"].contents() == 4
    assert reader.fields["imatrix.datasets"].contents() == ["texts"]
    done = quantize(tiny_path, tmp_path / "q.gguf", "Q4_0", imatrix=again)
    plain = quantize(tiny_path, tmp_path / "p.gguf", "Q4_0")
    assert done.nbytes >= plain.nbytes
    assert (tmp_path / "q.gguf").read_bytes() != (tmp_path / "p.gguf").read_bytes()


def test_refused(tiny: Model, tiny_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing to read"):
        ImportanceMatrix.collect(tiny, [])
    with pytest.raises(TypeError, match="texts"):
        ImportanceMatrix.collect(tiny, "one text")
    with pytest.raises(ValueError, match="chunk_size is 0"):
        ImportanceMatrix.collect(tiny, [TOKENS], chunk_size=0)
    with pytest.raises(ValueError, match="different weights"):
        ImportanceMatrix({"a": [1.0]}, {})
    with pytest.raises(ValueError, match="NaN"):
        ImportanceMatrix({"a": [np.nan]}, {"a": [1]})
    with pytest.raises(ValueError, match="count for each expert"):
        ImportanceMatrix({"a": [1.0]}, {"a": [1, 2]})
    with pytest.raises(llama_cy.ModelLoadError, match="imatrix"):
        ImportanceMatrix.load(tiny_path)
    (tmp_path / "cut").write_bytes(b"GGUF")
    with pytest.raises(llama_cy.ModelLoadError):
        ImportanceMatrix.load(tmp_path / "cut")
