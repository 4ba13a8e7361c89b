"""What can happen to a loop that decodes ahead: errors, callbacks, other users, the end of the process."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.operations import apply
from support.child import run
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_mamba

import llama_cy

PROMPT = [5, 9, 17, 33, 65]


def greedy() -> llama_cy.SamplerChain:
    return llama_cy.sampling(temperature=0)


@pytest.fixture
def context(tiny: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with tiny.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def ahead(context: llama_cy.Context, n: int = 3, **options: Any) -> llama_cy.TokenLoop:
    return context.generate(PROMPT, greedy(), **{"ignore_eog": True, "run_ahead": n, **options})


class TestMemoriesThatCanNotGoBack:
    @pytest.mark.parametrize("write", [write_mamba, write_jamba])
    def test_recurrent(self, write: Any, tmp_path: Path) -> None:
        write(tmp_path / "model.gguf")
        with llama_cy.Model(tmp_path / "model.gguf") as model, model.context(n_ctx=64, n_threads=1) as context:
            with pytest.raises(ValueError, match=r"run_ahead is 2, but the memory of this \w+ model can't go back"):
                context.generate(PROMPT, run_ahead=2)
            assert len(list(context.generate(PROMPT, max_tokens=3, ignore_eog=True, run_ahead=0))) == 3

    def test_windows(self, tmp_path: Path) -> None:
        write_gemma3(tmp_path / "model.gguf")
        with llama_cy.Model(tmp_path / "model.gguf") as model:
            with model.context(n_ctx=64, swa_full=False) as context, pytest.raises(ValueError, match="can't go back"):
                context.stream(PROMPT, run_ahead=1)
            with model.context(n_ctx=64, swa_full=True, n_threads=1) as context:
                assert len(list(ahead(context, max_tokens=4))) == 4


@pytest.mark.parametrize("n", [-1, 1025])
def test_range(context: llama_cy.Context, n: int) -> None:
    with pytest.raises(ValueError, match=f"run_ahead is {n}, which is out of range"):
        context.stream(PROMPT, run_ahead=n)


def test_it_decodes_while_the_caller_works(tiny: llama_cy.Model) -> None:
    decodes = []
    for n in (0, 3):
        with tiny.context(n_ctx=256, n_threads=1) as context:
            loop = ahead(context, n)
            next(loop)
            time.sleep(0.2)
            perf = context.perf()
            decodes.append(perf.n_eval + perf.n_p_eval)
            assert context.memory.seq_pos_max() == len(PROMPT)
    # Three ahead, and the last one seen once more, because somebody looked.
    assert decodes[1] - decodes[0] == 4


class TestOtherUsers:
    def test_another_loop(self, context: llama_cy.Context) -> None:
        first = ahead(context)
        next(first)
        assert list(ahead(context, max_tokens=4)) == list(
            context.generate(PROMPT, greedy(), max_tokens=4, ignore_eog=True)
        )
        with pytest.raises(llama_cy.LlamaError, match="used by something else"):
            next(first)

    def test_a_decode_in_between(self, context: llama_cy.Context) -> None:
        loop = ahead(context)
        next(loop)
        context.decode([1])
        assert context.memory.seq_pos_max() == len(PROMPT) + 1
        with pytest.raises(llama_cy.LlamaError, match="used by something else"):
            next(loop)

    def test_a_view_holds_it(self, context: llama_cy.Context) -> None:
        loop = ahead(context)
        first = next(loop)
        view = context.logits_view()
        with pytest.raises(BufferError):
            next(loop)
        del view
        assert [first, *(next(loop) for _ in range(3))] == list(ahead(context, max_tokens=4))

    def test_close_of_the_context(self, tiny: llama_cy.Model) -> None:
        context = tiny.context(n_ctx=64, n_threads=1)
        loop = ahead(context)
        next(loop)
        context.close()
        with pytest.raises(llama_cy.ClosedError):
            next(loop)

    def test_close_of_the_sampler(self, context: llama_cy.Context) -> None:
        chain = greedy()
        loop = context.generate(PROMPT, chain, ignore_eog=True, run_ahead=2)
        next(loop)
        chain.close()
        with pytest.raises(llama_cy.ClosedError):
            next(loop)

    @pytest.mark.parametrize("order", [("loop", "context"), ("context", "loop")])
    def test_what_is_dropped(self, tiny: llama_cy.Model, order: tuple[str, str]) -> None:
        held: dict[str, Any] = {"context": tiny.context(n_ctx=64, n_threads=1)}
        held["loop"] = ahead(held["context"])
        next(held["loop"])
        for name in order:
            del held[name]
        gc.collect()
        assert llama_cy.live_objects()["context"] == 0

    def test_a_cycle(self, tiny: llama_cy.Model) -> None:
        context = tiny.context(n_ctx=64, n_threads=1)
        cycle: list[Any] = [ahead(context)]
        next(cycle[0])
        cycle.append(cycle)
        del context, cycle
        gc.collect()
        assert llama_cy.live_objects()["context"] == 0


class TestErrors:
    def test_nothing_is_selected(self, context: llama_cy.Context) -> None:
        with llama_cy.SamplerChain(llama_cy.Sampler.top_k(3)) as chain:
            loop = context.generate(PROMPT, chain, run_ahead=2)
            for _ in range(2):
                with pytest.raises(ValueError, match="no sampler selected a token"):
                    next(loop)
            chain.add(llama_cy.Sampler.greedy())
            assert [next(loop) for _ in range(3)] == list(ahead(context, max_tokens=3))

    def test_nan(self, tmp_path: Path) -> None:
        path = write_llama(tmp_path / "nan.gguf")
        path.write_bytes(apply(path.read_bytes(), [("data", "output.weight", 0, "0000c07f")]))
        with llama_cy.Model(path) as model, model.context(n_ctx=32, n_threads=1) as context:
            with pytest.raises(ValueError, match="the model computed NaN"):
                next(ahead(context))
            assert context.memory.seq_pos_max() == len(PROMPT) - 1

    def test_cancel(self, context: llama_cy.Context) -> None:
        loop = ahead(context)
        got = [next(loop), next(loop)]
        loop.cancel()
        assert list(loop) == []
        assert (loop.finish_reason, loop.tokens) == ("cancelled", got)
        assert context.memory.seq_pos_max() == len(PROMPT) + 1
        assert np.argmax(context.logits()) == list(ahead(context, max_tokens=3))[2]


class TestCallbacks:
    def test_an_eval_callback(self, tiny: llama_cy.Model, context: llama_cy.Context) -> None:
        threads = set()

        def see(tensor: llama_cy.Tensor) -> bool:
            threads.add(threading.get_ident())
            return True

        with tiny.context(n_ctx=64, n_threads=1, eval_callback=see, eval_filter="result_output") as watched:
            assert list(ahead(watched, max_tokens=5)) == list(ahead(context, max_tokens=5))
        assert threads == {threading.get_ident()}

    def test_an_abort_callback_set_in_mid_loop(self, context: llama_cy.Context) -> None:
        want = list(ahead(context, max_tokens=8))
        loop = ahead(context)
        got = [next(loop) for _ in range(3)]
        asked = []
        context.set_abort_callback(lambda: asked.append(threading.get_ident()), interval=0)
        got += [next(loop) for _ in range(3)]
        context.set_abort_callback(None)
        got += [next(loop) for _ in range(2)]
        assert got == want
        assert set(asked) == {threading.get_ident()}


ENDS = {
    "at the end": "",
    "with the loop in a global": "kept = loop",
    "by sys.exit": "sys.exit(0)",
    "by an exception in a thread that goes on": "threading.Thread(target=lambda: list(loop), daemon=True).start()",
}


@pytest.mark.parametrize("how", ENDS)
def test_the_process_ends(tiny_path: Path, how: str) -> None:
    source = f"""
    import sys, threading
    import llama_cy
    model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
    context = model.context(n_ctx=2**16, n_threads=2)
    loop = context.generate([1, 2], ignore_eog=True, run_ahead=4)
    next(loop)
    print("begun", flush=True)
    {ENDS[how]}
    """
    child = run(source, tiny_path)
    assert (child.code, child.stdout, child.stderr) == (0, "begun\n", "")


# A child does not inherit a GPU.
@pytest.mark.cpu
@pytest.mark.parametrize("n", [0, 3])
def test_a_fork_in_mid_loop(tiny_path: Path, n: int) -> None:
    source = """
    import gc, os, sys
    import llama_cy
    model = llama_cy.Model(sys.argv[1], device="cpu")
    context = model.context(n_ctx=256, n_threads=2)
    loop = context.generate([1, 2], llama_cy.sampling(temperature=0), ignore_eog=True, run_ahead=int(sys.argv[2]))
    got = [next(loop), next(loop)]
    pid = os.fork()
    if pid == 0:
        for use in (lambda: next(loop), lambda: context.decode([1]), lambda: context.complete([1], max_tokens=1)):
            try:
                use()
            except llama_cy.ContextError as error:
                print(error, flush=True)
        loop.close()
        with model.context(n_ctx=256, n_threads=2) as own:
            print(len(own.complete([1], max_tokens=3, ignore_eog=True).tokens), flush=True)
        del loop, context
        gc.collect()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    got += [next(loop) for _ in range(6)]
    assert got == list(context.generate([1, 2], llama_cy.sampling(temperature=0), ignore_eog=True, max_tokens=8))
    """
    child = run(source, tiny_path, str(n))
    message = (
        "the context was made before this process was forked, and its threads stayed in the other one; make one here\n"
    )
    assert (child.code, child.stdout, child.stderr) == (0, message * 3 + "3\n", "")


@pytest.mark.parametrize("use", ["for _ in loop: pass", "list(loop)", "stream.complete()", "for _ in stream: pass"])
def test_ctrl_c(tiny_path: Path, use: str) -> None:
    source = f"""
    import os, signal, sys, threading, time
    import llama_cy
    signal.signal(signal.SIGINT, signal.default_int_handler)
    model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
    context = model.context(n_ctx=2**17, n_threads=1)
    loop = context.generate([1, 2], ignore_eog=True, run_ahead=4)
    stream = context.stream([1, 2], ignore_eog=True, run_ahead=4)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        {use}
    except KeyboardInterrupt:
        n = len(loop.tokens) + len(stream.tokens)
        assert context.memory.seq_pos_max() == n + 1, (n, context.memory.seq_pos_max())
        print("interrupted")
    """
    child = run(source, tiny_path)
    assert (child.code, child.stdout, child.stderr) == (0, "interrupted\n", "")
