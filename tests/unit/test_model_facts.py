"""What a model says of itself, over the architectures that we write."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from support import child
from support.encoder_models import write_bert, write_t5
from support.gemma_models import write_gemma3, write_gemma_embedding
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_lfm2, write_mamba

import llama_cy

DENSE = {
    "rope_type": llama_cy.RopeType.NORM,
    "n_embd_inp": 64,
    "n_embd_out": 64,
    "n_layer_nextn": 0,
    "n_swa": 0,
    "rope_freq_scale_train": 1.0,
    "cls_labels": (None,),
    "ftype": llama_cy.Ftype.ALL_F32,
    "has_encoder": False,
    "has_decoder": True,
    "decoder_start_token": None,
    "is_recurrent": False,
    "is_hybrid": False,
    "is_diffusion": False,
}
CASES: dict[str, tuple[Callable[..., Path], dict[str, Any], dict[str, Any]]] = {
    "llama": (
        write_llama,
        {},
        {"n_layer": 2, "n_head": 4, "n_head_kv": 2, "n_ctx_train": 512, "desc": "llama ?B all F32"},
    ),
    "f16": (write_llama, {"weight_type": "F16"}, {"ftype": llama_cy.Ftype.MOSTLY_F16, "desc": "llama ?B F16"}),
    "scaled": (
        write_llama,
        {"metadata": {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}},
        {"rope_freq_scale_train": 0.25},
    ),
    "gemma": (write_gemma3, {}, {"rope_type": llama_cy.RopeType.NEOX, "n_swa": 8}),
    "mamba": (write_mamba, {}, {"rope_type": llama_cy.RopeType.NONE, "is_recurrent": True}),
    "jamba": (write_jamba, {}, {"rope_type": llama_cy.RopeType.NONE, "is_hybrid": True}),
    "lfm2": (write_lfm2, {}, {"rope_type": llama_cy.RopeType.NEOX, "is_hybrid": True}),
    "t5": (
        write_t5,
        {},
        {"rope_type": llama_cy.RopeType.NONE, "has_encoder": True, "decoder_start_token": 0},
    ),
    "labels": (write_bert, {"labels": ["good", "bad", "so-so"]}, {"cls_labels": ("good", "bad", "so-so")}),
    "ranker": (write_bert, {"labels": []}, {"cls_labels": (None,)}),
}


@pytest.mark.parametrize("name", CASES)
def test_facts(name: str, tmp_path: Path) -> None:
    write, arguments, expected = CASES[name]
    with llama_cy.Model(write(tmp_path / "model.gguf", **arguments)) as model:
        wanted = expected if write is write_bert else DENSE | expected
        assert {fact: getattr(model, fact) for fact in wanted} == wanted


def test_a_head_that_widens(tmp_path: Path) -> None:
    path = write_gemma_embedding(tmp_path / "model.gguf")
    with llama_cy.Model(path) as model:
        assert (model.n_embd, model.n_embd_inp, model.n_embd_out) == (64, 64, 64)


class TestMetadata:
    KEYS: ClassVar[dict[str, int | float | str]] = {
        "general.sampling.temp": 0.25,
        "general.sampling.top_k": 7,
        "general.sampling.sequence": "top_k;temp",
        "x.long": "ä" * 1000,
        "x.empty": "",
    }

    @pytest.fixture
    def model(self, tmp_path: Path) -> Iterator[llama_cy.Model]:
        path = write_llama(tmp_path / "model.gguf", metadata=self.KEYS)
        with llama_cy.Model(path) as model:
            yield model

    def test_by_key(self, model: llama_cy.Model) -> None:
        assert model.meta_val_str("x.long") == "ä" * 1000
        assert model.meta_val_str("x.empty") == ""
        assert model.meta_val_str("general.architecture") == "llama"
        assert model.metadata.items() >= {(key, model.meta_val_str(key)) for key in self.KEYS}
        assert all(model.meta_val_str(key) == value for key, value in model.metadata.items())

    def test_by_enum(self, model: llama_cy.Model) -> None:
        assert model.meta_val_str(llama_cy.ModelMetaKey.SAMPLING_TOP_K) == "7"
        assert model.meta_val_str(llama_cy.ModelMetaKey.SAMPLING_SEQUENCE) == "top_k;temp"
        assert float(model.meta_val_str(llama_cy.ModelMetaKey.SAMPLING_TEMP) or "") == 0.25
        assert model.meta_val_str(llama_cy.ModelMetaKey.SAMPLING_MIN_P) is None

    @pytest.mark.parametrize("key", ["", "no.such.key", "x.long\0", "general"])
    def test_without_such_a_key(self, model: llama_cy.Model, key: str) -> None:
        assert model.meta_val_str(key) is None

    @pytest.mark.parametrize("key", [None, b"x.long", 3, 1.5])
    def test_refuses_other_types(self, model: llama_cy.Model, key: Any) -> None:
        with pytest.raises(TypeError, match="key must be str or ModelMetaKey"):
            model.meta_val_str(key)


# Watches all that is computed, and saves.
REARRANGED = """
import sys, llama_cy
with llama_cy.Model(sys.argv[1], device="cpu") as model:
    seen = []
    with model.context(n_ctx=64, n_threads=1, eval_callback=lambda tensor: seen.append(tensor.name)) as context:
        context.decode([1, 5, 7])
    assert len(seen) > 50, seen
    print(*{kind for part in model.placement for kind in part.buffer_types})
    try:
        model.save(sys.argv[2])
    except llama_cy.LlamaError as error:
        print(error)
    else:
        print("saved")
"""
WRITERS = [write_llama, write_gemma3, write_gemma_embedding, write_mamba, write_jamba, write_lfm2]


class TestSave:
    @pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
    def test_comes_back(self, write: Callable[..., Path], tmp_path: Path) -> None:
        facts = []
        with llama_cy.Model(write(tmp_path / "model.gguf")) as model:
            model.save(tmp_path / "copy.gguf")
            facts.append((model.n_params, model.n_layer, model.n_swa, model.is_hybrid, model.is_recurrent))
        with llama_cy.Model(tmp_path / "copy.gguf") as model:
            facts.append((model.n_params, model.n_layer, model.n_swa, model.is_hybrid, model.is_recurrent))
        assert facts[0] == facts[1]

    def test_the_copy_computes_the_same(self, tiny: llama_cy.Model, tmp_path: Path) -> None:
        tiny.save(tmp_path / "copy.gguf")
        assert [path.name for path in tmp_path.iterdir()] == ["copy.gguf"]
        with llama_cy.Model(tmp_path / "copy.gguf") as copy:
            rows = []
            for model in (tiny, copy):
                with model.context(n_ctx=64, n_threads=1) as context:
                    context.decode([1, 5, 7])
                    rows.append(context.logits())
            assert np.array_equal(rows[0], rows[1])
            assert copy.vocab.n_tokens == tiny.vocab.n_tokens

    def test_replaces_a_file_or_leaves_it(self, tiny: llama_cy.Model, tmp_path: Path) -> None:
        (tmp_path / "old.gguf").write_bytes(b"old")
        with pytest.raises(OSError, match="No such file or directory"):
            tiny.save(tmp_path / "nowhere" / "old.gguf")
        (tmp_path / "folder").mkdir()
        with pytest.raises(OSError, match="directory"):
            tiny.save(tmp_path / "folder")
        assert (tmp_path / "old.gguf").read_bytes() == b"old"
        tiny.save(tmp_path / "old.gguf")
        assert (tmp_path / "old.gguf").read_bytes().startswith(b"GGUF")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "old.gguf"]

    @pytest.mark.parametrize("write", [write_t5, write_bert], ids=lambda write: write.__name__)
    def test_what_llama_cpp_would_lose(self, write: Callable[..., Path], tmp_path: Path) -> None:
        path = write(tmp_path / "model.gguf")
        refused = pytest.raises(llama_cy.LlamaError, match="can't save this model")
        with llama_cy.Model(path) as model, refused:
            model.save(tmp_path / "copy.gguf")
        assert [path.name for path in tmp_path.iterdir()] == ["model.gguf"]

    def test_without_weights(self, tiny_path: Path, tmp_path: Path) -> None:
        with llama_cy.Model(tiny_path, vocab_only=True) as model, pytest.raises(ValueError, match="no weights to save"):
            model.save(tmp_path / "copy.gguf")

    @pytest.mark.parametrize("weight_type", ["Q4_0", "Q8_0", "F16"])
    def test_what_kernels_rearranged(self, weight_type: str, tiny_path: Path, tmp_path: Path) -> None:
        """AVX2 and NEON have kernels of their own for Q4_0, AMX for all three."""
        path = tmp_path / "small.gguf"
        llama_cy.quantize(tiny_path, path, weight_type, n_threads=1)
        kinds, said = child.check_output(REARRANGED, path, tmp_path / "copy.gguf").splitlines()
        rearranged = sorted(set(kinds.split()) - {"CPU", "CPU_Mapped"})
        refused = f"llama.cpp can't read its weights, which are rearranged for the CPU ({', '.join(rearranged)})"
        assert said == (f"{refused}; load the model with use_extra_bufts=False" if rearranged else "saved")
        assert (tmp_path / "copy.gguf").exists() == (not rearranged)
        with llama_cy.Model(path, device="cpu", use_extra_bufts=False) as model:
            model.save(tmp_path / "copy.gguf")
        assert (tmp_path / "copy.gguf").stat().st_size > 0.9 * path.stat().st_size
