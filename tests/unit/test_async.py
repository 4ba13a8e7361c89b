"""Generation and loading for asyncio: the same results, an event loop that goes on, and cancellations that free."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import child
from support.llama_models import write_llama

import llama_cy
from llama_cy import AsyncTextStream, AsyncTokenLoop, Context, Model

# Tokens that take a while. ggml's CUDA fails beyond 1,536 with heads as small as here, without flash attention.
LONG = 1_500


@pytest.fixture
def context(tiny: Model) -> Iterator[Context]:
    """Give a context that holds more than any test generates."""
    with tiny.context(n_ctx=4096, n_ubatch=32, n_threads=1) as made:
        yield made


def greedy() -> llama_cy.SamplerChain:
    return llama_cy.sampling(temperature=0)


async def take(items: AsyncIterator[Any], n: int) -> list[Any]:
    return [await items.__anext__() for _ in range(n)]


@given(
    prompt=st.lists(st.integers(3, 200), min_size=1, max_size=20),
    seed=st.integers(0, 2**32 - 2),
    max_tokens=st.integers(0, 30),
    ends=st.tuples(st.sampled_from(["", "a", "the"]), st.integers(0, 5)),
)
def test_it_gives_what_the_others_give(
    tiny: Model, prompt: list[int], seed: int, max_tokens: int, ends: tuple[str, int]
) -> None:
    stop, taken = ends

    def options() -> dict[str, Any]:
        return {"sampler": llama_cy.sampling(seed=seed), "max_tokens": max_tokens, "reuse": "exact"}

    async def run(context: Context) -> None:
        stops = [stop] if stop else []
        wanted = context.complete(prompt, stop=stops, **options())
        done = await context.acomplete(prompt, stop=stops, **options())
        assert (done.text, done.tokens, done.finish_reason) == (wanted.text, wanted.tokens, wanted.finish_reason)
        tokens = context.agenerate(prompt, **options())
        assert [token async for token in tokens] == list(context.generate(prompt, **options()))
        stream = context.astream(prompt, stop=stops, **options())
        head = [text async for _, text in azip(range(taken), stream)]
        rest = await stream.complete()
        assert "".join(head) + rest.text == wanted.text
        assert (rest.tokens, stream.tokens, stream.finish_reason) == (
            wanted.tokens,
            wanted.tokens,
            wanted.finish_reason,
        )
        assert stream.timings.tokens == len(wanted.tokens)
        assert stream.reused == rest.reused

    with tiny.context(n_ctx=256, n_threads=1) as made:
        asyncio.run(run(made))


async def azip(first: range, second: AsyncIterator[str]) -> AsyncIterator[tuple[int, str]]:
    for number in first:
        try:
            yield number, await second.__anext__()
        except StopAsyncIteration:
            return


def test_nothing_runs_ahead_of_its_consumer(context: Context) -> None:
    async def run() -> None:
        tokens = context.agenerate([5], greedy(), ignore_eog=True)
        assert tokens.tokens == []
        assert tokens.finish_reason is None
        for n in range(1, 6):
            await take(tokens, 1)
            await asyncio.sleep(0.01)
            assert len(tokens.tokens) == n
            # What the context holds is what was handed out, and it is free in between.
            assert context.memory.seq_pos_max(0) == n
            assert len(context.logits(-1)) == context.n_vocab
        tokens.cancel()
        with pytest.raises(StopAsyncIteration):
            await take(tokens, 1)
        assert tokens.finish_reason == "cancelled"

    asyncio.run(run())


def test_the_event_loop_goes_on(context: Context) -> None:
    async def run() -> None:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                beats += 1
                await asyncio.sleep(0)

        heart = asyncio.create_task(beat())
        for work in (lambda: context.acomplete([5] * 1000, greedy(), max_tokens=50, ignore_eog=True),
                     lambda: take(context.astream([6] * 1000, greedy(), ignore_eog=True), 20)):  # fmt: skip
            before = beats
            await work()
            assert beats > before + 10
        heart.cancel()

    asyncio.run(run())


WAYS: dict[str, Callable[[Context, list[int]], Coroutine[Any, Any, object]]] = {
    "stream": lambda context, prompt: take(context.astream(prompt, greedy(), ignore_eog=True), 10**6),
    "loop": lambda context, prompt: take(context.agenerate(prompt, greedy(), ignore_eog=True), 10**6),
    "complete": lambda context, prompt: context.acomplete(prompt, greedy(), ignore_eog=True, max_tokens=10**6),
}


@pytest.mark.parametrize("way", WAYS)
# On a busy machine a GPU is beyond LONG before the task is cancelled.
@pytest.mark.parametrize(
    "n_prompt",
    [pytest.param(1, id="generating"), pytest.param(3900, id="reading the prompt", marks=pytest.mark.cpu)],
)
def test_a_cancelled_task_frees_the_context(context: Context, way: str, n_prompt: int) -> None:
    async def run() -> None:
        for delay in (0, 1, 2, 5, 20):
            context.memory.clear()
            task = asyncio.create_task(WAYS[way](context, [5] * n_prompt))
            for _ in range(delay):
                await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            # At once, and for good.
            assert len(context.complete([1, 2], greedy(), max_tokens=3, ignore_eog=True).tokens) == 3

    asyncio.run(run())


@pytest.mark.cpu
def test_a_second_cancellation_waits_as_well(context: Context) -> None:
    async def run() -> None:
        task = asyncio.create_task(context.acomplete([5] * 3900, greedy(), ignore_eog=True))
        await asyncio.sleep(0.002)
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        context.decode([1])

    asyncio.run(run())


def test_a_time_limit(context: Context) -> None:
    async def run() -> None:
        stream = context.agenerate([5], greedy(), ignore_eog=True)
        got = []

        async def consume() -> None:
            async for token in stream:
                got.append(token)

        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(consume(), 0.05)
        assert stream.finish_reason in ("cancelled", "length")
        # What was computed when the time was over is there.
        got += [token async for token in stream]
        assert got == stream.tokens == list(context.generate([5], greedy(), max_tokens=len(got), ignore_eog=True))

    asyncio.run(run())


def test_mistakes_are_raised_where_they_are_awaited(context: Context) -> None:
    cases: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: context.acomplete([]), ValueError, "the prompt is empty"),
        (lambda: context.acomplete([5], stop=""), ValueError, "a stop string must not be empty"),
        (lambda: context.acomplete([5] * 5000), llama_cy.KVCacheFullError, "5000 tokens"),
        (lambda: context.acomplete("a", nonsense=1), TypeError, "nonsense"),  # type: ignore[call-arg]
        (lambda: take(context.astream([10**6]), 1), ValueError, "1000000"),
        (lambda: take(context.agenerate([5], max_tokens=-1), 1), ValueError, "max_tokens"),
        (lambda: take(context.agenerate([5], "greedy"), 1), TypeError, "Sampler"),  # type: ignore[arg-type]
    ]
    for work, error, message in cases:
        with pytest.raises(error, match=message):
            asyncio.run(work())
    for stream in (context.astream("a"), context.agenerate("a")):
        with pytest.raises(TypeError, match="not iterable"):
            list(stream)  # type: ignore[call-overload]
    context.close()
    with pytest.raises(llama_cy.ClosedError):
        asyncio.run(context.acomplete([5]))


def test_one_stream_serves_one_task(context: Context) -> None:
    async def run() -> None:
        stream = context.astream([5] * LONG, greedy(), ignore_eog=True)
        first = asyncio.create_task(take(stream, 1))
        await asyncio.sleep(0)
        with pytest.raises(llama_cy.ContextBusyError, match="one stream serves one task"):
            await take(stream, 1)
        await first
        assert len(await take(stream, 2)) == 2

    asyncio.run(run())


def test_one_context_serves_one_stream(context: Context) -> None:
    async def run() -> None:
        first = context.agenerate([5], greedy(), ignore_eog=True)
        await take(first, 1)
        await take(context.agenerate([7, 8], greedy(), ignore_eog=True), 1)
        with pytest.raises(llama_cy.LlamaError, match="used by something else"):
            await take(first, 1)
        results = await asyncio.gather(
            *(context.acomplete([5] * LONG, greedy(), max_tokens=1) for _ in range(2)), return_exceptions=True
        )
        assert [type(result) for result in results].count(llama_cy.ContextBusyError) <= 1

    asyncio.run(run())


@pytest.mark.cpu
def test_closing_ends_what_another_task_awaits(context: Context) -> None:
    async def run() -> None:
        async with context.astream([5] * 3900, greedy(), ignore_eog=True) as stream:
            waiting = asyncio.create_task(take(stream, 10**6))
            await asyncio.sleep(0.002)
        assert stream.closed
        context.decode([1])
        await stream.aclose()
        with pytest.raises((StopAsyncIteration, RuntimeError)):
            await waiting
        with pytest.raises(llama_cy.ClosedError):
            await stream.complete()
        with pytest.raises(StopAsyncIteration):
            await take(stream, 1)

    asyncio.run(run())


def test_a_stream_works_in_several_event_loops(context: Context) -> None:
    stream = context.agenerate([5], greedy(), ignore_eog=True)
    got = [*asyncio.run(take(stream, 3)), *asyncio.run(take(stream, 2))]
    assert got == list(context.generate([5], greedy(), max_tokens=5, ignore_eog=True))


def test_threads_end_with_their_streams(context: Context) -> None:
    def ours() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("llama_cy")]

    async def run() -> None:
        left = context.agenerate([5], greedy(), ignore_eog=True)
        await take(left, 1)
        assert len(ours()) == 1
        del left
        async with context.astream([5], greedy(), ignore_eog=True) as closed:
            await take(closed, 1)
        [token async for token in context.agenerate([5], greedy(), max_tokens=3)]

    asyncio.run(run())
    gc.collect()
    for thread in ours():
        thread.join(20)
    assert ours() == []


def test_what_they_show(context: Context) -> None:
    async def run() -> None:
        stream = context.astream([5], greedy(), max_tokens=3, ignore_eog=True)
        assert repr(stream) == "<AsyncTextStream after 0 tokens, running>"
        await stream.complete()
        assert repr(stream) == "<AsyncTextStream after 3 tokens, length>"

    asyncio.run(run())
    assert isinstance(context.agenerate("a"), AsyncTokenLoop)
    assert isinstance(context.astream("a"), AsyncTextStream)


def test_loading(tiny: Model, tiny_path: Path) -> None:
    said = contextvars.ContextVar("said", default="nothing")
    shares: list[tuple[float, str]] = []

    async def run() -> Model:
        said.set("hello")
        return await Model.load_async(tiny_path, progress=lambda share: shares.append((share, said.get())))

    with asyncio.run(run()) as model:
        assert model.n_params == tiny.n_params
    assert shares[-1] == (1.0, "hello")


def test_mistakes_of_loading(tmp_path: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError, match="cannot open"):
        asyncio.run(Model.load_async(tmp_path / "none.gguf"))
    with pytest.raises(TypeError):
        asyncio.run(Model.load_async(1.5))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nonsense"):
        asyncio.run(Model.load_async(tmp_path, nonsense=1))  # type: ignore[call-arg]

    def stop(share: float) -> None:
        raise ArithmeticError(share)

    with pytest.raises(ArithmeticError):
        asyncio.run(Model.load_async(write_llama(tmp_path / "model.gguf"), progress=stop))


def test_a_cancelled_load_ends(tiny_path: Path) -> None:
    shares = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        heard = threading.Event()

        def on_progress(share: float) -> None:
            shares.append(share)
            loop.call_soon_threadsafe(task.cancel)
            # The task hears of it in one of the next rounds of the event loop.
            loop.call_soon_threadsafe(lambda: loop.call_later(0.05, heard.set))
            assert heard.wait(20)

        task = asyncio.ensure_future(Model.load_async(tiny_path, progress=on_progress))
        with pytest.raises(asyncio.CancelledError):
            await task

    before = llama_cy.live_objects()["model"]
    asyncio.run(run())
    gc.collect()
    assert llama_cy.live_objects()["model"] == before
    assert len(shares) == 1


PROGRAM = """
import asyncio, os, signal, sys, threading
import llama_cy

model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
context = model.context(n_ctx=2**17, n_ubatch=64, n_threads=1)

async def main():
    task = asyncio.create_task(context.acomplete([5] * 2**16, ignore_eog=True))
    await asyncio.sleep(0.05)
    {end}
    await task

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
context.decode([1])
print("fine")
"""


def test_ctrl_c_comes_through(tiny_path: Path) -> None:
    ended = child.check_output(PROGRAM.replace("{end}", "signal.raise_signal(signal.SIGINT)"), tiny_path)
    assert ended == "interrupted\nfine\n"


def test_the_end_of_the_program_does_not_wait(tiny_path: Path) -> None:
    ended = child.run(PROGRAM.replace("{end}", "sys.exit(3)"), tiny_path)
    assert (ended.code, ended.stderr) == (3, "")


def test_an_event_loop_that_is_gone_wants_nothing(tiny_path: Path) -> None:
    program = """
    import asyncio, sys, threading
    import llama_cy
    model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
    context = model.context(n_ctx=2**17, n_ubatch=64, n_threads=1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(context.acomplete([5] * 2**16, ignore_eog=True))
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    task._log_destroy_pending = False
    context.cancel()
    for thread in threading.enumerate():
        if thread.name.startswith("llama_cy"):
            del task
            thread.join(0.2)
    print("fine")
    """
    assert child.check_output(program, tiny_path) == "fine\n"
