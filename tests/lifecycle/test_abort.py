"""A failed assert of llama.cpp is an exception where the stack can be unwound, and says its last words elsewhere."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from support.child import Child, run
from support.extension import build_extension, import_extension

import llama_cy

NONE, GRAPH, CALL = range(3)
ASSERT = "llama.cpp/ggml/src/gguf.cpp"

DYING = """
import sys
import faulthandler
faulthandler.disable()
import llama_cy
sys.path.insert(0, sys.argv[1])
import asserting

def the_caller():
    {call}

the_caller()
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_extension(Path(__file__).with_name("asserting.pyx"), tmp_path_factory.mktemp("asserting"))


def die(built: Path, call: str, text: str) -> Child:
    child = run(DYING.format(call=call), built.parent, dies_of=signal.SIGABRT)
    assert child.code == -signal.SIGABRT, child
    first, _, rest = child.stderr.partition("\n")
    assert first.startswith("llama_cy: llama.cpp ends the process: "), child
    assert text in first, child
    assert "in the_caller" in rest, child
    return child


@pytest.mark.parametrize("release", [False, True], ids=["with the GIL", "without the GIL"])
@pytest.mark.parametrize("scope", [GRAPH, CALL])
def test_guarded(built: Path, scope: int, release: bool) -> None:
    asserting = import_extension(built)
    for _ in range(3):
        with pytest.raises(llama_cy.LlamaError, match=ASSERT):
            asserting.fail(scope, release)


@pytest.mark.parametrize("release", [False, True], ids=["with the GIL", "without the GIL"])
def test_last_words(built: Path, release: bool) -> None:
    die(built, f"asserting.fail({NONE}, {release})", ASSERT)


def test_a_guard_is_of_one_thread(built: Path) -> None:
    die(built, f"asserting.fail_on_a_thread({CALL})", ASSERT)


def test_last_words_of_an_exception_on_a_thread(built: Path) -> None:
    if sys.platform == "linux" and b"libstdc++.so" not in built.read_bytes():
        pytest.skip("this compiler links the C++ runtime into each extension, and one of others answers for itself")
    die(built, "asserting.throw_on_a_thread()", "thrown on a thread")


def test_a_thread_that_keeps_the_gil_keeps_nobody_alive(built: Path) -> None:
    call = "asserting.fail_behind_a_thread_that_keeps_the_gil()"
    child = run(DYING.format(call=call), built.parent, dies_of=signal.SIGABRT)
    assert child.code == -signal.SIGABRT
    assert ASSERT in child.stderr


@pytest.mark.parametrize(
    ("message", "backend"),
    [
        ("llama.cpp/ggml/src/ggml-cpu/ops.cpp:12: GGML_ASSERT(a / b) failed", "cpu"),
        ("llama.cpp/ggml/src/ggml-cuda/mmq.cu:12: fatal error", "cuda"),
        ("llama.cpp/ggml/src/ggml-quants.c:12: fatal error", "quants"),
        ("llama.cpp/ggml/src/ggml.c:12: GGML_ASSERT(a / b) failed", ""),
        ("llama.cpp/ggml/src/ggml-backend.cpp:12: GGML_ASSERT(a / b) failed", ""),
        ("llama.cpp/ggml/src/ggml-alloc.c:12: GGML_ASSERT(a) failed", ""),
        ("llama.cpp/src/models/llama.cpp:12: GGML_ASSERT(a / b) failed", ""),
        ("llama.cpp/src/llama-graph.cpp:12: see /ggml/src/ggml-cpu/ops.cpp", ""),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_the_backend_that_asserts(built: Path, message: str, backend: str) -> None:
    assert import_extension(built).backend(message.encode()) == backend
