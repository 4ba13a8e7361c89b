"""A pool lends each context to one user at a time, loses none, and keeps nobody waiting for nothing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import random
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import llama_cy
from llama_cy import Context, ContextPool, Model


@pytest.fixture
def pool(tiny: Model) -> Iterator[ContextPool]:
    """Give a pool of two."""
    with ContextPool(tiny, 2, n_ctx=256, n_threads=1) as made:
        yield made


def greedy(context: Context, prompt: list[int], n: int = 8) -> list[int]:
    return list(
        context.generate(prompt, llama_cy.sampling(temperature=0), max_tokens=n, ignore_eog=True, reuse="exact")
    )


def wait_until_waiting(pool: ContextPool, n: int) -> None:
    for _ in range(20_000):
        if pool.n_waiting == n:
            return
        threading.Event().wait(0.001)
    raise AssertionError(pool)


def test_contexts_are_made_when_needed_and_kept(pool: ContextPool) -> None:
    assert (pool.n_idle, pool.n_lent) == (1, 0)
    with pool.context() as first:
        assert (pool.n_idle, pool.n_lent) == (0, 1)
        with pool.context() as second:
            assert first is not second
            assert repr(pool) == "<ContextPool of 2: 0 idle, 2 lent, 0 waiting>"
    assert (pool.n_idle, pool.n_lent) == (2, 0)
    with pool.context() as again:
        assert again in (first, second)


def test_the_contexts_share_the_cores(tiny: Model) -> None:
    with ContextPool(tiny, 512, n_ctx=64) as pool, pool.context() as context:
        assert context.n_threads == 1


def test_an_error_in_the_block_gives_the_context_back(pool: ContextPool) -> None:
    with pytest.raises(ArithmeticError), pool.context():
        raise ArithmeticError

    async def run() -> None:
        with pytest.raises(ArithmeticError):
            async with pool.acontext():
                raise ArithmeticError

    asyncio.run(run())
    assert pool.n_lent == 0


def test_time_limits(pool: ContextPool) -> None:
    async def run(seconds: float) -> None:
        await pool.aacquire(seconds)

    lent = [pool.acquire(0), pool.acquire(0)]
    for seconds in (0, 0.02):
        with pytest.raises(llama_cy.PoolTimeoutError, match=f"none of the 2 contexts came back within {seconds:g} s"):
            pool.acquire(seconds)
        with pytest.raises(TimeoutError), pool.context(timeout=seconds):
            pass
        with pytest.raises(llama_cy.PoolTimeoutError):
            asyncio.run(run(seconds))
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(pool.aacquire(), 0.02))
    assert pool.n_waiting == 0
    for context in lent:
        pool.release(context)
    assert pool.acquire(0) in lent


def test_who_came_first_is_served_first(pool: ContextPool) -> None:
    lent = [pool.acquire(), pool.acquire()]
    order: list[int] = []

    def work(number: int) -> None:
        with pool.context():
            order.append(number)

    threads = []
    for number in range(5):
        threads.append(threading.Thread(target=work, args=(number,)))
        threads[-1].start()
        wait_until_waiting(pool, number + 1)
    pool.release(lent[0])
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    pool.release(lent[1])


def test_threads_and_tasks_share_one_pool(tiny: Model, pool: ContextPool) -> None:
    prompts = [[5, number % 7 + 3] for number in range(24)]
    with tiny.context(n_ctx=256, n_threads=1) as context:
        wanted = [greedy(context, prompt) for prompt in prompts]

    def in_thread(prompt: list[int]) -> list[int]:
        with pool.context() as context:
            return greedy(context, prompt)

    async def in_task(prompt: list[int]) -> list[int]:
        async with pool.acontext(timeout=60) as context:
            options: dict[str, Any] = {"max_tokens": 8, "ignore_eog": True, "reuse": "exact"}
            return (await context.acomplete(prompt, llama_cy.sampling(temperature=0), **options)).tokens

    async def run() -> list[list[int]]:
        return await asyncio.gather(*map(in_task, prompts))

    with concurrent.futures.ThreadPoolExecutor(6) as executor:
        threads = executor.map(in_thread, prompts)
        assert asyncio.run(run()) == wanted
        assert list(threads) == wanted
    assert (pool.n_idle, pool.n_lent, pool.n_waiting) == (2, 0, 0)


def test_only_what_is_lent_comes_back(tiny: Model, pool: ContextPool) -> None:
    lent = pool.acquire()
    pool.release(lent)
    with tiny.context(n_ctx=64, n_threads=1) as foreign:
        for thing in (lent, foreign, None, 5):
            with pytest.raises(ValueError, match="not lent by this pool"):
                pool.release(thing)  # type: ignore[arg-type]
    assert pool.n_idle == 1


def test_what_computes_still_stays_lent(pool: ContextPool) -> None:
    context = pool.acquire()
    lease = llama_cy.to_capsule(context)
    with pytest.raises(llama_cy.ContextBusyError):
        pool.release(context)
    assert pool.n_lent == 1
    del lease
    pool.release(context)
    assert pool.n_lent == 0


def test_a_closed_context_makes_place(pool: ContextPool) -> None:
    lent = [pool.acquire(), pool.acquire()]
    lent[0].close()
    pool.release(lent[0])
    assert (pool.n_idle, pool.n_lent) == (0, 1)
    lent[0] = pool.acquire(0)
    assert not lent[0].closed


def test_a_forgotten_context_makes_place(pool: ContextPool) -> None:
    lent = [pool.acquire(), pool.acquire()]
    got: list[Context] = []
    thread = threading.Thread(target=lambda: got.append(pool.acquire(60)))
    thread.start()
    wait_until_waiting(pool, 1)
    lent.pop()
    gc.collect()
    thread.join()
    assert len(got) == 1
    assert pool.n_lent == 2


def test_a_context_comes_back_as_it_was(tiny: Model, pool: ContextPool) -> None:
    with pool.context() as context:
        plain = greedy(context, [5, 6])
        context.set_control_vectors(llama_cy.ControlVector(np.ones((tiny.n_layer - 1, tiny.n_embd), dtype=np.float32)))
        context.set_abort_callback(lambda: True, interval=0)
    with pool.context() as again:
        assert again is context
        assert again.control_vectors == []
        assert greedy(again, [5, 6]) == plain


@pytest.mark.parametrize("forget", [False, True])
def test_the_memory_stays_or_not(tiny: Model, forget: bool) -> None:
    with ContextPool(tiny, 1, forget=forget, n_ctx=64, n_threads=1) as pool:
        with pool.context() as context:
            context.complete([1, 2, 3], max_tokens=1)
        with pool.context() as context:
            assert (context.memory.seq_pos_max(0) is None or context.memory.seq_pos_max(0) < 0) == forget
            assert (context.complete([1, 2, 3], max_tokens=1).reused > 0) == (not forget)


def test_mistakes(tiny: Model, pool: ContextPool) -> None:
    for size in (0, -1, 2**40):
        with pytest.raises(ValueError, match="size"):
            ContextPool(tiny, size)
    with pytest.raises(TypeError, match="not Context"), pool.context() as context:
        ContextPool(context)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="nonsense"):
        ContextPool(tiny, nonsense=1)
    for seconds in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="timeout"):
            pool.acquire(seconds)
    with pytest.raises(TypeError, match="timeout"):
        pool.acquire("soon")  # type: ignore[arg-type]
    model = llama_cy.Model(tiny.path)
    broken = ContextPool(model, 2, n_ctx=64, n_threads=1)
    broken.acquire()
    model.close()
    for _ in range(3):
        # The place of a context that can't be made is not lost.
        with pytest.raises(llama_cy.ClosedError):
            broken.acquire(0)
    broken.close()


@pytest.mark.parametrize("cancel", [False, True])
def test_closing(pool: ContextPool, cancel: bool) -> None:
    lent = [pool.acquire(), pool.acquire()]
    errors: list[Exception] = []

    def wait() -> None:
        try:
            pool.acquire()
        except llama_cy.ClosedError as error:
            errors.append(error)

    async def wait_as_task() -> None:
        task = asyncio.create_task(pool.aacquire())
        while pool.n_waiting < 2:
            await asyncio.sleep(0.001)
        pool.close(cancel=cancel)
        with pytest.raises(llama_cy.ClosedError, match="the pool was closed"):
            await task

    thread = threading.Thread(target=wait)
    thread.start()
    asyncio.run(wait_as_task())
    thread.join()
    assert len(errors) == 1
    pool.close()
    for use in (pool.acquire, pool.__enter__):
        with pytest.raises(llama_cy.ClosedError, match="the pool is closed"):
            use()
    # What is lent works on, and is freed when it comes back.
    assert repr(pool) == "<ContextPool, closed, 2 lent>"
    for context in lent:
        assert len(greedy(context, [5, 6])) == 8
        pool.release(context)
        assert context.closed
    assert pool.n_lent == 0


def test_closing_ends_what_is_computed(tiny: Model) -> None:
    pool = ContextPool(tiny, 1, n_ctx=2**16, n_ubatch=64, n_threads=1)
    started = threading.Event()
    reasons = []

    def work() -> None:
        with pool.context() as context:
            loop = context.generate([5], ignore_eog=True)
            next(loop)
            started.set()
            list(loop)
            reasons.append(loop.finish_reason)

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    pool.close(cancel=True)
    thread.join()
    assert reasons == ["cancelled"]


@given(size=st.integers(1, 3), n_users=st.integers(1, 8), seed=st.integers(0, 2**32))
def test_whatever_users_do_nothing_is_lost(tiny: Model, size: int, n_users: int, seed: int) -> None:
    """Tasks and threads borrow, are cancelled, time out, close, forget; at the end the pool is whole."""
    holders: set[int] = set()
    shared = ContextPool(tiny, size, n_ctx=64, n_threads=1)

    def use(context: Context, draw: random.Random) -> None:
        assert id(context) not in holders
        assert len(holders) < size
        holders.add(id(context))
        if draw.random() < 0.5:
            assert len(greedy(context, [draw.randrange(3, 100)], 2)) == 2
        holders.remove(id(context))
        if draw.random() < 0.1:
            context.close()

    def thread(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        for _ in range(6):
            try:
                context = shared.acquire(draw.choice([None, 0, 0.001]))
            except llama_cy.PoolTimeoutError:
                continue
            use(context, draw)
            if draw.random() < 0.9:
                shared.release(context)
            del context

    async def task(number: int) -> None:
        draw = random.Random(f"{seed} {number} task")
        for _ in range(6):
            try:
                async with shared.acontext(draw.choice([None, 0, 0.001])) as context:
                    use(context, draw)
                    await asyncio.sleep(0)
            except llama_cy.PoolTimeoutError:
                continue

    async def tasks() -> None:
        draw = random.Random(seed)
        running = [asyncio.create_task(task(number)) for number in range(n_users)]
        while not all(one.done() for one in running):
            await asyncio.sleep(0)
            if draw.random() < 0.05:
                draw.choice(running).cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome

    with shared:
        with concurrent.futures.ThreadPoolExecutor(4) as executor:
            threads = [executor.submit(thread, number) for number in range(n_users)]
            asyncio.run(tasks())
            for one in threads:
                one.result()
        gc.collect()
        assert (shared.n_lent, shared.n_waiting) == (0, 0)
        everything = [shared.acquire(0) for _ in range(size)]
        with pytest.raises(llama_cy.PoolTimeoutError):
            shared.acquire(0)
        for context in everything:
            shared.release(context)
