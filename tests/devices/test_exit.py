"""Leave the interpreter in every way while a model is on a GPU, or half of it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from support.child import run
from support.endings import ALIVE, ENDINGS, check_ending, check_signal
from support.llama_models import write_llama
from support.offload import GPUS, PARTS

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU")]

N_LAYER = 2


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("exit") / "model.gguf", n_layer=N_LAYER)


@pytest.mark.parametrize("part", ["half", "all"])
@pytest.mark.parametrize("ending", ENDINGS)
def test_ending(path: Path, ending: str, part: str) -> None:
    check_ending(run(ALIVE + ENDINGS[ending][0], path, str(PARTS[part](N_LAYER))), ending)


@pytest.mark.parametrize("part", ["half", "all"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal(path: Path, number: signal.Signals, part: str) -> None:
    check_signal(number, path, str(PARTS[part](N_LAYER)))


# A thread computes on the GPU while the main thread leaves.
DAEMON = """
import sys, threading, time
import llama_cy

model = llama_cy.Model(sys.argv[1], n_gpu_layers=int(sys.argv[2]))
begun = threading.Event()

def work():
    with model.context(n_ctx=512, n_threads=1) as context:
        while True:
            context.complete([1, 2, 3], max_tokens=300, ignore_eog=True)
            begun.set()

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
begun.wait()
sys.exit(5)
"""


@pytest.mark.parametrize("part", ["half", "all"])
def test_daemon_threads_at_work(path: Path, part: str) -> None:
    child = run(DAEMON, path, str(PARTS[part](N_LAYER)))
    assert (child.code, child.stdout, child.stderr) == (5, "", "")


FORKED = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import llama_cy

model = llama_cy.Model(sys.argv[1])
context = model.context(n_ctx=64)
context.decode([1])
pid = os.fork()
if pid == 0:
    try:
        context.decode([1])
    except llama_cy.ContextError:
        try:
            model.context(n_ctx=64)
        except llama_cy.LlamaError:
            sys.exit(7)
    sys.exit(8)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
context.decode([2])
"""


FORKED_BEFORE = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import llama_cy

# As a server does that imports once and forks its workers.
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        model = llama_cy.Model(sys.argv[1])
        assert any(placed.device != "CPU" for placed in model.placement), model.placement
        with model.context(n_ctx=64) as context:
            context.decode([1])
        sys.exit(7)
    children.append(pid)
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [7, 7]
with llama_cy.Model(sys.argv[1]) as model, model.context(n_ctx=64) as context:
    context.decode([1])
"""


def test_children_of_an_import_have_the_gpu(path: Path) -> None:
    child = run(FORKED_BEFORE, path)
    assert (child.code, child.stdout, child.stderr) == (0, "", "")


def test_a_forked_child_is_told(path: Path) -> None:
    child = run(FORKED, path)
    assert (child.code, child.stdout, child.stderr) == (0, "", "")
