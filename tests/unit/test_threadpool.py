"""Where the threads of a pool run, whose they are, and what is refused."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.child import check_output, outcomes

import llama_cy

# Threads are the CPU's.
pytestmark = pytest.mark.cpu

PROMPT = list(range(20, 60))
LINUX = sys.platform == "linux"
TASKS = Path("/proc/self/task")


def threads() -> set[int]:
    """Return the ids of this process's threads, where the system lists them."""
    return {int(path.name) for path in TASKS.iterdir()} if LINUX else set()


def started_since(before: set[int], count: int) -> set[int]:
    """Return the threads that came after, once they are so many: the one that made a pool lingers in /proc."""
    eventually(lambda: len(threads() - before) == count)
    return threads() - before


def switches(ids: Iterable[int]) -> list[int]:
    """Wait until these threads sleep and stay asleep, and count how often each went to sleep so far."""
    seen: list[list[str]] = []
    while len(seen) < 20 or any(status != seen[-1] or "S" not in status[0] for status in seen[-20:]):
        text = "".join((TASKS / str(thread) / "status").read_text() for thread in ids)
        seen.append(re.findall(r"^(?:State|voluntary_ctxt_switches):\s+(\w+)", text, re.MULTILINE))
        time.sleep(0.001)
    return [int(field) for field in seen[-1] if field.isdigit()]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until threads that were just started have got to it; a test that waits in vain is ended from outside."""
    while not condition():
        time.sleep(0.001)


def test_attributes() -> None:
    pool = llama_cy.Threadpool(2, poll=7)
    assert (pool.n_threads, pool.poll, pool.cpumask, pool.strict_cpu) == (2, 7, (), False)
    assert pool.prio is llama_cy.SchedPriority.NORMAL
    assert repr(pool) == "<Threadpool of 2 threads>"


class TestCpus:
    def test_threads_stay_where_they_are_told(self) -> None:
        if not LINUX:
            with pytest.raises(llama_cy.BackendError, match="can't bind threads"):
                llama_cy.Threadpool(3, cpumask=[0])
            return
        allowed = os.sched_getaffinity(0)
        cpu = max(allowed)
        before = threads()
        pool = llama_cy.Threadpool(3, cpumask=[cpu])
        started = started_since(before, 2)
        eventually(lambda: all(os.sched_getaffinity(thread) == {cpu} for thread in started))
        # The application's thread is none of the pool's.
        assert os.sched_getaffinity(0) == allowed
        assert pool.cpumask == (cpu,)

    def test_strict_gives_one_to_each(self) -> None:
        if not LINUX:
            with pytest.raises(llama_cy.BackendError, match="can't bind threads"):
                llama_cy.Threadpool(3, cpumask=[0], strict_cpu=True)
            return
        allowed = sorted(os.sched_getaffinity(0))
        before = threads()
        pool = llama_cy.Threadpool(len(allowed) + 1, cpumask=allowed, strict_cpu=True)
        started = started_since(before, len(allowed))
        eventually(lambda: sorted(map(tuple, map(os.sched_getaffinity, started))) == [(cpu,) for cpu in allowed])
        assert pool.strict_cpu

    def test_computes(self, tiny: llama_cy.Model) -> None:
        mask = os.sched_getaffinity(0) if LINUX else None
        with tiny.context(n_ctx=64, n_threads=2) as context:
            context.decode(PROMPT)
            expected = context.logits()
            context.attach(llama_cy.Threadpool(2, cpumask=mask))
            context.memory.clear()
            context.decode(PROMPT)
            np.testing.assert_allclose(context.logits(), expected, rtol=1e-3, atol=1e-2)


class TestPriority:
    def test_low(self) -> None:
        policies = [os.sched_getscheduler(0)] if LINUX else []
        before = threads()
        pool = llama_cy.Threadpool(3, prio="low")
        assert pool.prio is llama_cy.SchedPriority.LOW
        if LINUX:
            started = started_since(before, 2)
            eventually(lambda: {os.sched_getscheduler(thread) for thread in started} == {os.SCHED_BATCH})
            assert [os.sched_getscheduler(0)] == policies

    def test_high_is_refused_or_given(self) -> None:
        source = """
        import os, sys, llama_cy
        def listed():
            return set(os.listdir("/proc/self/task")) if sys.platform == "linux" else set()
        before = listed()
        try:
            pool = llama_cy.Threadpool(2, prio="high")
        except llama_cy.BackendError as error:
            print("refuses threads of priority high" in str(error))
        else:
            started = listed() - before
            while any(os.sched_getscheduler(int(thread)) != os.SCHED_FIFO for thread in started):
                pass
            print(True)
        """
        # Nothing on stderr in either case.
        assert check_output(source) == "True\n"


class TestDetach:
    def test_pool_is_left_alone(self, tiny: llama_cy.Model) -> None:
        before = threads()
        pool = llama_cy.Threadpool(2, poll=0)
        workers = started_since(before, 1)
        with tiny.context(n_ctx=64, n_threads=2) as context:
            context.attach(pool)
            begin = switches(workers)
            context.decode(PROMPT)
            assert switches(workers) != begin or not LINUX
            expected = context.logits()
            context.detach()
            context.memory.clear()
            # Put to sleep once more, at the next decode.
            context.decode(PROMPT)
            context.memory.clear()
            begin = switches(workers)
            context.decode(PROMPT)
            assert switches(workers) == begin
            np.testing.assert_allclose(context.logits(), expected, rtol=1e-3, atol=1e-2)
            assert (context.n_threads, context.n_threads_batch) == (2, 2)
            assert repr(context).endswith("2 threads>")
            with tiny.context(n_ctx=64) as other:
                other.attach(pool)
            context.detach()

    def test_pool_goes_with_the_next_decode(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=2, n_threads_batch=3) as context:
            context.decode([1])
            count = llama_cy.live_objects()["threadpool"]
            context.detach()
            # llama.cpp still has its address.
            assert llama_cy.live_objects()["threadpool"] == count
            context.decode(PROMPT)
            context.logits()
            assert llama_cy.live_objects()["threadpool"] == count - 2

    @pytest.mark.parametrize("run_ahead", [0, 4])
    def test_pool_stays_while_nothing_is_computed(self, tiny: llama_cy.Model, run_ahead: int) -> None:
        """A prompt that is there already shows its logits, and llama.cpp keeps the address of the pool."""
        with tiny.context(n_ctx=64, n_threads=1) as context:
            greedy = llama_cy.Sampler.greedy()
            context.complete(PROMPT, greedy, max_tokens=0)
            if run_ahead:
                # Whatever came of the turns ahead is taken back before the pools change.
                next(context.generate(PROMPT, greedy, run_ahead=run_ahead))
            context.attach(llama_cy.Threadpool(1))
            count = llama_cy.live_objects()["threadpool"]
            context.complete(PROMPT, greedy, max_tokens=0)
            context.memory.seq_pos_max(0)
            assert llama_cy.live_objects()["threadpool"] == count
            context.decode([1])
            assert llama_cy.live_objects()["threadpool"] < count

    def test_pool_serves_another_after_the_next_decode(self, tiny: llama_cy.Model) -> None:
        pool = llama_cy.Threadpool(2)
        with tiny.context(n_ctx=64) as context, tiny.context(n_ctx=64) as other:
            context.attach(pool)
            context.decode(PROMPT)
            context.attach(llama_cy.Threadpool(1))
            with pytest.raises(ValueError, match="already serves another context"):
                other.attach(pool)
            context.decode(PROMPT)
            other.attach(pool)
            other.decode(PROMPT)
            context.decode(PROMPT)

    def test_back_and_forth(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=256, n_threads=2) as context:
            for _ in range(3):
                context.detach()
                context.detach()
                context.decode([1])
                context.attach(llama_cy.Threadpool(2))
                context.attach(llama_cy.Threadpool(3))
                context.decode(PROMPT)
                context.attach(llama_cy.Threadpool(2), llama_cy.Threadpool(1))
        assert not context


class TestNumberOfThreads:
    def test_set(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context:
            context.decode(PROMPT)
            expected = context.logits()
            context.attach(llama_cy.Threadpool(3), llama_cy.Threadpool(2))
            context.set_n_threads(1)
            assert (context.n_threads, context.n_threads_batch) == (1, 1)
            context.set_n_threads(3)
            assert (context.n_threads, context.n_threads_batch) == (3, 2)
            context.set_n_threads(2, 1)
            assert (context.n_threads, context.n_threads_batch) == (2, 1)
            context.memory.clear()
            context.decode(PROMPT)
            np.testing.assert_allclose(context.logits(), expected, rtol=1e-3, atol=1e-2)
            for arguments, text in (((4,), r"n_threads is 4.*\[1, 3\]"), ((1, 3), r"n_threads_batch is 3.*\[1, 2\]")):
                with pytest.raises(ValueError, match=text):
                    context.set_n_threads(*arguments)
            context.detach()
            context.set_n_threads(4)
            assert (context.n_threads, context.n_threads_batch) == (4, 4)


VALUE, TYPE = "ValueError", "TypeError"
REFUSED = {
    "no CPU": ("Threadpool(2, cpumask=[])", VALUE, "names no CPU"),
    "CPU -1": ("Threadpool(2, cpumask=[-1])", VALUE, r"cpumask is -1, which is out of range \[0, 511\]"),
    "CPU 512": ("Threadpool(2, cpumask=[512])", VALUE, "cpumask is 512"),
    "CPU that is not there": ("Threadpool(2, cpumask=[511])", VALUE, r"cpumask is \(511,\), and this process may use"),
    "CPU that is text": ("Threadpool(2, cpumask='0')", TYPE, "cpumask must be an iterable, not str"),
    "CPU that is a float": ("Threadpool(2, cpumask=[0.5])", TYPE, "cpumask must be an integer"),
    "strict without CPUs": ("Threadpool(2, strict_cpu=True)", VALUE, "no cpumask"),
    "strict of text": ("Threadpool(2, strict_cpu='no')", TYPE, "strict_cpu must be a bool"),
    "priority of no name": ("Threadpool(2, prio='highest')", VALUE, "prio is 'highest'; expected one of low, normal"),
    "priority 9": ("Threadpool(2, prio=9)", VALUE, "prio is 9"),
    "priority None": ("Threadpool(2, prio=None)", TYPE, "prio must be"),
    "no threads": ("Threadpool(0)", VALUE, "n_threads is 0"),
    "set no threads": ("fresh().set_n_threads(0)", VALUE, "n_threads is 0"),
    "set more than the pool": ("fresh().set_n_threads(2)", VALUE, r"n_threads is 2.*\[1, 1\]"),
    "set 513 threads": ("c = fresh(); c.detach(); c.set_n_threads(513)", VALUE, r"n_threads is 513.*\[1, 512\]"),
    "set threads of text": ("fresh().set_n_threads('1')", TYPE, "n_threads must be an integer"),
    "more threads than the system starts": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30)); llama_cy.Threadpool(512)",
        "BackendError",
        "can't start a pool of 512 threads",
    ),
}
SETUP = """
import sys
import llama_cy
from llama_cy import Threadpool

model = llama_cy.Model(sys.argv[3], n_gpu_layers=0)

def fresh():
    return model.context(n_ctx=64, n_threads=1)
"""


def test_refused(tiny_path: Path) -> None:
    cases: dict[str, Any] = dict(REFUSED)
    if not LINUX:
        # Other systems have no such limit, and no CPUs to name.
        cases = {name: case for name, case in cases.items() if "cpumask" not in case[0] and "RLIMIT_AS" not in case[0]}
    came_to = outcomes(SETUP, {name: source for name, (source, _, _) in cases.items()}, tiny_path)
    for name, (_, error, text) in cases.items():
        assert error in came_to[name].raised, (name, came_to[name])
        assert re.search(text, came_to[name].text), (name, came_to[name])
