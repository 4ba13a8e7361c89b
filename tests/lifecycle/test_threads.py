"""Many threads: one at a time on a context, any number on a model, and the others never wait for the GIL."""

from __future__ import annotations

from pathlib import Path

from support.child import check_output
from support.llama_models import write_llama
from support.sequences import TOGETHER
from support.vocabulary import spm

SETUP = (
    TOGETHER
    + """
import random, sys, threading, time
import llama_cy

sys.setswitchinterval(1e-5)
model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
vocab = model.vocab
"""
)

BUSY = """
context = model.context(n_ctx=1024, n_threads=1)
chain = llama_cy.sampling(seed=1)
batch = llama_cy.Batch(1)
stream = context.stream([1], chain, ignore_eog=True)
saved = context.state.get()
stop = threading.Event()

def work():
    while not stop.is_set():
        try:
            context.complete([1] * 500, chain, max_tokens=200, ignore_eog=True)
        except llama_cy.ContextBusyError:
            # The others below come first now and then.
            pass

uses = {
    "decode": lambda: context.decode([1]),
    "decode of a batch": lambda: context.decode(llama_cy.Batch(1)),
    "encode": lambda: context.encode([1]),
    "logits": lambda: context.logits(-1),
    "logits_view": lambda: context.logits_view(-1),
    "embeddings": lambda: context.embeddings(-1),
    "embeddings_seq": lambda: context.embeddings_seq(0),
    "synchronize": context.synchronize,
    "attach": lambda: context.attach(llama_cy.Threadpool(1)),
    "close": lambda: stop.is_set() and context.close() or context.synchronize(),
    "clear": lambda: context.memory.clear() if stop.is_set() else context.memory.seq_pos_max(0),
    "seq_pos_max": lambda: context.memory.seq_pos_max(0),
    "can_shift": lambda: context.memory.can_shift,
    "state get": context.state.get,
    "generate": lambda: next(context.generate(None)),
    "complete": lambda: context.complete(None, max_tokens=1),
    "sample": lambda: llama_cy.Sampler.greedy().sample(context),
    "the sampler": lambda: chain.accept(1),
    "the sampler's reset": chain.reset,
    "the sampler's clone": chain.clone,
    "a longer sampler": lambda: chain.add(llama_cy.Sampler.greedy()) if stop.is_set() else chain.clone(),
    "no sampler": lambda: chain.close() if stop.is_set() else chain.reset(),
}
worker = threading.Thread(target=work)
worker.start()
try:
    for name, use in uses.items():
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                use()
            except llama_cy.ContextBusyError as error:
                assert "in use by another thread" in str(error), error
                break
            except (llama_cy.LlamaError, ValueError):
                # Between two loops it is free for a moment, and there may be nothing to see.
                continue
        else:
            raise AssertionError(f"{name} was never refused")
finally:
    stop.set()
    worker.join()
print(len(uses))
"""


def test_second_thread_is_refused(tiny_path: Path) -> None:
    assert int(check_output(SETUP + BUSY, tiny_path)) == 22


PARALLEL = """
def run(seed):
    draw = random.Random(seed)
    prompt = [draw.randrange(vocab.n_tokens) for _ in range(40)]
    rows = []
    for n_ctx in (256, 512):
        with model.context(n_ctx=n_ctx, n_ubatch=16, n_threads=1) as context:
            context.decode(prompt)
            rows.append(context.logits().tobytes())
            rows.append(context.complete(prompt, llama_cy.Sampler.greedy(), max_tokens=40, ignore_eog=True).tokens)
    return rows

want = {seed: run(seed) for seed in range(8)}
got = {}
def work(seed):
    for _ in range(3):
        got[seed] = run(seed)
        assert got[seed] == want[seed]
together(*(lambda seed=seed: work(seed) for seed in want))
assert got == want

# Models too may come and go beside each other.
def load(seed):
    for _ in range(5):
        with llama_cy.Model(sys.argv[1], n_gpu_layers=0) as own, own.context(n_ctx=64, n_threads=1) as context:
            context.decode([seed])
together(*(lambda seed=seed: load(seed) for seed in range(8)))
assert llama_cy.live_objects()["model"] == 1
print("same")
"""


def test_contexts_in_parallel(tiny_path: Path) -> None:
    assert check_output(SETUP + PARALLEL, tiny_path) == "same\n"


ERRORS = """
# Each thread finds its own words in its own exception.
def work(index):
    for _ in range(20):
        try:
            llama_cy.Model(f"{sys.argv[2]}.{index % 2}", n_gpu_layers=0)
        except llama_cy.ModelLoadError as error:
            assert any(f"architecture: 'nonsens{index % 2}'" in line for line in error.log), error.log
            assert not any(f"architecture: 'nonsens{1 - index % 2}'" in line for line in error.log), error.log
        else:
            raise AssertionError
together(*(lambda index=index: work(index) for index in range(4)))
print("own")
"""


def test_log_lines_belong_to_their_thread(tiny_path: Path, tmp_path: Path) -> None:
    data = tiny_path.read_bytes()
    name = b"general.architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama"
    assert name in data
    for index in range(2):
        other = name[:-13] + (8).to_bytes(8, "little") + f"nonsens{index}".encode()
        (tmp_path / f"bad.{index}").write_bytes(data.replace(name, other, 1))
    assert check_output(SETUP + ERRORS, tiny_path, tmp_path / "bad") == "own\n"


HEARTBEAT = """
ticks = 0
stop = threading.Event()

def beat():
    global ticks
    while not stop.is_set():
        ticks += 1
        time.sleep(0.001)

context = model.context(n_ctx=2**13, n_threads=1)
prompt = [1] * 2000
text = "once upon a time " * 20_000
thick = llama_cy.Model(sys.argv[4], n_gpu_layers=0).context(n_ctx=2048, n_threads=1)
thick.decode([1] * 2000)
saved = thick.state.get()
works = {
    "load": lambda: llama_cy.Model(sys.argv[2], n_gpu_layers=0),
    "context": lambda: model.context(n_ctx=2**18, n_threads=1),
    "decode": lambda: (context.memory.clear(), context.decode(prompt)),
    "completion": lambda: context.complete([1], max_tokens=300, ignore_eog=True),
    "tokenize": lambda: vocab.tokenize(text),
    "state get": lambda: thick.state.get(),
    "state set": lambda: thick.state.set(saved),
    "save": lambda: model.save(sys.argv[3]),
}
heart = threading.Thread(target=beat)
heart.start()
try:
    # With the GIL held throughout there is none in all of the work, so that a few are proof enough on any machine.
    for name, work in works.items():
        for _ in range(200):
            before = ticks
            work()
            # A fast disk ends a save within a beat or two.
            if ticks - before >= (1 if name == "save" else 3):
                break
        else:
            raise AssertionError(f"no heartbeat during {name}")
finally:
    stop.set()
    heart.join()
print("alive")
"""


def test_heart_beats_during_long_work(tiny_path: Path, tmp_path: Path) -> None:
    """Python threads run while C works."""
    large = write_llama(tmp_path / "large.gguf", vocab=spm(50_000), n_embd=32, n_head=2, n_ff=32)
    # Much memory for each token.
    thick = write_llama(tmp_path / "thick.gguf", n_layer=4, n_head=8, n_head_kv=8, head_dim=64, n_ff=32)
    source = SETUP.replace("sys.setswitchinterval(1e-5)", "") + HEARTBEAT
    assert check_output(source, tiny_path, large, tmp_path / "saved.gguf", thick) == "alive\n"
