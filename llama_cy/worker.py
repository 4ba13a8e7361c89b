"""A thread that computes for an event loop, which goes on meanwhile."""

from __future__ import annotations

import contextvars
import functools
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio

_T = TypeVar("_T")
WAKE_SECONDS = 0.1


class Worker:
    """A daemon thread of its own, started at the first call, that runs one call after another.

    The threads of a pool that others use too may all be taken, and the exit of the interpreter would wait for them.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._orders: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        weakref.finalize(self, self._orders.put, None).atexit = False

    async def run(self, work: Callable[[], _T], cancel: Callable[[], object]) -> _T:
        """Run a function in the thread and return its result.

        Parameters
        ----------
        work : callable
        cancel : callable
            Called when the task is cancelled; it makes `work` end soon. The cancellation goes on when `work` has ended.
        """
        import asyncio

        done: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        context = contextvars.copy_context()
        self._send(functools.partial(_carry_out, context, work, done))
        interruption: asyncio.CancelledError | None = None
        while not done.done():
            try:
                # It leaves the future alone when this task is cancelled. A notebook's kernel asks for that from another
                # thread and does not wake the loop, so the loop looks by itself.
                await asyncio.wait([done], timeout=WAKE_SECONDS)
            except asyncio.CancelledError as error:
                interruption = error
                cancel()
        try:
            if interruption is not None:
                # Asked for, so that asyncio does not report an error that nobody looked at.
                done.exception()
                raise interruption
            return done.result()
        finally:
            # The error's traceback keeps this frame, which must not keep the error and the result.
            del interruption, done

    def _send(self, order: Callable[[], None]) -> None:
        # In a forked child it is not alive.
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=_serve, args=(self._orders,), name=self._name, daemon=True)
            self._thread.start()
        self._orders.put(order)

    def close(self) -> None:
        """End the thread after what it does now; a later call starts another one."""
        if self._thread is not None:
            self._thread = None
            self._orders.put(None)


def _serve(orders: SimpleQueue[Callable[[], None] | None]) -> None:
    while True:
        order = orders.get()
        if order is None:
            return
        order()
        # Until the next one comes, nothing of this one is kept alive.
        del order


def _carry_out(context: contextvars.Context, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
    """Run the work, and hand its outcome to the event loop; one that was closed meanwhile wants it no more."""
    # In a box that the receiver empties, so that nothing is kept alive here.
    box: list[Any] = []
    deliver: Callable[[Any], None]
    try:
        box.append(context.run(work))
        deliver = done.set_result
    except StopIteration as error:
        # A future refuses it.
        box.append(RuntimeError(f"StopIteration: {error.value}"))
        deliver = done.set_exception
    except BaseException as error:
        box.append(error)
        deliver = done.set_exception
    with suppress(RuntimeError):
        done.get_loop().call_soon_threadsafe(_settle, done, deliver, box)


def _settle(done: asyncio.Future[Any], deliver: Callable[[Any], None], box: list[Any]) -> None:
    if not done.done():
        deliver(box.pop())
