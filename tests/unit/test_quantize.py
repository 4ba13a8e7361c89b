"""Quantization: what comes out, what is told before, and what is refused without a trace on the disk."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from gguf.quants import dequantize
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.child import check_output, outcomes, start
from support.llama_models import write_llama

import llama_cy
from llama_cy import Ftype, GGMLType, quantize
from llama_cy.quantize_plan import NO_TARGETS, QuantizedTensor

SIZES: dict[str, Any] = {"n_embd": 256, "n_head": 8, "n_ff": 256, "n_layer": 3}
TOKENS = [1, 5, 7, 11, 2]
NEEDS_IMATRIX = {
    "MOSTLY_Q2_K_S", "MOSTLY_IQ1_M", "MOSTLY_IQ1_S", "MOSTLY_IQ2_M", "MOSTLY_IQ2_S", "MOSTLY_IQ2_XS", "MOSTLY_IQ2_XXS",
    "MOSTLY_IQ3_XS", "MOSTLY_IQ3_XXS",
}  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "wide.gguf", seed=1, **SIZES)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "narrow.gguf", n_expert=4, seed=2)


def tensors(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor for tensor in GGUFReader(path).tensors}


def values(tensor: Any) -> NDArray[np.float32]:
    return dequantize(tensor.data, tensor.tensor_type)


def logits(path: Path) -> NDArray[np.float32]:
    with llama_cy.Model(path, n_gpu_layers=0) as model, model.context(n_ctx=64) as context:
        context.decode(TOKENS)
        return np.array(context.logits(-1))


def nearness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def matrices(plan: llama_cy.Quantization) -> list[QuantizedTensor]:
    return [tensor for tensor in plan.tensors if len(tensor.shape) > 1]


class TestWhatComesOut:
    @pytest.mark.parametrize(("ftype", "near"), [("Q8_0", 0.999), ("Q4_K_M", 0.95), (Ftype.MOSTLY_F16, 0.9999)])
    def test_smaller_and_near(self, path: Path, tmp_path: Path, ftype: Any, near: float) -> None:
        target = tmp_path / "small.gguf"
        done = quantize(path, target, ftype)
        assert done.paths == (target,)
        assert target.stat().st_size < path.stat().st_size / 1.9
        assert nearness(logits(path), logits(target)) > near

    def test_demo_model(self, tmp_path: Path) -> None:
        source, target = llama_cy.demo_model_path(), tmp_path / "demo.gguf"
        done = quantize(source, target, "Q4_K_M", allow_requantize=True)
        assert done.nbytes < 0.85 * done.nbytes_before
        assert target.stat().st_size < source.stat().st_size
        assert nearness(logits(source), logits(target)) > 0.97

    @pytest.mark.parametrize("ftype", [ftype for ftype in Ftype if ftype not in NO_TARGETS])
    def test_every_type_is_planned(self, path: Path, ftype: Ftype) -> None:
        plan = quantize(path, ftype=ftype, dry_run=True)
        assert plan.ftype is ftype
        assert 1 < plan.bits_per_weight <= 32
        assert bool(plan.without_imatrix) == (ftype.name in NEEDS_IMATRIX)

    @pytest.mark.parametrize("ftype", ["Q4_0", "Q5_1", "Q2_K_S", "Q3_K_M", "Q6_K", "BF16", "F32", "TQ2_0", "IQ2_XXS"])
    def test_is_what_was_told(self, path: Path, tmp_path: Path, ftype: str) -> None:
        dry = quantize(path, ftype=ftype, dry_run=True)
        imatrix = {tensor.name: np.ones(tensor.shape[-1], np.float32) for tensor in matrices(dry)}
        told = quantize(path, ftype=ftype, imatrix=imatrix, dry_run=True)
        done = quantize(path, tmp_path / "q.gguf", ftype, imatrix=imatrix)
        assert told == done._replace(paths=())
        assert told.without_imatrix == ()
        written = tensors(tmp_path / "q.gguf")
        assert [(tensor.name, int(tensor.type), tensor.nbytes) for tensor in done.tensors] == [
            (name, int(tensor.tensor_type), tensor.n_bytes) for name, tensor in written.items()
        ]
        assert os.listdir(tmp_path) == ["q.gguf"]

    def test_sizes(self, path: Path) -> None:
        plan = quantize(path, ftype="q8_0", dry_run=True)
        first = next(tensor for tensor in plan.tensors if tensor.name == "blk.0.attn_q.weight")
        assert first == ("blk.0.attn_q.weight", (256, 256), GGMLType.F32, GGMLType.Q8_0, 256 * 256 * 4, 256 * 8 * 34)
        assert plan.nbytes == sum(tensor.nbytes for tensor in plan.tensors)
        assert 8.5 < plan.bits_per_weight < 8.6

    def test_every_number_of_threads_gives_the_same(self, path: Path, tmp_path: Path) -> None:
        files = [tmp_path / f"{n}.gguf" for n in (1, 2, 3)]
        for n, file in zip((1, 2, 3), files, strict=True):
            quantize(path, file, "Q4_K_S", n_threads=n, max_buf_size=0 if n < 3 else 50_000)
        assert len({file.read_bytes() for file in files}) == 1

    def test_rows_that_do_not_divide_fall_back(self, narrow: Path, tmp_path: Path) -> None:
        done = quantize(narrow, tmp_path / "q.gguf", "Q4_K_S")
        kinds = {tensor.type for tensor in matrices(done)}
        assert GGMLType.Q4_K not in kinds
        assert GGMLType.Q5_0 in kinds
        assert nearness(logits(narrow), logits(tmp_path / "q.gguf")) > 0.9

    def test_importance_matrix_moves_the_error(self, path: Path, tmp_path: Path) -> None:
        name = "blk.1.ffn_up.weight"
        weight = np.full(256, 1e-3, np.float32)
        weight[:32] = 1.0
        quantize(path, tmp_path / "plain.gguf", "Q4_0", pure=True)
        quantize(path, tmp_path / "aware.gguf", "Q4_0", pure=True, imatrix={name: weight})
        source = values(tensors(path)[name])
        weight = weight / weight.sum()

        def error(file: str) -> float:
            found = values(tensors(tmp_path / file)[name])
            return float((((found - source) ** 2).mean(axis=0) * weight).sum())

        assert error("aware.gguf") < error("plain.gguf")

    def test_metadata(self, path: Path, tmp_path: Path) -> None:
        overrides: dict[str, bool | int | float | str] = {
            "general.name": "renamed",
            "x.count": 7,
            "x.share": 0.5,
            "x.flag": True,
        }
        quantize(path, tmp_path / "q.gguf", only_copy=True, kv_overrides=overrides)
        fields = GGUFReader(tmp_path / "q.gguf").fields
        assert {key: fields[key].contents() for key in overrides} == overrides
        assert (logits(path) == logits(tmp_path / "q.gguf")).all()

    def test_types_by_pattern(self, path: Path, tmp_path: Path) -> None:
        done = quantize(
            path, tmp_path / "q.gguf", "Q4_0", tensor_types={r"blk\.[01]\.ffn_": "q8_0", "ffn_down": GGMLType.Q5_0},
            output_tensor_type="f16", token_embedding_type="q5_1", pure=True,
        )  # fmt: skip
        kinds = {tensor.name.removesuffix(".weight"): tensor.type.name for tensor in done.tensors}
        expected = {
            "blk.0.ffn_up": "Q8_0", "blk.1.ffn_down": "Q8_0", "blk.2.ffn_down": "Q5_0", "blk.2.ffn_up": "Q4_0",
            "output": "F16", "token_embd": "Q5_1", "blk.0.attn_norm": "F32",
        }  # fmt: skip
        assert {name: kinds[name] for name in expected} == expected
        assert {name: tensors(done.paths[0])[f"{name}.weight"].tensor_type.name for name in expected} == expected

    def test_output_stays(self, path: Path) -> None:
        plan = quantize(path, ftype="Q8_0", dry_run=True, quantize_output_tensor=False)
        assert {t.type for t in plan.tensors if t.name == "output.weight"} == {GGMLType.F32}

    def test_pruned_layers(self, path: Path, tmp_path: Path) -> None:
        weight = np.ones(256, np.float32)
        imatrix = {f"blk.{layer}.ffn_up.weight": weight for layer in range(3)}
        target = tmp_path / "q.gguf"
        done = quantize(path, target, "F16", prune_layers=[1], imatrix=imatrix)
        with llama_cy.Model(target, n_gpu_layers=0) as model:
            assert model.n_layer == 2
        before, after = tensors(path), tensors(target)
        assert after.keys() == {tensor.name for tensor in done.tensors}
        expected = values(before["blk.2.attn_q.weight"]).astype(np.float16)
        assert (after["blk.1.attn_q.weight"].data == expected).all()

    def test_replaces_a_file(self, path: Path, tmp_path: Path) -> None:
        target = tmp_path / "q.gguf"
        target.write_bytes(b"old")
        quantize(path, target, "Q8_0")
        assert target.read_bytes()[:4] == b"GGUF"


class TestProgress:
    def test_rises_to_one(self, path: Path, tmp_path: Path) -> None:
        seen: list[float] = []
        done = quantize(path, tmp_path / "q.gguf", progress=seen.append)
        assert seen == sorted(seen)
        assert (seen[0], seen[-1], len(seen)) == (0.0, 1.0, len(done.tensors) + 1)

    @pytest.mark.parametrize("at", [0.0, 0.5])
    def test_an_exception_ends_it(self, path: Path, tmp_path: Path, at: float) -> None:
        (tmp_path / "q.gguf").write_bytes(b"old")

        def fail(share: float) -> None:
            if share >= at:
                raise KeyError("mine")

        with pytest.raises(KeyError, match="mine") as caught:
            quantize(path, tmp_path / "q.gguf", progress=fail)
        assert caught.traceback[-1].name == "fail"
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("q.gguf", b"old")]

    def test_interrupt(self, path: Path, tmp_path: Path) -> None:
        source = """
        import os, sys, llama_cy
        def report(share):
            if share > 0.3:
                print("on", flush=True)
                sys.stdin.close()
                while not os.path.exists(sys.argv[2] + "/go"):
                    pass
        try:
            llama_cy.quantize(sys.argv[1], sys.argv[2] + "/q.gguf", progress=report)
        except KeyboardInterrupt:
            print(sorted(os.listdir(sys.argv[2])))
        """
        with start(source, path, tmp_path) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "on\n"
            child.send_signal(signal.SIGINT)
            assert child.stdout.read() == "[]\n"

    def test_a_full_disk(self, path: Path, tmp_path: Path) -> None:
        source = """
        import os, resource, sys, llama_cy
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            llama_cy.quantize(sys.argv[1], sys.argv[2] + "/q.gguf")
        except (OSError, llama_cy.LlamaError) as error:
            print(type(error).__name__, os.listdir(sys.argv[2]))
        """
        assert check_output(source, path, tmp_path) in {"OSError []\n", "LlamaError []\n"}


REFUSED = {
    "unknown parameter": ("quantize(path, out, threads=2)", "TypeError", "threads"),
    "no target": ("quantize(path)", "TypeError", "dst"),
    "ftype": ("quantize(path, out, 'Q4')", "ValueError", "Q4"),
    "ftype guessed": ("quantize(path, out, 1024)", "ValueError", "GUESSED"),
    "ftype removed": ("quantize(path, out, 5)", "ValueError", "5"),
    "missing": ("quantize(out, out)", "ModelLoadError", "cannot open"),
    "no folder": ("quantize(path, out + '/x/y')", "FileNotFoundError", "x"),
    "itself": ("quantize(path, path)", "ValueError", "read at the same time"),
    "threads": ("quantize(path, out, n_threads=0)", "ValueError", "n_threads is 0"),
    "buffer": ("quantize(path, out, max_buf_size=-1)", "ValueError", "max_buf_size"),
    "flag": ("quantize(path, out, pure='no')", "TypeError", "pure"),
    "type": ("quantize(path, out, output_tensor_type='i32')", "ValueError", "output_tensor_type is i32"),
    "type q8_k": ("quantize(path, out, tensor_types={'a': 'q8_k'})", "ValueError", "q8_k"),
    "type of patterns": ("quantize(path, out, tensor_types=['a'])", "TypeError", "mapping"),
    "pattern": ("quantize(path, out, tensor_types={'(': 'q8_0'})", "LlamaError", "quantize"),
    "deep pattern": ("quantize(path, out, tensor_types={'(' * 100000: 'q8_0'})", "ValueError", "100000"),
    "empty pattern": ("quantize(path, out, tensor_types={'': 'q8_0'})", "ValueError", "0 characters"),
    "rows": ("quantize(narrow, out, token_embedding_type='q4_k')", "ValueError", "have 64 values"),
    "rows of one": ("quantize(narrow, out, output_tensor_type='tq1_0')", "ValueError", "have 64 values"),
    "no fallback": ("quantize(narrow, out, 'Q1_0')", "LlamaError", "no tensor type fallback"),
    "needs imatrix": ("quantize(path, out, 'IQ2_XXS')", "ValueError", "importance matrix"),
    "embedding needs": ("quantize(path, out, token_embedding_type='iq1_s')", "ValueError", "importance matrix"),
    "q2_k_s needs": ("quantize(path, out, 'Q2_K_S')", "ValueError", "importance matrix"),
    "imatrix list": ("quantize(path, out, imatrix=[1.0])", "TypeError", "mapping"),
    "imatrix name": ("quantize(path, out, imatrix={'x': np.ones(256)})", "ValueError", "no such tensor"),
    "imatrix size": ("quantize(path, out, imatrix={up: np.ones(255)})", "ValueError", "256 are expected"),
    "imatrix nan": ("quantize(path, out, imatrix={up: np.full(256, np.nan)})", "ValueError", "0 to 1e+15"),
    "imatrix large": ("quantize(path, out, imatrix={up: np.full(256, 1e16)})", "ValueError", "1e+15"),
    "imatrix negative": ("quantize(path, out, imatrix={up: np.full(256, -1.0)})", "ValueError", "0 to 1e+15"),
    "imatrix text": ("quantize(path, out, imatrix={up: ['a'] * 256})", "TypeError", "float32"),
    "layer": ("quantize(path, out, prune_layers=[3])", "ValueError", "prune_layers is 3"),
    "all layers": ("quantize(path, out, prune_layers=range(3))", "ValueError", "all 3 layers"),
    "layers text": ("quantize(path, out, prune_layers='1')", "TypeError", "prune_layers"),
    "override layout": ("quantize(path, out, kv_overrides={'general.alignment': 7})", "ValueError", "laid out"),
    "override split": ("quantize(path, out, kv_overrides={'split.count': 7})", "ValueError", "laid out"),
    "override number": ("quantize(path, out, kv_overrides={'x': -1})", "ValueError", "-1"),
    "override list": ("quantize(path, out, kv_overrides={'x': [1]})", "TypeError", "bool, int, float or str"),
    "overrides list": ("quantize(path, out, kv_overrides=['x'])", "TypeError", "mapping"),
    "override arch": ("quantize(path, out, kv_overrides={'general.architecture': 'x'})", "LlamaError", "architecture"),
    "again": ("quantize(demo, out)", "ValueError", "allow_requantize"),
    "progress": ("quantize(path, out, progress=3)", "TypeError", "progress"),
}  # fmt: skip

SETUP = """
import sys, numpy as np, llama_cy
from llama_cy import quantize
path, narrow, out = sys.argv[3:6]
demo, up = llama_cy.demo_model_path(), "blk.0.ffn_up.weight"
"""


class TestRefused:
    def test_wrong_values(self, path: Path, narrow: Path, tmp_path: Path) -> None:
        found = outcomes(SETUP, {name: case[0] for name, case in REFUSED.items()}, path, narrow, tmp_path / "q.gguf")
        for name, (_, error, text) in REFUSED.items():
            assert error in found[name].raised, (name, found[name])
            assert text in found[name].text, (name, found[name])
        assert os.listdir(tmp_path) == []

    def test_weights_that_are_no_numbers(self, tmp_path: Path) -> None:
        """Infinity, NaN and numbers whose squares overflow end in an exception or in a file, never in a death."""
        names = {}
        for label, value in {"nan": np.nan, "inf": np.inf, "large": 3e38, "tiny": 1e-40}.items():
            source = write_llama(tmp_path / f"{label}.gguf", seed=1, **{**SIZES, "n_layer": 1})
            for name, tensor in {t.name: t for t in GGUFReader(source, "r+").tensors}.items():
                if name == "blk.0.ffn_up.weight":
                    tensor.data[3, 7:9] = value
            names[label] = source
        # Where ggml finds such a number it says so on stderr itself.
        setup = """
        import os, sys, numpy as np
        from llama_cy import quantize
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        folder = sys.argv[3]
        imatrix = {f"blk.0.{name}.weight": np.ones(256) for name in (
            "attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down")} | {
            "token_embd.weight": np.ones(256), "output.weight": np.ones(256)}
        def run(label, ftype, n_threads):
            return quantize(
                f"{folder}/{label}.gguf", f"{folder}/q.gguf", ftype, imatrix=imatrix, n_threads=n_threads).ftype.name
        """
        cases = {
            f"{label} {ftype} {n}": f"run({label!r}, {ftype!r}, {n})"
            for label in names
            for ftype, n in (("Q8_0", 2), ("Q4_K_M", 1), ("Q4_K_M", 2), ("IQ3_XXS", 1), ("IQ3_XXS", 2), ("IQ4_NL", 2))
        }
        for name, outcome in outcomes(setup, cases, tmp_path).items():
            label, ftype, _ = name.split()
            if label in ("nan", "inf") or (label == "large" and ftype.startswith("IQ")):
                assert {"LlamaError", "ValueError"} & set(outcome.raised), (name, outcome)
            else:
                assert outcome.raised in {(), ("LlamaError", "RuntimeError", "Exception", "BaseException")}, (
                    name, outcome,
                )  # fmt: skip

    def test_dry_run_tells_what_is_missing(self, path: Path) -> None:
        plan = quantize(path, ftype="IQ2_XS", dry_run=True)
        assert "blk.0.ffn_up.weight" in plan.without_imatrix
        assert "token_embd.weight" not in plan.without_imatrix

    @given(st.dictionaries(st.sampled_from(["blk.0.ffn_up", "attn", ".*", "down|up"]), st.sampled_from(list(GGMLType))))
    def test_any_types(self, narrow: Path, kinds: dict[str, GGMLType]) -> None:
        try:
            plan = quantize(narrow, ftype="Q4_0", tensor_types=kinds, dry_run=True)
        except (ValueError, llama_cy.LlamaError):
            return
        assert all(tensor.nbytes > 0 for tensor in plan.tensors)
