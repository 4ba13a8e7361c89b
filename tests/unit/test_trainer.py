"""Training: the loss falls, what is not to be trained stays, and what can't be trained is refused."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray
from support.child import outcomes, start
from support.encoder_models import write_bert
from support.llama_models import write_llama
from support.oracle import LlamaOracle
from support.recurrent_models import write_mamba

import llama_cy
from llama_cy import Trainer

SIZES: dict[str, Any] = {"n_layer": 1, "n_embd": 32, "n_head": 2, "n_head_kv": 1, "n_ff": 32}
OPEN: dict[str, Any] = {"load_mode": "none", "n_gpu_layers": 0}
# A row that repeats; two windows and the token behind them.
TOKENS = np.resize(np.arange(20, 50), 513)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("models") / "small.gguf", seed=1, **SIZES)


@pytest.fixture
def model(path: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(path, **OPEN) as opened:
        yield opened


def saved(model: llama_cy.Model, path: Path) -> dict[str, NDArray[Any]]:
    model.save(path)
    return {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}


def test_loss_falls_and_the_weights_are_saved(model: llama_cy.Model, path: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    with Trainer(model, learning_rate=1e-2, n_threads=1) as trainer:
        assert trainer.n_ctx == 256
        first = trainer.epoch(TOKENS, progress=shares.append).train
        assert shares == [0.5, 1.0]
        for _ in range(4):
            last = trainer.epoch(TOKENS[:257]).train
        after = trainer.evaluate(TOKENS)
        names = set(trainer.parameters)
    assert (first.n_tokens, last.n_tokens, after.n_tokens) == (512, 256, 512)
    assert after.loss < last.loss + 0.05
    assert last.loss < 0.7 * first.loss
    assert after.accuracy > first.accuracy
    assert 0 < first.loss_uncertainty < first.loss
    assert 0 < after.accuracy_uncertainty < 0.1
    before = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(path).tensors}
    after_it = saved(model, tmp_path / "trained.gguf")
    assert {name for name in before if (before[name] != after_it[name]).any()} == names


def test_loss_is_the_cross_entropy(model: llama_cy.Model, path: Path) -> None:
    with Trainer(model) as trainer:
        fit = trainer.evaluate(TOKENS[:257])
    logits = LlamaOracle(path).logits(TOKENS[:256].tolist()).astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    expected = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(256), TOKENS[1:257]]
    assert fit.loss == pytest.approx(expected.mean(), rel=1e-4)
    assert fit.accuracy == pytest.approx((logits.argmax(axis=1) == TOKENS[1:257]).mean(), abs=0.01)
    assert math.isnan(fit.loss_uncertainty)


def test_filter(model: llama_cy.Model, tmp_path: Path) -> None:
    """Only what it takes moves, also when more was trained before."""
    with Trainer(model) as trainer:
        assert "output.weight" in trainer.parameters
        assert "token_embd.weight" not in trainer.parameters
    seen = {}

    def only(name: str, shape: tuple[int, ...]) -> bool:
        seen[name] = shape
        return "ffn_up" in name

    before = saved(model, tmp_path / "before.gguf")
    with Trainer(model, param_filter=only, learning_rate=1e-2) as trainer:
        assert trainer.parameters == ("blk.0.ffn_up.weight",)
        trainer.epoch(TOKENS[:257])
    after = saved(model, tmp_path / "after.gguf")
    assert seen["blk.0.attn_norm.weight"] == (32,)
    assert seen["blk.0.attn_k.weight"] == (16, 32)
    assert {name for name in before if (before[name] != after[name]).any()} == {"blk.0.ffn_up.weight"}


def test_without_a_filter_all_move(model: llama_cy.Model, tmp_path: Path) -> None:
    before = saved(model, tmp_path / "before.gguf")
    with Trainer(model, optimizer="sgd", learning_rate=0.5, weight_decay=0.1) as trainer:
        trainer.epoch(TOKENS[:257])
        names = set(trainer.parameters)
    after = saved(model, tmp_path / "after.gguf")
    assert {name for name in before if (before[name] != after[name]).any()} == names


def test_validation_trains_nothing(model: llama_cy.Model, tmp_path: Path) -> None:
    with Trainer(model) as trainer:
        before = saved(model, tmp_path / "before.gguf")
        epoch = trainer.epoch(TOKENS, validation=1.0)
        after = saved(model, tmp_path / "after.gguf")
        split = trainer.epoch(TOKENS, validation=0.5)
    assert epoch.train.n_tokens == 0
    assert all((before[name] == after[name]).all() for name in before)
    assert split.validation is not None
    assert (split.train.n_tokens, split.validation.n_tokens) == (256, 256)


def test_an_exception_in_a_callback(model: llama_cy.Model) -> None:
    def fail(*_: Any) -> bool:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        Trainer(model, param_filter=fail)
    assert caught.traceback[-1].name == "fail"
    with Trainer(model) as trainer:
        with pytest.raises(KeyError, match="mine") as caught:
            trainer.epoch(TOKENS, progress=fail)
        assert caught.traceback[-1].name == "fail"
        assert trainer.epoch(TOKENS[:257]).train.n_tokens == 256


def test_learning_rate(model: llama_cy.Model, tmp_path: Path) -> None:
    with Trainer(model, learning_rate=1e-30) as trainer:
        before = saved(model, tmp_path / "before.gguf")
        trainer.epoch(TOKENS[:257])
        same = saved(model, tmp_path / "same.gguf")
        trainer.learning_rate = 0.25
        assert trainer.learning_rate == 0.25
        trainer.epoch(TOKENS[:257])
        after = saved(model, tmp_path / "after.gguf")
    name = "blk.0.ffn_up.weight"
    assert (before[name] == same[name]).all()
    assert (same[name] != after[name]).any()


def test_interrupt(path: Path) -> None:
    source = """
    import sys, llama_cy
    model = llama_cy.Model(sys.argv[1], load_mode="none", n_gpu_layers=0)
    trainer = llama_cy.Trainer(model)
    try:
        trainer.epoch([20 + i % 30 for i in range(100_000)], progress=lambda share: print(share, flush=True))
    except KeyboardInterrupt:
        print("interrupted")
    """
    with start(source, path) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.stdout.read().splitlines()[-1] == "interrupted"


REFUSED = {
    "mapped": ("Trainer(Model(path, load_mode='mmap', n_gpu_layers=0))", "ContextError", "mapped"),
    "quantized": ("Trainer(llama_cy.demo_model(load_mode='none'))", "ContextError", "not F32"),
    "f16": ("Trainer(Model(half, **OPEN))", "ContextError", "not F32"),
    "vocabulary": ("Trainer(Model(path, vocab_only=True))", "ContextError", "vocab_only"),
    "encoder": ("Trainer(Model(bert, **OPEN)).epoch(TOKENS)", "ContextError", "t"),
    "recurrent": ("Trainer(Model(mamba, **OPEN)).epoch(TOKENS)", "ContextError", "t"),
    "experts": ("Trainer(Model(moe, **OPEN)).epoch(TOKENS)", "ContextError", "can't train"),
    "closed model": ("m = Model(path, **OPEN); m.close(); Trainer(m)", "ClosedError", "closed"),
    "closed": ("t = Trainer(model); t.close(); t.epoch(TOKENS)", "ClosedError", "closed"),
    "empty": ("Trainer.__new__(Trainer).epoch(TOKENS)", "ContextError", "not initialized"),
    "no model": ("Trainer(None)", "TypeError", "model"),
    "nothing": ("Trainer(model, param_filter=lambda name, shape: False)", "ContextError", "nothing to train"),
    "filter": ("Trainer(model, param_filter='x')", "TypeError", "param_filter"),
    "optimizer": ("Trainer(model, optimizer='adam')", "ValueError", "adam"),
    "sgd has no beta": ("Trainer(model, optimizer='sgd', beta1=0.5)", "TypeError", "beta1"),
    "rate": ("Trainer(model, learning_rate=0)", "ValueError", "learning_rate is 0.0"),
    "rate that vanishes": ("Trainer(model, learning_rate=1e-60)", "ValueError", "1e-60"),
    "rate nan": ("Trainer(model, learning_rate=float('nan'))", "ValueError", "nan"),
    "rate text": ("Trainer(model, learning_rate='1')", "TypeError", "number"),
    "beta": ("Trainer(model, beta2=1.5)", "ValueError", "beta2 is 1.5"),
    "beta of one": ("Trainer(model, beta1=1.0)", "ValueError", "less than 1"),
    "eps": ("Trainer(model, eps=-1.0)", "ValueError", "eps"),
    "decay": ("Trainer(model, weight_decay=2)", "ValueError", "weight_decay is 2"),
    "n_ctx": ("Trainer(model, n_ctx=0)", "ValueError", "n_ctx is 0"),
    "few tokens": ("trainer.epoch(TOKENS[:256])", "ValueError", "256 tokens"),
    "no tokens": ("trainer.epoch([])", "ValueError", "0 tokens"),
    "token": ("trainer.epoch([100000] * 257)", "ValueError", "100000"),
    "negative token": ("trainer.epoch([-1] * 257)", "ValueError", "-1"),
    "large token": ("trainer.epoch([2**70] * 257)", "TypeError", "integers"),
    "real tokens": ("trainer.epoch([0.5] * 257)", "TypeError", "integers"),
    "text": ("trainer.epoch('a' * 257)", "TypeError", "tokens"),
    "rows": ("trainer.epoch(np.ones((2, 257), int))", "TypeError", "2 dimensions"),
    "stride": ("trainer.epoch(TOKENS, stride=0)", "ValueError", "stride is 0"),
    "validation": ("trainer.epoch(TOKENS, validation=2)", "ValueError", "validation"),
    "seed": ("trainer.epoch(TOKENS, seed=-1)", "ValueError", "seed"),
    "other windows": ("a = Trainer(model); Trainer(model, n_ctx=512); a.epoch(TOKENS)", "ContextError", "another size"),
}  # fmt: skip

SETUP = """
import sys, numpy as np, llama_cy
from llama_cy import Model, Trainer
path, half, bert, mamba, moe = sys.argv[3:8]
OPEN = {"load_mode": "none", "n_gpu_layers": 0}
TOKENS = np.resize(np.arange(20, 50), 513)
model = Model(path, **OPEN)
trainer = Trainer(Model(path, **OPEN))
"""


def test_refused(path: Path, tmp_path: Path) -> None:
    files = [
        path,
        write_llama(tmp_path / "half.gguf", weight_type="F16", **SIZES),
        write_bert(tmp_path / "bert.gguf"),
        write_mamba(tmp_path / "mamba.gguf"),
        write_llama(tmp_path / "moe.gguf", n_expert=4, **SIZES),
    ]
    found = outcomes(SETUP, {name: case[0] for name, case in REFUSED.items()}, *files)
    wrong = {
        name: found[name]
        for name, (_, error, text) in REFUSED.items()
        if error not in found[name].raised or text not in found[name].text
    }
    assert wrong == {}
