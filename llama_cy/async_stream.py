"""Generation for asyncio: a thread computes, the event loop goes on, and a cancelled task frees its context."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Literal, SupportsIndex, TypeVar

from .completion import Completion, Timings
from .errors import ClosedError, ContextBusyError
from .loop import TokenLoop
from .stream import TextStream
from .worker import Worker

if TYPE_CHECKING:
    import asyncio
    from types import TracebackType

    from typing_extensions import Self

    from .context import Context
    from .sampler import Sampler

_Item = TypeVar("_Item")
_END: Any = object()


class _AsyncIteration(Generic[_Item]):
    """An iterator of this package that runs in a thread, and computes one item for each that is awaited."""

    def __init__(self, make: Callable[[], Any], name: str) -> None:
        self._make = make
        self._worker = Worker(f"llama_cy {name}")
        self._source: Any = None
        # What was computed when the task that waited for it was cancelled.
        self._items: deque[_Item] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._cancelled = False
        self._ended = False
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        if not self._items and not self._ended:
            await self._run(self._step)
        if self._items:
            return self._items.popleft()
        self._worker.close()
        raise StopAsyncIteration

    async def _run(self, work: Callable[[], Any]) -> Any:
        import asyncio

        if self._closed:
            raise ClosedError("the stream is closed")
        if self._waiting is not None:
            raise ContextBusyError("another task waits for this stream; one stream serves one task")
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            return await self._worker.run(work, self.cancel)
        finally:
            self._waiting.set_result(None)
            self._waiting = None

    def _open(self) -> Any:
        """Return the iterator, which is made in the thread: to tokenize a long prompt takes its time."""
        if self._source is None:
            self._source = self._make()
            if self._cancelled:
                self._source.cancel()
        return self._source

    def _step(self) -> None:
        item = next(self._open(), _END)
        if item is _END:
            self._ended = True
        else:
            self._items.append(item)

    def cancel(self) -> None:
        """End it, from any task or thread; the memory stays at the last token handed out."""
        self._cancelled = True
        if self._source is not None and not self._ended:
            # Between two items somebody may have closed the context.
            with suppress(ClosedError):
                self._source.cancel()

    async def aclose(self) -> None:
        """End it, and return once its context is free; may be called again."""
        import asyncio

        waiting = self._waiting
        try:
            if waiting is not None:
                self.cancel()
                await asyncio.wait([waiting])
        finally:
            self._closed = self._ended = True
            if self._source is not None:
                self._source.close()
            self._worker.close()

    @property
    def closed(self) -> bool:
        """Whether :meth:`aclose` was called."""
        return self._closed

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} after {self._told('tokens')}, {self.finish_reason or 'running'}>"

    def _told(self, what: str) -> str:
        try:
            return f"{len(self.tokens)} {what}"
        except ContextBusyError:
            return f"some {what}"

    @property
    def finish_reason(self) -> Literal["stop", "length", "eog", "cancelled"] | None:
        """Why it ended, as in :attr:`TokenLoop.finish_reason`."""
        reason = None if self._source is None else self._source.finish_reason
        # A step that was through when the cancellation came says nothing of it.
        return "cancelled" if reason is None and self._cancelled else reason

    @property
    def tokens(self) -> list[int]:
        """The tokens generated so far, a list of int."""
        return [] if self._source is None else self._source.tokens

    @property
    def timings(self) -> Timings:
        """What it took so far, :class:`Timings`."""
        return Timings(0, 0.0, 0, 0.0) if self._source is None else self._source.timings

    @property
    def reused(self) -> int:
        """Tokens of the prompt that were in memory already, as in :attr:`TokenLoop.reused`."""
        return 0 if self._source is None else self._source.reused


class AsyncTokenLoop(_AsyncIteration[int]):
    """Generate tokens in a thread: an asynchronous iterator of int, as :class:`TokenLoop` is an iterator.

    Parameters
    ----------
    context, prompt, sampler
        As in :class:`TokenLoop`; what is wrong with them is raised when the first token is awaited.
    **options
        The other parameters of :class:`TokenLoop`.

    Notes
    -----
    Each token is computed when it is awaited, so a slow consumer slows the computation down. When the task is cancelled
    or timed out, the decode at hand ends early, and the cancellation comes through once the context is free;
    :attr:`finish_reason` is then ``cancelled``.
    """

    def __init__(
        self,
        context: Context,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        **options: Any,
    ) -> None:
        super().__init__(lambda: TokenLoop(context, prompt, sampler, **options), "loop")


class AsyncTextStream(_AsyncIteration[str]):
    """Generate text in a thread: an asynchronous iterator of str, as :class:`TextStream` is an iterator.

    Parameters
    ----------
    context, prompt, sampler
        As in :class:`TextStream`; what is wrong with them is raised when the first text is awaited.
    **options
        The other parameters of :class:`TextStream`.

    Notes
    -----
    Each text is computed when it is awaited, so a slow consumer slows the computation down. When the task is cancelled
    or timed out, the decode at hand ends early, and the cancellation comes through once the context is free;
    :attr:`finish_reason` is then ``cancelled``.
    """

    def __init__(
        self,
        context: Context,
        prompt: str | bytes | Iterable[SupportsIndex] | None,
        sampler: Sampler | None = None,
        **options: Any,
    ) -> None:
        super().__init__(lambda: TextStream(context, prompt, sampler, **options), "stream")

    async def complete(self) -> Completion:
        """Run to the end.

        Returns
        -------
        Completion
            With all the text that was not handed out before.
        """
        done: Completion = await self._run(lambda: self._open().complete())
        self._ended = True
        self._worker.close()
        before = "".join(self._items)
        self._items.clear()
        return dataclasses.replace(done, text=before + done.text)
