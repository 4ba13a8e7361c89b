"""A fork takes the memory and leaves the threads: what needs them says so in the child, and nothing hangs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.child import check_output
from support.lora import random_lora, write_lora

pytestmark = [
    # A child inherits no GPU, but what is on the CPU; devices/test_exit.py tests how it is told.
    pytest.mark.cpu,
    pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="this system does not fork"),
]

SETUP = """
import contextlib, gc, os, signal, sys, threading, time, warnings
import llama_cy

# Newer Pythons advise against it wherever there is another thread.
warnings.simplefilter("ignore", DeprecationWarning)
model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)

def greedy(context):
    return list(context.generate([5], llama_cy.sampling(temperature=0), max_tokens=8, ignore_eog=True))

@contextlib.contextmanager
def beside(n, use):
    # Have threads do something again and again.
    stopping = threading.Event()
    def repeat():
        while not stopping.is_set():
            use()
    threads = [threading.Thread(target=repeat) for _ in range(n)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join()

def in_child(work, leave=lambda: os._exit(0)):
    # Fork, work there, end there, and wait for it.
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            work()
            sys.stdout.flush()
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(1)
        leave()
        os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
"""

USES = """
context = model.context(n_ctx=64, n_threads=2)
lone = model.context(n_ctx=64, n_threads=1)
pool = llama_cy.Threadpool(2)
wanted = greedy(context)
stream = context.stream([5], ignore_eog=True)
text = next(stream)
before = llama_cy.live_objects()

def work():
    uses = {
        "decode": lambda: context.decode([1]),
        "one thread": lambda: lone.decode([1]),
        "logits": lambda: context.logits(-1),
        "stream": lambda: next(stream),
        "complete": lambda: context.complete([5], max_tokens=3),
        "memory": context.memory.clear,
        "state": context.state.get,
    }
    for name, use in uses.items():
        try:
            use()
        except llama_cy.ContextError as error:
            assert "before this process was forked" in str(error), error
        else:
            raise AssertionError(name)
    # The weights are there, and a context of the child's own works.
    with model.context(n_ctx=64, n_threads=2) as own:
        assert greedy(own) == wanted
        try:
            own.attach(pool)
        except llama_cy.BackendError as error:
            assert "before this process was forked" in str(error), error
        else:
            raise AssertionError("attach")
        own.attach(llama_cy.Threadpool(2))
        assert greedy(own) == wanted
    with llama_cy.Model(sys.argv[1], n_gpu_layers=0) as again, again.context(n_ctx=64, n_threads=2) as own:
        assert greedy(own) == wanted
    context.close()
    lone.close()
    assert context.closed
    print("worked")

in_child(work)
in_child(work, sys.exit)
assert greedy(context) == wanted
assert llama_cy.live_objects() == before
print("fine")
"""


def test_what_a_child_inherits(tiny_path: Path) -> None:
    assert check_output(SETUP + USES, tiny_path) == "worked\nworked\nfine\n"


ENDS = """
context = model.context(n_ctx=2**17, n_threads=2, n_ubatch=64)
chain = llama_cy.sampling(seed=1)
cycle = [context, chain, model]
cycle.append(cycle)
decoding = threading.Thread(target=lambda: context.complete([5] * 2**16, ignore_eog=True), daemon=True)
decoding.start()
time.sleep(0.05)

def forget():
    global context, chain, model, cycle
    del context, chain, model, cycle
    gc.collect()

in_child(lambda: None, sys.exit)
in_child(forget)
in_child(forget, sys.exit)
context.cancel()
decoding.join()
context.decode([1])
print("fine")
"""


def test_a_child_ends_well_while_its_parent_decodes(tiny_path: Path) -> None:
    assert check_output(SETUP + ENDS, tiny_path) == "fine\n"


WORKERS = """
import multiprocessing

context = model.context(n_ctx=64, n_threads=2)
wanted = greedy(context)

def work(path):
    with model.context(n_ctx=64, n_threads=1) as shared:
        first = greedy(shared)
    with llama_cy.Model(path, n_gpu_layers=0) as own, own.context(n_ctx=64, n_threads=2) as context:
        return first, greedy(context)

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, [sys.argv[1]] * 4) == [(wanted, wanted)] * 4
    assert greedy(context) == wanted
    print("fine")
"""


def test_forked_workers_share_the_weights(tiny_path: Path) -> None:
    assert check_output(SETUP + WORKERS, tiny_path) == "fine\n"


LOADS = """
# A child may be made while another thread loads an adapter, or waits to.
def work():
    with model.context(n_ctx=64, n_threads=1) as own, model.load_adapter(sys.argv[2]) as adapter:
        own.set_adapters({adapter: 1.0})
        greedy(own)

with beside(3, lambda: model.load_adapter(sys.argv[2]).close()):
    for _ in range(100):
        in_child(work)
print("fine")
"""


def test_a_child_loads_adapters_while_its_parent_does(tiny_path: Path, tmp_path: Path) -> None:
    adapter = write_lora(tmp_path / "lora.gguf", random_lora({"blk.0.attn_q.weight": (64, 64)}))
    assert check_output(SETUP + LOADS, tiny_path, adapter) == "fine\n"


SHARED = """
# Locks of Python's own, held by threads that stay behind.
embedder = llama_cy.Embedder(model, n_ctx=64, n_threads=1, pooling_type="mean")
pool = llama_cy.ContextPool(model, 1, n_ctx=64, n_threads=1)

def use():
    embedder.embed([[5, 6, 7]] * 20)
    with pool.context() as context:
        context.decode([5])
        context.memory.clear()

def work():
    for use in (lambda: embedder.embed([[5]]), lambda: pool.acquire(), lambda: pool.acquire(timeout=0)):
        try:
            use()
        except llama_cy.ContextError as error:
            assert "before this process was forked" in str(error), error
        else:
            raise AssertionError("this was to be refused")
    embedder.close()
    pool.close()
    with llama_cy.ContextPool(model, 1, n_ctx=64, n_threads=1) as own, own.context() as context:
        greedy(context)
    assert llama_cy.Embedder(model, n_ctx=64, n_threads=1, pooling_type="mean").embed([[5]]).shape == (1, model.n_embd)

with beside(2, use):
    for _ in range(30):
        in_child(work)
print("fine")
"""


def test_a_child_waits_for_no_thread_of_its_parent(tiny_path: Path) -> None:
    assert check_output(SETUP + SHARED, tiny_path) == "fine\n"


CALLBACKS = """
# Where Python code forks within a computation, the child has none of the threads that compute.
import numpy as np
folder = sys.argv[2]
parent, children = os.getpid(), []

def fork_at(n):
    calls = []
    def fork(*_):
        calls.append(1)
        if len(calls) == n:
            sys.stdout.flush()
            children.append(os.fork())
            if children[-1] == 0:
                signal.alarm(30)
    return fork

def tokens(fork):
    yield 5
    fork()
    yield 6

def see(fork):
    with model.context(n_ctx=64, n_threads=2, eval_callback=lambda tensor: not fork()) as context:
        context.decode([1, 2, 3])

def choose(fork):
    see = {"eval_callback": lambda tensor: True, "eval_filter": lambda tensor: bool(fork())}
    with model.context(n_ctx=64, n_threads=2, **see) as context:
        context.decode([1, 2, 3])

def ask(fork):
    with model.context(n_ctx=64, n_threads=2) as context:
        context.set_abort_callback(fork, interval=0)
        context.decode([1, 2, 3])

def give(fork):
    with model.context(n_ctx=64, n_threads=2) as context:
        context.decode(tokens(fork))

def signalled(fork):
    signal.signal(signal.SIGUSR1, fork)
    with model.context(n_ctx=4096, n_threads=2, n_ubatch=8) as context:
        threading.Timer(0.02, os.kill, (parent, signal.SIGUSR1)).start()
        while not children:
            context.memory.clear()
            context.decode([1] * 4096)

class Picker:
    def __init__(self, fork):
        self.fork = fork
    def apply(self, candidates):
        if self.fork.__name__ == "fork":
            self.fork()
        candidates.selected = 0
    def accept(self, token):
        if self.fork.__name__ != "fork":
            self.fork()

def sample(fork):
    with model.context(n_ctx=64, n_threads=2) as context:
        chain = llama_cy.SamplerChain(llama_cy.Sampler.init(Picker(fork)))
        list(context.generate([5], chain, max_tokens=8, ignore_eog=True))

def accept(fork):
    sample(lambda: fork())

def train(fork):
    with llama_cy.Model(sys.argv[1], n_gpu_layers=0, load_mode="none") as own:
        with own.context(n_ctx=256, n_batch=256, n_ubatch=256, n_threads=2) as context:
            llama_cy.Trainer(context).epoch([5, 6] * 400, progress=fork)

def quantize(fork):
    target = os.path.join(folder, "quantized.gguf")
    try:
        llama_cy.quantize(sys.argv[1], target, ftype="q8_0", progress=fork)
    finally:
        if os.getpid() == parent:
            # What the child does is done before the parent goes on.
            assert os.path.exists(target)

def wait_for_child(fork):
    # So that what the child leaves, or takes away, is there for the parent to find.
    def work(*_):
        fork()
        if children and children[-1] and not waited:
            waited.append(os.waitpid(children[-1], 0)[1])
    return work

works = {see: 3, choose: 3, ask: 3, give: 1, signalled: 1, sample: 3, accept: 3, train: 1, quantize: 4}
for work, n in works.items():
    children.clear()
    waited = []
    fork = fork_at(n)
    error = None
    try:
        work(wait_for_child(fork) if work is quantize else fork)
    except llama_cy.LlamaError as raised:
        error = raised
    if os.getpid() != parent:
        # A wrong end is told by the parent.
        os._exit(0 if error is not None and "forked" in str(error) else 1)
    assert error is None, (work, error)
    assert (waited or [os.waitpid(children[0], 0)[1]]) == [0], work
assert os.listdir(folder) == ["quantized.gguf"]
llama_cy.Model(os.path.join(folder, "quantized.gguf"), n_gpu_layers=0).close()
print("fine")
"""


def test_python_code_forks_within_a_computation(tiny_path: Path, tmp_path: Path) -> None:
    assert check_output(SETUP + CALLBACKS, tiny_path, tmp_path) == "fine\n"


SUBINTERPRETER = """
import sys
import llama_cy
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
model = llama_cy.Model(sys.argv[1])
context = model.context(n_ctx=64, n_threads=1)
other = interpreters.create()
told = '''
import sys
sys.path[:] = {path!r}
try:
    import llama_cy._llama
except ImportError as error:
    assert "interpreter" in str(error), error
    print("refused", flush=True)
'''
failed = None
try:
    failed = interpreters.run_string(other, told.format(path=sys.path))
except interpreters.RunFailedError as error:
    failed = error
assert failed is None, failed
interpreters.destroy(other)
context.decode([1, 2, 3])
print("fine")
"""


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="only CPython has them")
def test_another_interpreter_is_refused(tiny_path: Path) -> None:
    assert check_output(SUBINTERPRETER, tiny_path) == "refused\nfine\n"
