"""Fixtures and settings that every test shares."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support import unasked
from support.llama_models import write_llama
from support.offload import GPUS

import llama_cy
from llama_cy import loading

# Machines differ in speed and a wall-clock deadline would only measure that.
PATIENT = settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=25
)
# A shell's background jobs ignore SIGINT, and so would every process that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("default", PATIENT)
settings.register_profile("ci", PATIENT, derandomize=True)
settings.register_profile("expensive", PATIENT, max_examples=500)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if os.environ.get("CI") else "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("llama_cy")
    group.addoption("--device", default="auto", help="where models go of which a test says nothing: cpu, cuda:0")
    group.addoption("--gpu-layers", type=int, help="how many of their layers: 2 are the output and the last one")


def pytest_configure(config: pytest.Config) -> None:
    device, n_gpu_layers = config.getoption("device"), config.getoption("gpu_layers")
    if not GPUS and (device not in ("auto", "cpu") or n_gpu_layers):
        raise pytest.UsageError("--device and --gpu-layers choose where there is a GPU, and there is none")
    if (device, n_gpu_layers) != ("auto", None):
        unasked.ask(device, n_gpu_layers)
    if GPUS:
        unasked.patch(loading)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with unasked.asked("cpu") if GPUS and item.get_closest_marker("cpu") else nullcontext():
        return (yield)


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny random llama model."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_llama(path, seed=1)
    return path


@pytest.fixture(scope="session")
def shared(tiny_path: Path) -> Iterator[Callable[[str], llama_cy.Model]]:
    """Give models by name that live as long as the session, one for each place where tests want them."""
    models: dict[object, llama_cy.Model] = {}

    def get(name: str) -> llama_cy.Model:
        key = name, unasked.wanted()
        if key not in models:
            models[key] = llama_cy.Model({"tiny": tiny_path, "demo": llama_cy.demo_model_path()}[name])
        return models[key]

    yield get
    for model in models.values():
        model.close()


@pytest.fixture
def tiny(shared: Callable[[str], llama_cy.Model]) -> llama_cy.Model:
    """Give a tiny random llama model, shared by the session."""
    return shared("tiny")


@pytest.fixture
def demo(shared: Callable[[str], llama_cy.Model]) -> llama_cy.Model:
    """Give the built-in model, shared by the session."""
    return shared("demo")


@pytest.fixture(autouse=True)
def _native_objects_return(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves native objects behind."""
    for name in ("tiny", "demo"):
        # What lives for the whole session must be there before the count.
        if name in request.fixturenames:
            request.getfixturevalue(name)
    before = llama_cy.live_objects()
    yield
    if any(count > before[kind] for kind, count in llama_cy.live_objects().items()):
        # What hangs in a cycle is no leak.
        gc.collect()
    after = llama_cy.live_objects()
    assert {kind: count for kind, count in after.items() if count > before[kind]} == {}
