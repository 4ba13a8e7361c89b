"""Training: the loss falls, only what was chosen changes, and what llama.cpp can't train is refused before."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGUFReader
from support.child import outcomes
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_mamba

import llama_cy
from llama_cy import Tensor, Trainer

# Not every GPU has every step backwards.
pytestmark = pytest.mark.cpu

N_CTX = 256
PARAMS: dict[str, Any] = {"n_ctx": N_CTX, "n_batch": N_CTX, "n_ubatch": N_CTX, "n_threads": 1}
# A text with a rule in it, and nothing that a model without weights would know.
TEXT = np.tile([5, 9, 17, 33, 65, 129, 200, 250], 100).astype(np.int32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_llama(tmp_path / "tiny.gguf", n_layer=1, seed=3)


@pytest.fixture
def model(path: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(path, load_mode="none", n_gpu_layers=0) as opened:
        yield opened


@pytest.fixture
def context(model: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with model.context(**PARAMS) as opened:
        yield opened


def weights(path: Path) -> dict[str, npt.NDArray[np.float32]]:
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}


def logits(model: llama_cy.Model) -> npt.NDArray[np.float32]:
    with model.context(n_ctx=64, n_threads=1) as context:
        context.decode(TEXT[:20])
        return context.logits()


@pytest.mark.parametrize(("optimizer", "rate"), [("adamw", 3e-3), (llama_cy.OptOptimizerType.SGD, 0.05)])
def test_the_loss_falls(context: llama_cy.Context, optimizer: str, rate: float) -> None:
    trainer = Trainer(context, optimizer=optimizer, learning_rate=rate)
    losses = []
    for _ in range(4):
        result = trainer.epoch(TEXT)
        assert result.eval is None
        assert result.train is not None
        assert result.train.n_tokens == 3 * N_CTX
        assert 0 <= result.train.accuracy <= 1
        assert result.train.loss_uncertainty > 0
        losses.append(result.train.loss)
        accuracy = result.train.accuracy
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.7 * losses[0]
    assert accuracy > 0.1


def test_what_was_learned_is_saved(path: Path, model: llama_cy.Model, tmp_path: Path) -> None:
    before, untrained = weights(path), logits(model)
    with model.context(**PARAMS) as context:
        Trainer(context, learning_rate=3e-3).epoch(TEXT)
        again = write_llama(tmp_path / "again.gguf", n_layer=1, seed=3)
        assert all(np.array_equal(weights(again)[name], values) for name, values in before.items())
    trained = logits(model)
    assert not np.allclose(trained, untrained, atol=0.1)
    saved = tmp_path / "trained.gguf"
    model.save(saved)
    with llama_cy.Model(saved, n_gpu_layers=0) as reloaded:
        assert np.array_equal(logits(reloaded), trained)
    after = weights(saved)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    # llama.cpp leaves the embeddings of tokens alone.
    assert changed == set(before) - {"token_embd.weight"}


def test_only_what_was_chosen_changes(path: Path, model: llama_cy.Model, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def choose(tensor: Tensor) -> bool:
        seen.append(tensor)
        return tensor.name == "output.weight" or tensor.name.startswith("blk.0.ffn")

    # Another trainer of the model came before, and chose all.
    with model.context(**PARAMS) as context:
        assert len(Trainer(context).parameters) == len(weights(path)) - 1
    with model.context(**PARAMS) as context:
        trainer = Trainer(context, choose, learning_rate=1e-3)
        assert {tensor.name for tensor in seen} == set(weights(path)) - {"token_embd.weight"}
        assert all(tensor.data.size == 0 for tensor in seen)
        names = {tensor.name for tensor in trainer.parameters}
        assert names == {"output.weight", *(name for name in weights(path) if name.startswith("blk.0.ffn"))}
        assert {tensor.shape for tensor in trainer.parameters} >= {(395, 64)}
        trainer.epoch(TEXT)
    model.save(tmp_path / "trained.gguf")
    before, after = weights(path), weights(tmp_path / "trained.gguf")
    assert {name for name in before if not np.array_equal(before[name], after[name])} == names


def test_what_is_held_back_is_measured_only(path: Path, model: llama_cy.Model, tmp_path: Path) -> None:
    with model.context(**PARAMS) as context:
        trainer = Trainer(context, learning_rate=1e-3)
        held = trainer.epoch(TEXT, eval_share=1.0)
        assert held.train is None
        assert held.eval is not None
        assert held.eval.n_tokens == 3 * N_CTX
        assert trainer.epoch((), eval_tokens=TEXT).eval == held.eval
        model.save(tmp_path / "same.gguf")
        before, after = weights(path), weights(tmp_path / "same.gguf")
        assert all(np.array_equal(before[name], after[name]) for name in before)
        # The first sequence is measured before anything was learned from it.
        both = trainer.epoch(TEXT, eval_share=0.34, stride=N_CTX)
        assert both.train is not None
        assert both.eval is not None
        assert (both.train.n_tokens, both.eval.n_tokens) == (2 * N_CTX, N_CTX)
        assert both.eval.loss < held.eval.loss


def test_loss_is_the_cross_entropy(model: llama_cy.Model) -> None:
    """What llama.cpp reports is what the logits of an ordinary context say."""
    with model.context(**PARAMS) as context:
        found = Trainer(context).epoch((), eval_tokens=TEXT[: N_CTX + 1]).eval
    assert found is not None
    with model.context(n_ctx=N_CTX, n_threads=1, type_k="f32", type_v="f32") as context:
        context.decode(llama_cy.Batch.from_arrays(TEXT[:N_CTX], np.arange(N_CTX), 0, np.ones(N_CTX, bool)))
        rows = context.logits_all().astype(np.float64)
    rows -= rows.max(axis=1, keepdims=True)
    chosen = rows[np.arange(N_CTX), TEXT[1 : N_CTX + 1]] - np.log(np.exp(rows).sum(axis=1))
    assert found.loss == pytest.approx(-chosen.mean(), rel=1e-3)
    assert found.accuracy == pytest.approx((rows.argmax(axis=1) == TEXT[1 : N_CTX + 1]).mean())
    assert np.isnan(found.loss_uncertainty)


def test_order_and_stride(path: Path) -> None:
    def train(seed: int | None, **options: Any) -> list[float]:
        with llama_cy.Model(path, load_mode="none", n_gpu_layers=0) as model, model.context(**PARAMS) as context:
            trainer = Trainer(context, learning_rate=1e-3)
            text = np.random.default_rng(0).integers(0, 395, 4 * N_CTX + 1).astype(np.int32)
            results = [trainer.epoch(text, seed=seed, **options).train for _ in range(2)]
            assert all(result is not None for result in results)
            return [result.loss for result in results if result is not None]

    assert train(None) == train(None) != train(1) == train(1)
    assert train(None, stride=N_CTX // 2) != train(None)


def test_learning_rate_is_for_the_next_steps(context: llama_cy.Context) -> None:
    trainer = Trainer(context, learning_rate=1e-3)
    assert trainer.learning_rate == pytest.approx(1e-3)
    first = trainer.epoch(TEXT)
    trainer.learning_rate = 1e-30
    second, third = trainer.epoch(TEXT, eval_share=1.0), trainer.epoch(TEXT)
    assert first.train is not None
    assert second.eval is not None
    assert third.train is not None
    assert third.train.loss == pytest.approx(second.eval.loss, rel=1e-6)


class TestEnds:
    def test_progress(self, context: llama_cy.Context) -> None:
        seen: list[tuple[int, int]] = []
        Trainer(context).epoch(TEXT, progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 3), (2, 3), (3, 3)]

    def test_what_a_function_raises(self, model: llama_cy.Model) -> None:
        def fail(*_: object) -> None:
            raise KeyError("mine")

        with model.context(**PARAMS) as context:
            trainer = Trainer(context)
            with pytest.raises(KeyError, match="mine") as raised:
                trainer.epoch(TEXT, progress=fail)
            assert raised.traceback[-1].name == "fail"
            assert trainer.epoch(TEXT).train is not None
        with model.context(**PARAMS) as context, pytest.raises(KeyError, match="mine"):
            Trainer(context, fail)

    def test_cancel(self, context: llama_cy.Context) -> None:
        trainer = Trainer(context)
        done: list[int] = []

        def cancel(i: int, _: int) -> None:
            done.append(i)
            thread = threading.Thread(target=context.cancel)
            thread.start()
            thread.join()

        with pytest.raises(llama_cy.DecodeAborted, match="after 1 of 3 sequences"):
            trainer.epoch(TEXT, progress=cancel)
        assert done == [1]
        assert trainer.epoch(TEXT).train is not None

    def test_context_only_trains(self, context: llama_cy.Context) -> None:
        trainer = Trainer(context)
        assert repr(trainer) == f"<Trainer of {len(trainer.parameters)} weights with adamw>"
        for use in (lambda: context.decode([1, 2]), lambda: context.complete([1, 2]), lambda: Trainer(context)):
            with pytest.raises(llama_cy.ContextError, match="train"):
                use()
        with pytest.raises(ValueError, match=r"logits|decode"):
            context.logits()

    def test_closed(self, context: llama_cy.Context) -> None:
        trainer = Trainer(context)
        context.close()
        for use in (lambda: trainer.epoch(TEXT), lambda: Trainer(context)):
            with pytest.raises(llama_cy.ClosedError):
                use()

    def test_another_size(self, model: llama_cy.Model) -> None:
        """The size that a model is trained with is a fact of the model in llama.cpp."""
        size = {"n_ctx": 512, "n_batch": 512, "n_ubatch": 512}
        with model.context(**PARAMS) as context, model.context(**PARAMS | size) as larger:
            trainer = Trainer(context)
            other = Trainer(larger)
            with pytest.raises(llama_cy.ContextError, match="another size"):
                trainer.epoch(TEXT)
            assert other.epoch(TEXT).train is not None


SETUP = """
import sys
import numpy as np
import llama_cy
from llama_cy import Trainer

N = {"n_ctx": 256, "n_batch": 256, "n_ubatch": 256, "n_threads": 1}
text = np.tile(np.arange(3, 35), 20).astype(np.int32)
paths = dict(item.split("=", 1) for item in sys.argv[3:])

def train(path, load={"load_mode": "none"}, filter=None, **params):
    with llama_cy.Model(paths[path], n_gpu_layers=0, **load) as model, model.context(**{**N, **params}) as context:
        return Trainer(context, filter, learning_rate=1e-3).epoch(text).train.n_tokens

def trainer(**options):
    with llama_cy.Model(paths["llama"], load_mode="none") as model, model.context(**N) as context:
        return Trainer(context, **options)

def epoch(*tokens, **options):
    with llama_cy.Model(paths["llama"], load_mode="none") as model, model.context(**N) as context:
        return Trainer(context).epoch(*tokens, **options)
"""
CONTEXT = "ContextError"
REFUSED = {
    "mapped into memory": ("train('llama', {})", CONTEXT, "load_mode='none'"),
    "mapped by name": ("train('llama', {'load_mode': 'mmap'})", CONTEXT, "load_mode='none'"),
    "half floats": ("train('half')", CONTEXT, "float32 weights only"),
    "quantized": ("train('q8')", CONTEXT, "float32 weights only"),
    "mamba": ("train('mamba')", CONTEXT, "recurrent"),
    "jamba": ("train('jamba')", CONTEXT, "recurrent"),
    "small micro-batches": ("train('llama', n_ubatch=128)", CONTEXT, "n_ubatch must be n_ctx, which is 256"),
    "small batches": ("train('llama', n_batch=128, n_ubatch=128)", CONTEXT, "must be n_ctx, which is 256"),
    "two sequences": ("train('llama', n_seq_max=2)", CONTEXT, "n_seq_max is 2"),
    "few outputs": ("train('llama', n_outputs_max=8)", CONTEXT, "n_outputs_max is 8"),
    "embeddings": ("train('llama', embeddings=True)", CONTEXT, "without embeddings"),
    "watched": ("train('llama', eval_callback=print)", CONTEXT, "without an eval callback"),
    "no function": ("train('llama', filter='output')", "TypeError", "param_filter must be callable, not str"),
    "nothing chosen": ("train('llama', filter=lambda tensor: False)", "ValueError", "chose nothing"),
    "only what llama.cpp passes over": (
        "train('llama', filter=lambda tensor: tensor.name == 'token_embd.weight')",
        "ValueError",
        "chose nothing",
    ),
    "no context": ("Trainer(None)", "TypeError", "None"),
    "an optimizer nobody knows": ("trainer(optimizer='lion')", "ValueError", "optimizer is 'lion'"),
    "the count of optimizers": ("trainer(optimizer='count')", "ValueError", "expected one of adamw, sgd"),
    "rate 0": ("trainer(learning_rate=0)", "ValueError", "learning_rate is 0"),
    "rate below 0": ("trainer(learning_rate=-1.0)", "ValueError", "learning_rate is -1"),
    "rate NaN": ("trainer(learning_rate=float('nan'))", "ValueError", "learning_rate is nan"),
    "beta1 of 1": ("trainer(beta1=1.0)", "ValueError", "beta1 is 1.0"),
    "beta2 below 0": ("trainer(beta2=-0.1)", "ValueError", "beta2 is -0.1"),
    "eps below 0": ("trainer(eps=-1)", "ValueError", "eps is -1"),
    "decay above 1": ("trainer(weight_decay=1.5)", "ValueError", "weight_decay is 1.5"),
    "a decay of text": ("trainer(weight_decay='0')", "TypeError", "weight_decay must be a number"),
    "too short": ("epoch(text[:256])", "ValueError", "256 tokens are too few.*257"),
    "nothing": ("epoch([])", "ValueError", "0 tokens are too few"),
    "too short to measure": ("epoch(text, eval_tokens=text[:9])", "ValueError", "9 eval_tokens are too few"),
    "text": ("epoch('Once upon a time')", "TypeError", "tokenize a text first"),
    "a token too many": ("epoch([10**6] * 300)", "ValueError", "token 1000000"),
    "a token -1": ("epoch(np.full(300, -1, np.int32))", "ValueError", "token -1 at index 0"),
    "stride 0": ("epoch(text, stride=0)", "ValueError", "stride is 0"),
    "a share above 1": ("epoch(text, eval_share=1.1)", "ValueError", "eval_share is 1.1"),
    "seed -1": ("epoch(text, seed=-1)", "ValueError", "seed is -1"),
    "progress of text": ("epoch(text, progress='bar')", "TypeError", "progress must be callable, not str"),
}
# What llama.cpp computes and has no gradients for comes out in its words; and the process lives.
KINDS = {
    "tied": ("train('tied')", (), "512"),
    "experts": ("train('experts')", (CONTEXT,), "can't train this model: .*backward"),
    "a window": ("train('gemma3')", (CONTEXT,), "can't train this model"),
    "experts, but for them": ("train('experts', filter=lambda tensor: tensor.name == 'output.weight')", (), "512"),
    "half cache": ("train('llama', type_k='f16', type_v='f16')", (), "512"),
    "quantized cache": ("train('wide', type_k='q8_0')", (), "512"),
    "flash attention": ("train('llama', flash_attn_type='enabled')", (), "512"),
    "flash attention and a quantized cache": (
        "train('wide', flash_attn_type='enabled', type_k='q8_0', type_v='q8_0')",
        (),
        "512",
    ),
}


def write_all(folder: Path) -> list[str]:
    """Write a model of each kind and return ``name=path`` for each."""
    written = {
        "llama": write_llama(folder / "llama.gguf"),
        "tied": write_llama(folder / "tied.gguf", tied=True),
        "experts": write_llama(folder / "experts.gguf", n_expert=4),
        "wide": write_llama(folder / "wide.gguf", head_dim=32),
        "half": write_llama(folder / "half.gguf", weight_type="F16"),
        "q8": write_llama(folder / "q8.gguf", weight_type="Q8_0"),
        "mamba": write_mamba(folder / "mamba.gguf"),
        "jamba": write_jamba(folder / "jamba.gguf"),
        "gemma3": write_gemma3(folder / "gemma3.gguf"),
    }
    return [f"{name}={path}" for name, path in written.items()]


def test_refused(tmp_path: Path) -> None:
    came_to = outcomes(SETUP, {name: source for name, (source, _, _) in REFUSED.items()}, *write_all(tmp_path))
    for name, (_, error, text) in REFUSED.items():
        assert error in came_to[name].raised, (name, came_to[name])
        assert re.search(text, came_to[name].text), (name, came_to[name])


def test_kinds(tmp_path: Path) -> None:
    came_to = outcomes(SETUP, {name: source for name, (source, _, _) in KINDS.items()}, *write_all(tmp_path))
    for name, (_, error, text) in KINDS.items():
        assert set(error) <= set(came_to[name].raised), (name, came_to[name])
        assert bool(error) == bool(came_to[name].raised), (name, came_to[name])
        assert re.search(text, came_to[name].text), (name, came_to[name])
