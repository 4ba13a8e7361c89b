"""Others that bring a llama.cpp, a ggml or an OpenMP of their own into the process: neither notices the other.

``make test-peers`` makes the environment. One process for each order of imports.
"""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.child import ENVIRON
from support.whisper_models import write_whisper

import llama_cy

pytestmark = pytest.mark.peers

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "build" / "peers" / "bin" / "python"
LLAMAS = ("llama_cy", "llama_cpp", "cyllama", "xllamacpp")
OTHERS = ("torch", "onnxruntime", "pywhispercpp")
PAIRS = [pair for other in (*LLAMAS[1:], *OTHERS) for pair in (("llama_cy", other), (other, "llama_cy"))]
# The others at the front, in the middle or behind, in turn.
ALL = [
    (*llamas[: 2 * (i % 3)], *OTHERS, *llamas[2 * (i % 3) :]) for i, llamas in enumerate(itertools.permutations(LLAMAS))
]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out the models that they load."""
    folder = tmp_path_factory.mktemp("models")
    write_whisper(folder / "whisper.bin")
    (folder / "story.gguf").symlink_to(llama_cy.demo_model_path())
    return folder / "story.gguf"


def compute(order: Sequence[str], models: Path) -> dict[str, str]:
    """Return what each of them computes, imported in this order."""
    done = subprocess.run(
        [PYTHON, ROOT / "tests" / "embed" / "neighbours.py", ",".join(order), models],
        env={name: value for name, value in ENVIRON.items() if name != "PYTHONPATH"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(told, dict)
    return told


@pytest.fixture(scope="module")
def alone(models: Path) -> dict[str, str]:
    """What each of them computes with nobody else in the process."""
    told = {name: compute([name], models)[name] for name in (*LLAMAS, *OTHERS)}
    # The same model and the same prompt.
    assert len({told[name] for name in LLAMAS}) == 1
    return told


@pytest.mark.parametrize("order", [*PAIRS, *ALL], ids="-".join)
def test_each_computes_as_it_does_alone(alone: dict[str, str], models: Path, order: tuple[str, ...]) -> None:
    assert compute(order, models) == {name: alone[name] for name in order}
