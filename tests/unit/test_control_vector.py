"""Control vectors: what they add to the layers, where they come from, and files that are none."""

from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.child import outcomes
from support.encoder_models import write_bert
from support.llama_models import write_llama
from support.oracle import LlamaOracle, relative_error
from support.precision import assert_near, rounding

import llama_cy
from llama_cy import ControlVector
from llama_cy.cvec import WITHOUT

TOKENS = [1, 5, 7, 11, 2]
N_EMBD = 64
N_LAYER = 4
# As in conformance/test_logits.py, where exact means F32 throughout.
EXACT: dict[str, Any] = {
    "n_ctx": 64, "n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled",
}  # fmt: skip
TOLERANCE = rounding(5e-5)
VENDORED = Path(__file__).resolve().parents[2] / "vendor" / "llama.cpp" / "src" / "models"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "four.gguf", n_layer=N_LAYER, seed=3)


@pytest.fixture(scope="module")
def model(path: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(path) as opened:
        yield opened


@pytest.fixture
def context(model: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with model.context(**EXACT) as opened:
        yield opened


def some(seed: int, rows: int = N_LAYER - 1) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, N_EMBD), dtype=np.float32)


def row_of(context: llama_cy.Context) -> NDArray[np.float32]:
    context.memory.clear()
    context.decode(TOKENS)
    return context.logits()


def steered(path: Path, directions: Mapping[int, NDArray[Any]]) -> NDArray[np.float64]:
    """Return the oracle's last row with something added to what these layers give."""
    oracle = LlamaOracle(path)
    for layer, direction in directions.items():
        oracle.steer(layer, direction)
    row: NDArray[np.float64] = oracle.logits(TOKENS)[-1]
    return row


class TestEffect:
    @given(
        scales=st.lists(st.floats(-3, 3), min_size=1, max_size=3),
        rows=st.integers(1, N_LAYER - 1),
        bounds=st.tuples(st.integers(1, N_LAYER - 1), st.integers(1, N_LAYER - 1)).map(sorted),
    )
    def test_is_that_of_the_sum_at_each_layer(
        self, model: llama_cy.Model, path: Path, scales: list[float], rows: int, bounds: list[int]
    ) -> None:
        vectors = {ControlVector(some(seed, rows)): scale for seed, scale in enumerate(scales)}
        total = np.zeros((rows, N_EMBD))
        for vector, scale in vectors.items():
            total += scale * vector.directions
        layers = range(bounds[0], bounds[1] + 1)
        want = steered(path, {layer: total[layer - 1] for layer in layers if layer <= rows})
        with model.context(**EXACT) as context:
            context.set_control_vectors(ControlVector(some(99)))
            context.set_control_vectors(vectors, il_start=bounds[0], il_end=bounds[1])
            assert relative_error(row_of(context), want) < TOLERANCE

    def test_comes_and_goes(self, context: llama_cy.Context, path: Path) -> None:
        plain = row_of(context)
        first, second = ControlVector(some(1)), ControlVector(some(2))
        assert context.control_vectors == []
        context.set_control_vectors(first)
        assert context.control_vectors == [(first, 1.0)]
        assert relative_error(row_of(context), plain) > 0.01
        context.set_control_vectors([first, (second, 0.5)])
        assert context.control_vectors == [(first, 1.0), (second, 0.5)]
        both = row_of(context)
        context.set_control_vectors(first + 0.5 * second)
        assert_near(row_of(context), both, rtol=1e-4, atol=1e-4)
        empty: list[Any] = [None, [], {}]
        for nothing in empty:
            context.set_control_vectors(first)
            context.set_control_vectors(nothing)
            assert np.array_equal(row_of(context), plain)
            assert context.control_vectors == []

    def test_a_prompt_is_not_reused_across_a_change(self, context: llama_cy.Context) -> None:
        list(context.generate(TOKENS, max_tokens=1))
        context.set_control_vectors(ControlVector(some(1)))
        loop = context.generate(TOKENS, max_tokens=1)
        list(loop)
        assert loop.reused == 0

    def test_other_contexts_are_plain(self, model: llama_cy.Model, context: llama_cy.Context) -> None:
        plain = row_of(context)
        with model.context(**EXACT) as other:
            other.set_control_vectors(ControlVector(some(1)))
            row_of(other)
            assert np.array_equal(row_of(context), plain)

    def test_is_let_go(self, context: llama_cy.Context) -> None:
        vector = ControlVector(some(1))
        gone = weakref.ref(vector)
        context.set_control_vectors(vector)
        del vector
        gc.collect()
        assert gone() is not None
        context.close()
        gc.collect()
        assert gone() is None


class TestValue:
    def test_holds_a_copy(self) -> None:
        array = some(1)
        vector = ControlVector(array, model_hint="llama")
        array[0, 0] = 100
        assert vector.directions[0, 0] != 100
        assert not vector.directions.flags.writeable
        assert vector.directions.dtype == np.float32
        assert vector.directions.shape == (3, N_EMBD)
        assert (vector.n_embd, vector.model_hint) == (N_EMBD, "llama")
        assert repr(vector) == "<ControlVector of 3 layers, 64 numbers each>"

    def test_arithmetic(self) -> None:
        long, short = ControlVector(some(1)), ControlVector(some(2, 1), model_hint="llama")
        total = 2 * (long - short) * 0.25
        want = some(1) / 2
        want[:1] -= some(2, 1) / 2
        np.testing.assert_allclose(total.directions, want, rtol=1e-6)
        np.testing.assert_array_equal((-long).directions, -some(1))
        assert total.model_hint == "llama"
        for wrong in (lambda: long + 1, lambda: long * long, lambda: 1 - long):  # type: ignore[operator]
            with pytest.raises(TypeError):
                wrong()
        with pytest.raises(ValueError, match="of 64 and of 3 numbers"):
            long + ControlVector([[1, 2, 3]])


class TestFile:
    @given(
        rows=st.integers(1, 5),
        seed=st.integers(0, 99),
        hint=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
    )
    def test_round_trip(self, tmp_path_factory: pytest.TempPathFactory, rows: int, seed: int, hint: str) -> None:
        path = tmp_path_factory.mktemp("vectors") / "vector.gguf"
        vector = ControlVector(some(seed, rows), model_hint=hint)
        vector.save(path)
        found = ControlVector.load(path)
        np.testing.assert_array_equal(found.directions, vector.directions)
        assert found.model_hint == hint
        assert [entry.name for entry in path.parent.iterdir()] == ["vector.gguf"]

    def test_is_as_others_read_it(self, tmp_path: Path) -> None:
        ControlVector(some(1), model_hint="llama").save(tmp_path / "vector.gguf")
        file = GGUFReader(tmp_path / "vector.gguf")
        facts = {key: file.fields[key].contents() for key in file.fields if not key.startswith("GGUF")}
        assert facts == {
            "general.architecture": "controlvector",
            "controlvector.model_hint": "llama",
            "controlvector.layer_count": 3,
        }
        assert [tensor.name for tensor in file.tensors] == ["direction.1", "direction.2", "direction.3"]
        np.testing.assert_array_equal(np.stack([tensor.data for tensor in file.tensors]), some(1))

    def test_is_as_others_write_it(self, tmp_path: Path) -> None:
        write(tmp_path / "vector.gguf", {"direction.3": some(1)[0], "direction.1": some(1)[1]})
        found = ControlVector.load(str(tmp_path / "vector.gguf"))
        np.testing.assert_array_equal(found.directions, [some(1)[1], np.zeros(N_EMBD), some(1)[0]])
        assert found.model_hint == ""


def write(path: Path, tensors: Mapping[str, NDArray[Any]]) -> Path:
    file = GGUFWriter(path, "controlvector")
    for name, values in tensors.items():
        file.add_tensor(name, values)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path


ROW = np.ones(N_EMBD, dtype=np.float32)
BAD_FILES: dict[str, tuple[dict[str, NDArray[Any]], str]] = {
    "layer 0": ({"direction.0": ROW}, r"'direction\.0' is no direction of a layer from 1 on"),
    "layer of no number": ({"direction.one": ROW}, "'direction.one' is no direction"),
    "too many layers": ({"direction.4097": ROW}, r"'direction\.4097' is no direction"),
    "a layer twice": ({"direction.1": ROW, "direction.01": ROW}, r"'direction\.01' is no direction"),
    "something else": ({"blk.0.attn_q.weight": ROW}, "is no direction"),
    "sixteen bits": ({"direction.1": ROW.astype(np.float16)}, "of type f16, not f32"),
    "a matrix": ({"direction.1": np.ones((2, 4), np.float32)}, r"has the shape \(1, 1, 2, 4\)"),
    "two widths": ({"direction.1": ROW, "direction.2": ROW[:9]}, r"direction\.2 has the shape .* row of 64 numbers"),
    "no number": ({"direction.1": ROW * np.nan}, r"direction\.1 holds a number that is not finite"),
    "nothing": ({}, "it has no directions"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(tmp_path: Path, name: str) -> None:
    tensors, text = BAD_FILES[name]
    path = write(tmp_path / "bad.gguf", tensors)
    with pytest.raises(llama_cy.ModelLoadError, match=f"cannot load the control vector.*{text}"):
        ControlVector.load(path)


def test_cut_files(tmp_path: Path) -> None:
    ControlVector(some(1)).save(tmp_path / "good.gguf")
    good = (tmp_path / "good.gguf").read_bytes()
    for length in (0, 3, 10, 100, len(good) // 2, len(good) - 40):
        (tmp_path / "cut.gguf").write_bytes(good[:length])
        with pytest.raises(llama_cy.ModelLoadError):
            ControlVector.load(tmp_path / "cut.gguf")
    with pytest.raises(llama_cy.ModelLoadError, match="No such file"):
        ControlVector.load(tmp_path / "missing.gguf")


class TestFromPrompts:
    @pytest.mark.parametrize("method", ["mean", "pca"])
    @pytest.mark.parametrize("normalize", [True, False])
    def test_equals_numpy(self, model: llama_cy.Model, method: Any, normalize: bool) -> None:
        positive, negative = [[1, 5, 9], [7], [3, 4]], [[1, 5, 8], [17, 2], [5]]
        found = ControlVector.from_prompts(model, positive, negative, method=method, normalize=normalize, n_threads=1)
        states: dict[str, NDArray[Any]] = {}

        def last(context: llama_cy.Context, tokens: list[int]) -> NDArray[np.float64]:
            context.memory.clear()
            context.decode(tokens)
            return np.stack([states[f"l_out-{layer}"][-1] for layer in range(1, N_LAYER)]).astype(float)

        def note(tensor: llama_cy.Tensor) -> None:
            states[tensor.name] = tensor.data

        with model.context(n_ctx=64, n_threads=1, eval_callback=note) as context:
            differences = np.stack(
                [last(context, a) - last(context, b) for a, b in zip(positive, negative, strict=True)]
            )
        want = differences.mean(axis=0)
        if method == "pca":
            for layer in range(N_LAYER - 1):
                _, axes = np.linalg.eigh(differences[:, layer].T @ differences[:, layer])
                want[layer] = axes[:, -1] * (axes[:, -1] @ want[layer])
        if normalize:
            want /= np.linalg.norm(want, axis=1, keepdims=True)
        assert_near(found.directions, want, rtol=1e-3, atol=1e-4)
        assert found.model_hint == "llama"

    def test_long_prompts(self, model: llama_cy.Model) -> None:
        # More than one micro-batch; the last piece is what counts.
        found = ControlVector.from_prompts(model, [[5] * 700], [[7] * 600])
        assert found.directions.any(axis=1).all()


TEMPLATES = (
    "Once upon a time, there was a little {} named {}.",
    "There was a {} named {}.",
    "A {} named {} lived in the park.",
    "One day, a {} named {} went to the lake.",
)


@pytest.mark.parametrize("method", ["mean", "pca"])
def test_steers_the_built_in_model(demo: llama_cy.Model, method: Any) -> None:
    positive = [text.format("girl", name) for text in TEMPLATES for name in ("Lily", "Emma", "Mia", "Anna")]
    negative = [text.format("boy", name) for text in TEMPLATES for name in ("Tim", "Max", "Tom", "Ben")]
    vector = ControlVector.from_prompts(demo, positive, negative, method=method)
    (she,), (he,) = (demo.vocab.tokenize(word, add_special=False) for word in (" She", " He"))
    prompt = demo.vocab.tokenize("Once upon a time, there was a little otter who lived in the forest.")
    leans = []
    with demo.context(n_ctx=256) as context:
        for scale in (-0.5, 0.0, 0.5):
            context.set_control_vectors({vector: scale})
            context.memory.clear()
            context.decode(prompt)
            row = context.logits()
            leans.append(float(row[she] - row[he]))
    # "She" becomes e times as likely, beside "He", and the other way round.
    assert leans[0] + 1 < leans[1] < leans[2] - 1


VALUE, TYPE = "ValueError", "TypeError"
SETUP = """
import sys
from math import inf, nan
import numpy as np
import llama_cy
from llama_cy import ControlVector

folder = sys.argv[3] + "/"
model = llama_cy.Model(folder + "four.gguf", n_gpu_layers=0)
good = ControlVector(np.ones((3, 64)))

def fresh(model=model):
    return model.context(n_ctx=64, n_threads=1)

def set_on(vectors, **params):
    context = fresh()
    context.set_control_vectors(vectors, **params)
    context.decode([1, 2])

def load(name):
    return llama_cy.Model(folder + name, n_gpu_layers=0)

def of(*sides, **params):
    return ControlVector.from_prompts(model, *sides, **params)
"""
REFUSED = {
    "directions of text": ("ControlVector('abc')", VALUE, "could not convert"),
    "directions of None": ("ControlVector(None)", VALUE, r"shape \(\)"),
    "one row": ("ControlVector([1, 2])", VALUE, r"shape \(2,\)"),
    "no rows": ("ControlVector(np.zeros((0, 64)))", VALUE, r"shape \(0, 64\)"),
    "no columns": ("ControlVector(np.zeros((3, 0)))", VALUE, r"shape \(3, 0\)"),
    "complex directions": ("ControlVector(np.ones((3, 64), complex))", TYPE, "real numbers, not complex"),
    "ragged rows": ("ControlVector([[1], [1, 2]])", VALUE, "inhomogeneous"),
    "nan": ("ControlVector([[0], [nan]])", VALUE, "layer 2 holds a number that is not finite"),
    "beyond 32 bits": ("ControlVector([[1e39]])", VALUE, "layer 1 holds a number that is not finite"),
    "hint of bytes": ("ControlVector([[1]], model_hint=b'llama')", TYPE, "model_hint must be str, not bytes"),
    "hint with NUL": ("ControlVector([[1]], model_hint='a\\0')", VALUE, "NUL"),
    "hint that is no text": ("ControlVector([[1]], model_hint='\\ud800')", "UnicodeEncodeError", "surrogates"),
    "times nan": ("good * nan", VALUE, "factor is nan"),
    "times text": ("good * '2'", TYPE, "factor must be a number"),
    "times too much": ("good * 3e38 * 3e38", VALUE, "not finite"),
    "a list of numbers": ("set_on([1, 2])", TYPE, "pairs of a ControlVector and a scale, not"),
    "a number": ("set_on(5)", TYPE, "vectors must be a ControlVector"),
    "an array": ("set_on(np.ones((3, 64)))", TYPE, "pairs of a ControlVector and a scale"),
    "a triple": ("set_on([(good, 1, 2)])", TYPE, "pairs of a ControlVector and a scale"),
    "scale nan": ("set_on({good: nan})", VALUE, "scale is nan"),
    "scale inf": ("set_on({good: inf})", VALUE, "scale is inf"),
    "scale text": ("set_on({good: '1'})", TYPE, "scale must be a number"),
    "a sum beyond 32 bits": ("set_on([(good, 3e38), (good, 3e38)])", VALUE, "sum of the control vectors"),
    "other width": ("set_on(ControlVector(np.ones((3, 65))))", VALUE, "for another model.* 64 numbers each"),
    "more layers": ("set_on(ControlVector(np.ones((4, 64))))", VALUE, "for another model: this one has 3 layers"),
    "il_start 0": ("set_on(good, il_start=0)", VALUE, r"il_start is 0.*\[1, 3\]"),
    "il_start 4": ("set_on(good, il_start=4)", VALUE, r"il_start is 4.*\[1, 3\]"),
    "il_end below il_start": ("set_on(good, il_start=2, il_end=1)", VALUE, r"il_end is 1.*\[2, 3\]"),
    "il_end 4": ("set_on(good, il_end=4)", VALUE, r"il_end is 4.*\[1, 3\]"),
    "il_end text": ("set_on(good, il_end='3')", TYPE, "il_end must be an integer"),
    "one layer": ("fresh(load('one.gguf')).set_control_vectors(good)", "ContextError", "1 layers"),
    "an encoder": ("fresh(load('bert.gguf')).set_control_vectors(good)", "ContextError", "architecture bert"),
    "no prompts": ("of([], [])", VALUE, "0 positive and 0 negative"),
    "odd prompts": ("of(['a', 'b'], ['a'])", VALUE, "2 positive and 1 negative"),
    "a text for prompts": ("of('ab', 'cd')", TYPE, "positive must be an iterable, not str"),
    "equal prompts": ("of(['a', 'b'], ['c', 'b'])", VALUE, "pair 1 do not differ"),
    "an empty prompt": ("of([[]], [[1]])", "InvalidBatchError", "no token"),
    "a token out of range": ("of([[1]], [[10**6]])", VALUE, "1000000"),
    "a prompt of None": ("of([None], [[1]])", TYPE, "NoneType"),
    "method of no name": ("of(['a'], ['b'], method='median')", VALUE, "method is 'median'; expected mean or pca"),
    "layers not to be seen": (
        "ControlVector.from_prompts(load('one.gguf'), ['a'], ['b'])",
        "ContextError",
        "not to be seen",
    ),
    "a closed model": (
        "m = load('one.gguf'); m.close(); ControlVector.from_prompts(m, ['a'], ['b'])",
        "ClosedError",
        "",
    ),
    "a folder": ("ControlVector.load(folder)", "ModelLoadError", "folder|directory|regular"),
    "a model": ("ControlVector.load(folder + 'four.gguf')", "ModelLoadError", "is no direction"),
    "a folder to save to": ("good.save(folder)", "OSError", ""),
    "nowhere to save to": ("good.save('/nowhere/vector.gguf')", "OSError", "/nowhere"),
}


def test_refused(path: Path) -> None:
    write_llama(path.parent / "one.gguf", n_layer=1)
    write_bert(path.parent / "bert.gguf")
    came_to = outcomes(SETUP, {name: source for name, (source, _, _) in REFUSED.items()}, path.parent)
    for name, (_, error, text) in REFUSED.items():
        assert error in came_to[name].raised, (name, came_to[name])
        assert re.search(text, came_to[name].text), (name, came_to[name])


def test_architectures_without_them() -> None:
    """Those whose graph is built in their own file, and there without a control vector."""
    own_graph = re.compile(r"llm_graph_context\(params\)|ggml_build_forward_expand")
    text = {file.stem: file.read_text(encoding="utf-8") for file in VENDORED.glob("*.cpp")}
    assert len(text) > 100
    without = {name for name, source in text.items() if own_graph.search(source) and "build_cvec" not in source}
    # What others build on, and a draft head beside a graph that has them.
    without -= {"delta-net-base", "mamba-base", "rwkv6-base", "rwkv7-base", "nemotron-h-moe"}
    header = (VENDORED / "models.h").read_text(encoding="utf-8")
    same = re.findall(
        r"struct llama_model_(\w+) :(?:(?!\nstruct).)*?using graph = llama_model_(\w+)::graph;", header, re.DOTALL
    )
    without |= {name.replace("_", "-") for name, owner in same if owner.replace("_", "-") in without}
    assert "jina-bert-v3" in without
    named_otherwise = {"hy-v4": "hy_v4"}
    assert {named_otherwise.get(name, name) for name in without} == set(WITHOUT)
