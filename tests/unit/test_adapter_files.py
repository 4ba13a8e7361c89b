"""Files that are no LoRA adapters, or no good ones, and what is refused when one is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.child import Outcome, check_output, outcomes
from support.llama_models import write_llama
from support.lora import random_lora, write_lora
from support.vocabulary import spm

import llama_cy

N_VOCAB = spm().n_tokens

BAD_SETUP = """
import sys
import llama_cy
folder = sys.argv[3] + "/"
model = llama_cy.Model(folder + "tiny.gguf", n_gpu_layers=0)

def load(name, base=model):
    # An adapter that was let through must not end the process either.
    adapter = base.load_adapter(f"{folder}{name}.gguf")
    with base.context(n_ctx=64, n_threads=1) as context:
        context.set_adapters([adapter])
        context.decode([1, 2, 3])
    return "loaded"
"""
NAME = "blk.0.attn_q.weight"
ONE = random_lora({NAME: (64, 64)}, rank=2, seed=1)
A, B = ONE[NAME]
EMBEDDING = "token_embd.weight"
# What makes the file, and words of the message.
BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no type": ({"metadata": {"general.type": ""}}, ["general.type is '', not 'adapter'"]),
    "a model": ({"metadata": {"general.type": "model"}}, ["general.type is 'model'"]),
    "type of a number": ({"metadata": {"general.type": 1.5}}, ["general.type", "f32", "str"]),
    "adapter type of a number": ({"metadata": {"adapter.type": 5}}, ["adapter.type"]),
    "another kind": ({"metadata": {"adapter.type": "dora"}}, ["adapter.type is 'dora', not 'lora'"]),
    "another architecture": ({"arch": "gemma3"}, ["arch and LoRA arch mismatch"]),
    "an unknown architecture": ({"arch": "nonsense"}, ["mismatch"]),
    "alpha of text": ({"metadata": {"adapter.lora.alpha": "8"}}, ["adapter.lora.alpha", "str", "f32"]),
    "alpha of a list": ({"metadata": {"adapter.lora.alpha": [8]}}, ["adapter.lora.alpha", "arr"]),
    "alpha nan": ({"alpha": float("nan")}, ["adapter.lora.alpha is nan"]),
    "alora of a number": ({"metadata": {"adapter.alora.invocation_tokens": 5}}, ["invalid gguf type"]),
    "no tensors": ({"pairs": {}}, ["no LoRA tensors"]),
    "norms only": ({"pairs": {}, "tensors": {"output_norm.weight": np.ones(64, np.float32)}}, ["no LoRA tensors"]),
    "half a pair": ({"tensors": {"blk.1.attn_q.weight.lora_a": A}}, ["missing one component"]),
    "an unknown suffix": ({"tensors": {"blk.1.attn_q.weight": A}}, ["unexpected suffix"]),
    "an unknown weight": ({"pairs": {"blk.9.attn_q.weight": (A, B)}}, ["blk.9.attn_q.weight", "does not exist"]),
    "too long": ({"pairs": {NAME: (np.ones((2, 65), np.float32), B)}}, ["incorrect shape"]),
    "transposed": ({"pairs": {NAME: (np.ones((3, 64), np.float32), B)}}, ["do not fit"]),
    "three axes": ({"pairs": {NAME: (np.stack([A, A]), np.stack([B, B]))}}, ["do not fit"]),
    "four axes": ({"pairs": {NAME: (A[None, None].repeat(2, 0), B[None, None].repeat(2, 0))}}, ["do not fit"]),
    "whole numbers": ({"pairs": {NAME: (A.astype(np.int8), B)}}, ["lora_a", "i8"]),
    "doubles": ({"pairs": {NAME: (A, B.astype(np.float64))}}, ["lora_b", "f64"]),
    "an embedding of two ranks": (
        {"pairs": {EMBEDDING: (np.ones((N_VOCAB, 2), np.float32), np.ones((64, 3), np.float32))}},
        [EMBEDDING, "do not fit"],
    ),
    "experts where there are none": ({"pairs": {"blk.0.ffn_up_exps.weight": (A, B)}}, ["do not fit"]),
}
OF_FILES: dict[str, tuple[str, list[str]]] = {
    "missing": ("load('missing')", ["cannot open the adapter", "missing.gguf", "No such file"]),
    "text": ("load('text')", ["b'Once'", "GGUF"]),
    "a whole model": ("load('tiny')", ["general.type is '', not 'adapter'"]),
    "magic alone": ("load('magic')", ["left in the file"]),
    "a folder": ("model.load_adapter(folder)", ["Is a directory"]),
    "an embedding that is the output matrix": (
        "load('embedding', llama_cy.Model(folder + 'tied.gguf'))",
        [EMBEDDING, "output matrix"],
    ),
    "too few experts": ("load('moe', llama_cy.Model(folder + 'moe-model.gguf'))", ["do not fit 4 experts"]),
    "no experts": ("load('flat', llama_cy.Model(folder + 'moe-model.gguf'))", ["do not fit 4 experts"]),
    "of another size": ("load('good', llama_cy.Model(folder + 'wide.gguf'))", ["incorrect shape"]),
}


@pytest.fixture(scope="module")
def came_to(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("bad")
    for name, (arguments, _) in BAD.items():
        write_lora(folder / f"{name}.gguf", **{"pairs": ONE} | arguments)
    (folder / "tiny.gguf").write_bytes(tiny_path.read_bytes())
    (folder / "text.gguf").write_text("Once upon a time")
    (folder / "magic.gguf").write_bytes(b"GGUF")
    write_llama(folder / "tied.gguf", tied=True)
    write_llama(folder / "moe-model.gguf", n_expert=4)
    write_llama(folder / "wide.gguf", n_embd=96, head_dim=16)
    write_lora(folder / "good.gguf", ONE, alpha=8)
    write_lora(
        folder / "embedding.gguf", {EMBEDDING: (np.ones((N_VOCAB, 2), np.float32), np.ones((64, 2), np.float32))}
    )
    write_lora(folder / "moe.gguf", random_lora({"blk.0.ffn_up_exps.weight": (3, 96, 64)}))
    write_lora(folder / "flat.gguf", random_lora({"blk.0.ffn_up_exps.weight": (96, 64)}))
    cases = {name: f"load({name!r})" for name in BAD} | {name: source for name, (source, _) in OF_FILES.items()}
    return outcomes(BAD_SETUP, cases | {"good": "load('good')"}, folder)


@pytest.mark.parametrize("case", [*BAD, *OF_FILES])
def test_bad_file(came_to: dict[str, Outcome], case: str) -> None:
    outcome = came_to[case]
    assert outcome.raised[:1] == ("ModelLoadError",), outcome
    for words in BAD[case][1] if case in BAD else OF_FILES[case][1]:
        assert words in outcome.text


def test_good_file_among_them(came_to: dict[str, Outcome]) -> None:
    assert came_to["good"].text == "'loaded'", came_to["good"]


CUTS = """
import sys
import llama_cy
model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
with open(sys.argv[2], "rb") as file:
    data = file.read()
for length in range(4, len(data), 37):
    with open(sys.argv[2], "wb") as file:
        file.write(data[:length])
    try:
        model.load_adapter(sys.argv[2])
    except llama_cy.ModelLoadError:
        continue
    raise AssertionError(length)
for at in range(4, 700):
    with open(sys.argv[2], "wb") as file:
        file.write(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1:])
    try:
        model.load_adapter(sys.argv[2])
    except llama_cy.ModelLoadError:
        pass
print(llama_cy.live_objects()["adapter"])
"""


def test_cut_and_changed_anywhere(tiny_path: Path, tmp_path: Path) -> None:
    path = write_lora(tmp_path / "cut.gguf", ONE, alpha=8, metadata={"adapter.alora.invocation_tokens": [1, 2]})
    assert check_output(CUTS, tiny_path, path) == "0\n"


class TestWriting:
    def test_bad_shapes(self, tiny: llama_cy.Model, tmp_path: Path) -> None:
        for a, b, match in (
            (np.ones((2, 64)), np.ones((64, 3)), "ranks differ"),
            (np.ones(64), np.ones((64, 1)), "two dimensions"),
            (np.full((1, 64), np.nan), np.ones((64, 1)), "not finite"),
        ):
            with pytest.raises(ValueError, match=match):
                llama_cy.write_lora(tmp_path / "x.gguf", tiny, {NAME: (a, b)})
        with pytest.raises(ValueError, match="too long a name"):
            llama_cy.write_lora(tmp_path / "x.gguf", tiny, {"x" * 57: (A, B)})
        with pytest.raises(TypeError, match="metadata must be"):
            llama_cy.write_lora(tmp_path / "x.gguf", tiny, ONE, metadata={"x": None})
        assert list(tmp_path.iterdir()) == []

    def test_metadata_of_each_type(self, tiny: llama_cy.Model, tmp_path: Path) -> None:
        extra = {"b": True, "i": 7, "n": -7, "f": 0.5, "s": "é", "adapter.alora.invocation_tokens": [4, 5]}
        llama_cy.write_lora(tmp_path / "x.gguf", tiny, ONE, metadata=extra)
        with tiny.load_adapter(tmp_path / "x.gguf") as adapter:
            got = adapter.metadata
            assert [got[key] for key in "bins"] == ["true", "7", "-7", "é"]
            assert float(got["f"]) == 0.5
            assert adapter.alora_invocation_tokens == (4, 5)
