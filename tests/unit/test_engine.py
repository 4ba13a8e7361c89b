"""One call loads a model into llama.cpp, NumPy or somebody else's engine."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.precision import assert_near

import llama_cy
from llama_cy import Engine, InferenceBackend, LlamaCppEngine, NumpyEngine

ENGINES = {"llama_cpp": LlamaCppEngine, "numpy": NumpyEngine}

# What another package installs.
ECHO = """
import numpy as np

class Echo:
    def __init__(self, path, params):
        self.path, self.params = path, params

    @classmethod
    def load(cls, path, *, progress=None, **params):
        if progress is not None:
            progress(1.0)
        return cls(path, params)

    def generate(self, prompt, **options):
        return iter([*prompt])

    def stream(self, prompt, **options):
        return iter([f"{prompt}!"])

    def logits(self, prompt):
        return np.zeros((len(prompt), 1), dtype=np.float32)

    def close(self):
        pass

class Half:
    load = generate = print
"""


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package that offers engines."""
    (tmp_path / "echo_engine.py").write_text(ECHO)
    info = tmp_path / "echo_engine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: echo-engine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[llama_cy.engines]\necho = echo_engine:Echo\nhalf = echo_engine:Half\n"
        "gone = no_such_module:Engine\nnumpy = echo_engine:Echo\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("echo_engine", None)


@pytest.mark.parametrize("name", ENGINES)
def test_every_engine_does_the_same(tiny: llama_cy.Model, name: str) -> None:
    for backend in (name, name.upper(), InferenceBackend(name)):
        engine = llama_cy.load(tiny.path, backend=backend, n_gpu_layers=0, n_ctx=64)
        assert type(engine) is ENGINES[name]
        assert isinstance(engine, Engine)
        tokens = list(engine.generate([5, 6], max_tokens=8, ignore_eog=True))
        assert len(tokens) == 8
        assert "".join(engine.stream([5, 6], max_tokens=8, ignore_eog=True)) == tiny.vocab.detokenize(tokens)
        rows = engine.logits([5, 6, *tokens])
        assert rows.dtype == np.float32
        assert rows.shape == (10, tiny.vocab.n_tokens)
        assert list(rows[1:-1].argmax(-1)) == tokens
        drawn = [list(engine.generate([5], max_tokens=8, temperature=2.0, seed=3, ignore_eog=True)) for _ in range(2)]
        assert drawn[0] == drawn[1]
        before = llama_cy.live_objects()["model"]
        engine.close()
        engine.close()
        assert llama_cy.live_objects()["model"] == before - 1
        with pytest.raises(llama_cy.ClosedError):
            list(engine.generate([5]))


def test_llama_cpp_is_what_one_gets(tiny: llama_cy.Model) -> None:
    with llama_cy.load(tiny.path, n_ctx=64, vocab_only=False, context={"n_threads": 1}) as engine:
        assert isinstance(engine, LlamaCppEngine)
        assert engine.context.n_threads == 1
        assert engine.context.n_ctx in (64, 256)
        assert repr(engine).startswith("<LlamaCppEngine with <Model")
    assert engine.closed
    with pytest.raises(llama_cy.ClosedError):
        engine.__enter__()


def test_long_prompts_take_several_batches(tiny: llama_cy.Model) -> None:
    tokens = [number % 90 + 3 for number in range(50)]
    with (
        llama_cy.load(tiny.path, n_ctx=64) as whole,
        llama_cy.load(tiny.path, n_ctx=64, context={"n_batch": 7}) as parts,
    ):
        assert_near(parts.logits(tokens), whole.logits(tokens), rtol=0.1, atol=0.1)
        for engine in (whole, parts):
            with pytest.raises(ValueError, match="empty"):
                engine.logits([])


def test_loading_under_asyncio(tiny: llama_cy.Model) -> None:
    shares: list[float] = []

    async def run() -> None:
        for backend in InferenceBackend:
            engine = await llama_cy.load_async(tiny.path, backend=backend, n_gpu_layers=0, progress=shares.append)
            assert type(engine) is ENGINES[backend.value]
            engine.close()
            assert shares.pop() == 1.0
        with pytest.raises(llama_cy.BackendError, match="there is no engine"):
            await llama_cy.load_async(tiny.path, backend="none")
        with pytest.raises(llama_cy.BackendError, match="n_gpu_layers is 99"):
            await llama_cy.load_async(tiny.path, backend="numpy", n_gpu_layers=99)

    asyncio.run(run())


@pytest.mark.parametrize("name", ENGINES)
def test_a_cancelled_load_ends(tiny: llama_cy.Model, name: str) -> None:
    shares: list[float] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        heard = threading.Event()

        def on_progress(share: float) -> None:
            shares.append(share)
            loop.call_soon_threadsafe(task.cancel)
            # The task hears of it in one of the next rounds of the event loop.
            loop.call_soon_threadsafe(lambda: loop.call_later(0.05, heard.set))
            assert heard.wait(20)

        task = asyncio.ensure_future(llama_cy.load_async(tiny.path, backend=name, progress=on_progress))
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert len(shares) == 1


def test_other_packages_offer_engines(others: None) -> None:
    assert llama_cy.engines() == ["echo", "gone", "half", "llama_cpp", "numpy"]
    offered = llama_cy.load("somewhere", backend="Echo", n_ctx=5)
    assert isinstance(offered, Engine)
    engine: Any = offered
    assert (engine.path, engine.params) == ("somewhere", {"n_ctx": 5})
    assert list(engine.stream("hello")) == ["hello!"]
    assert asyncio.run(llama_cy.load_async("somewhere", backend="echo")).logits([1, 2]).shape == (2, 1)


def test_other_packages_do_not_take_our_names(others: None, tiny: llama_cy.Model) -> None:
    with llama_cy.load(tiny.path, backend=InferenceBackend.NUMPY) as engine:
        assert isinstance(engine, NumpyEngine)


def test_engines_that_cannot_be_used(others: None) -> None:
    for name, message in (("half", r"the engine 'half' \(echo_engine:Half\) has no stream, logits, close"),
                          ("gone", r"the engine 'gone' \(no_such_module:Engine\) can't be imported: No module"),
                          ("llama-cpp", r"no engine 'llama-cpp'; installed are echo, .*; did you mean 'llama_cpp'\?"),
                          ("", r"no engine ''; installed are echo, gone, half, llama_cpp, numpy$")):  # fmt: skip
        with pytest.raises(llama_cy.BackendError, match=message):
            llama_cy.load("x", backend=name)
    with pytest.raises(TypeError, match="not int"):
        llama_cy.load("x", backend=5)  # type: ignore[call-overload]


def test_numpy_is_all_that_the_numpy_engine_imports(tiny: llama_cy.Model) -> None:
    code = (
        "import sys, llama_cy; before = set(sys.modules); "
        f"llama_cy.load({tiny.path!r}, backend='numpy').logits([5]); "
        "print({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) in (("set()\n", ""), ("{'numpy'}\n", ""))
