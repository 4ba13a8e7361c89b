"""Fixtures and settings that every test shares."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from support.llama_models import write_llama

import llama_cy

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


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of a tiny random llama model."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_llama(path, seed=1)
    return path


@pytest.fixture(scope="session")
def tiny(tiny_path: Path) -> Iterator[llama_cy.Model]:
    """Give a tiny random llama model, shared by the session."""
    with llama_cy.Model(tiny_path) as model:
        yield model


@pytest.fixture(scope="session")
def demo() -> Iterator[llama_cy.Model]:
    """Give the built-in model, shared by the session."""
    with llama_cy.demo_model() as model:
        yield model


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
