"""Contexts of one model, lent to threads and tasks."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from .checks import flag, integer, real
from .context import Context
from .errors import ClosedError, ContextBusyError, ContextError, PoolTimeoutError
from .model import Model
from .threadpool import default_n_threads
from .worker import Worker

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

# Longer than any wait, and what the system's locks still take.
_MOST_SECONDS = 1e6


class ContextPool:
    """Contexts of one model for many threads and tasks: each is lent to one user at a time.

    Parameters
    ----------
    model : Model
    size : int
        Contexts at most, in ``[1, 65536]``. The first is made at once, the others when they are needed.
    forget : bool
        Clear the memory of a context that comes back. By default it stays, so that the next prompt is decoded only
        where it differs.
    **params
        As in :class:`Context`. Unless `n_threads` is given, the contexts share the physical cores.

    Attributes
    ----------
    model : Model
    size : int

    Notes
    -----
    Who waits is served in the order of asking, threads and tasks alike. A context that comes back computes without
    adapters, control vectors and abort callback again; other settings stay as its user left them. One that its user
    closed, broke or forgot makes place for a new one.
    """

    def __init__(self, model: Model, size: int = 4, *, forget: bool = False, **params: Any) -> None:
        if not isinstance(model, Model):
            raise TypeError(f"model must be a Model, not {type(model).__name__}")
        self.model = model
        self.size = integer("size", size, 1, 65536)
        self._forget = flag("forget", forget)
        self._params = {"n_threads": max(1, default_n_threads() // self.size)} | params
        self._lock = threading.RLock()
        self._owner: int | None = None
        self._maker = os.getpid()
        self._forked = False
        # What is wrong with the parameters shows here and not at the first user.
        self._idle = [model.context(**self._params)]
        # Contexts that there are, or that are being made.
        self._made = 1
        self._lent: set[weakref.ref[Context]] = set()
        self._lost: deque[weakref.ref[Context]] = deque()
        self._waiting: deque[concurrent.futures.Future[Context | None]] = deque()
        self._closed = False

    @contextmanager
    def _state(self) -> Iterator[None]:
        """Change what the pool knows, then serve those who wait."""
        if self._maker != os.getpid():
            # Whoever held the lock, or waits, is not in this forked child.
            self._maker, self._lock, self._owner = os.getpid(), threading.RLock(), None
            self._waiting.clear()
            self._forked = True
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
                self._serve()
            finally:
                self._owner = None
        if self._lost:
            with self._state():
                while self._lost:
                    self._lent.discard(self._lost.popleft())
                    self._made -= 1

    def _collected(self, lost: weakref.ref[Context]) -> None:
        """Note that a lent context was forgotten; the collector calls this anywhere, also in the middle of a change."""
        self._lost.append(lost)
        if self._owner != threading.get_ident():
            with self._state():
                pass

    def _serve(self) -> None:
        """Give each of the first who wait a context, or leave to make one."""
        while self._waiting and (self._closed or self._idle or self._made < self.size):
            asked = self._waiting.popleft()
            if not asked.set_running_or_notify_cancel():
                continue
            if self._closed:
                asked.set_exception(ClosedError("the pool was closed"))
            elif self._idle:
                asked.set_result(self._idle.pop())
            else:
                self._made += 1
                asked.set_result(None)

    def _ask(self) -> concurrent.futures.Future[Context | None]:
        asked: concurrent.futures.Future[Context | None] = concurrent.futures.Future()
        with self._state():
            self._check_open()
            self._waiting.append(asked)
        return asked

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the pool is closed")
        if self._forked:
            raise ContextError("the pool was made before this process was forked; make one here")

    def _give(self, context: Context | None) -> Context:
        """Note who has the context; it is made first where there is none."""
        if context is None:
            try:
                context = self.model.context(**self._params)
            except BaseException:
                with self._state():
                    self._made -= 1
                raise
        self._lend(context)
        return context

    def _lend(self, context: Context) -> None:
        with self._state():
            self._lent.add(weakref.ref(context, _caller(weakref.ref(self))))

    def _take_back(self, asked: concurrent.futures.Future[Context | None]) -> None:
        """Undo a wait that nobody waits for any more."""
        with suppress(ClosedError, ValueError), self._state():
            if asked.cancel():
                self._waiting.remove(asked)
            else:
                self._keep(asked.result())

    def _keep(self, context: Context | None) -> None:
        if context is None or context.closed or self._closed:
            self._made -= 1
        else:
            self._idle.append(context)

    def _late(self, seconds: float | None) -> PoolTimeoutError:
        return PoolTimeoutError(f"none of the {self.size} contexts came back within {seconds:g} s")

    def acquire(self, timeout: float | None = None) -> Context:
        """Wait for a context and borrow it; :meth:`release` gives it back.

        Parameters
        ----------
        timeout : float, optional
            Seconds; as long as it takes, unless given.

        Raises
        ------
        PoolTimeoutError
        ClosedError
            The pool is closed, or was while this waited.
        """
        seconds = None if timeout is None else real("timeout", timeout, 0, _MOST_SECONDS)
        asked = self._ask()
        try:
            context = asked.result(seconds)
        except concurrent.futures.TimeoutError:
            self._take_back(asked)
            raise self._late(seconds) from None
        except BaseException:
            self._take_back(asked)
            raise
        return self._give(context)

    async def aacquire(self, timeout: float | None = None) -> Context:
        """Wait for a context and borrow it, as :meth:`acquire` does, while the event loop goes on.

        Parameters
        ----------
        timeout : float, optional
            Seconds; as long as it takes, unless given.
        """
        import asyncio

        seconds = None if timeout is None else real("timeout", timeout, 0, _MOST_SECONDS)
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        asked = self._ask()

        def tell(_: object) -> None:
            # A loop that was closed meanwhile does not care.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(ready.set)

        asked.add_done_callback(tell)
        try:
            # It has no result that could get lost between the two.
            await asyncio.wait_for(ready.wait(), seconds)
        except asyncio.TimeoutError:
            pass
        except BaseException:
            self._take_back(asked)
            raise
        if not asked.done():
            self._take_back(asked)
            raise self._late(seconds)
        context = asked.result()
        if context is not None:
            return self._give(context)
        worker = Worker("llama_cy pool")
        made: list[Context] = []
        try:
            await worker.run(lambda: made.append(self._give(None)), lambda: None)
        except BaseException:
            for context in made:
                self.release(context)
            raise
        finally:
            worker.close()
        return made[0]

    def release(self, context: Context) -> None:
        """Give a context back.

        Raises
        ------
        ValueError
            It is not lent by this pool, or not any more.
        ContextBusyError
            A thread still computes with it, so it stays lent.
        """
        with self._state():
            if not isinstance(context, Context) or (ref := weakref.ref(context)) not in self._lent:
                raise ValueError(f"{context!r} is not lent by this pool")
            # From here on nobody else gives it back.
            self._lent.discard(ref)
        try:
            self._clean(context)
        except BaseException:
            self._lend(context)
            raise
        with self._state():
            self._keep(context)

    def _clean(self, context: Context) -> None:
        """Take away what the next user would not expect."""
        if context.closed:
            return
        try:
            context.synchronize()
        except ContextBusyError:
            raise
        except ContextError:
            # llama.cpp threw in it.
            context.close()
            return
        if self._closed:
            context.close()
            return
        if context.adapters:
            context.set_adapters(None)
        if context.control_vectors:
            context.set_control_vectors(None)
        context.set_abort_callback(None)
        if self._forget:
            context.memory.clear()

    @contextmanager
    def context(self, timeout: float | None = None) -> Iterator[Context]:
        """Borrow a context for a ``with`` block; see :meth:`acquire`.

        Parameters
        ----------
        timeout : float, optional
            Seconds; as long as it takes, unless given.
        """
        context = self.acquire(timeout)
        try:
            yield context
        finally:
            self.release(context)

    @asynccontextmanager
    async def acontext(self, timeout: float | None = None) -> AsyncIterator[Context]:
        """Borrow a context for an ``async with`` block; see :meth:`aacquire`.

        Parameters
        ----------
        timeout : float, optional
            Seconds; as long as it takes, unless given.
        """
        context = await self.aacquire(timeout)
        try:
            yield context
        finally:
            self.release(context)

    def close(self, *, cancel: bool = False) -> None:
        """Free the contexts that are here at once, and those that are lent when they come back; may be called again.

        Who waits gets a :class:`ClosedError`.

        Parameters
        ----------
        cancel : bool
            End what is computed with those that are lent.
        """
        cancelling = flag("cancel", cancel)
        with self._state():
            self._closed = True
            idle, self._idle = self._idle, []
            self._made -= len(idle)
            lent = [context for ref in self._lent if (context := ref()) is not None]
        for context in idle:
            context.close()
        for context in lent if cancelling else ():
            with suppress(ClosedError):
                context.cancel()

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closed

    @property
    def n_lent(self) -> int:
        """Contexts that somebody has now."""
        return len(self._lent)

    @property
    def n_idle(self) -> int:
        """Contexts that are made and that nobody has."""
        return len(self._idle)

    @property
    def n_waiting(self) -> int:
        """Threads and tasks that wait for one."""
        return len(self._waiting)

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._closed:
            return f"<ContextPool, closed, {self.n_lent} lent>"
        return f"<ContextPool of {self.size}: {self.n_idle} idle, {self.n_lent} lent, {self.n_waiting} waiting>"


def _caller(pool: weakref.ref[ContextPool]) -> Callable[[weakref.ref[Context]], None]:
    """Return what the collector calls; it must not keep the pool alive."""

    def collected(lost: weakref.ref[Context]) -> None:
        owner = pool()
        if owner is not None:
            owner._collected(lost)

    return collected
