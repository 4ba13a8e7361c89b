"""Loading for asyncio."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

from .progress import reporter
from .worker import Worker

_T = TypeVar("_T")


class _Unwanted(BaseException):
    """Ends a load that nobody waits for any more."""


def _title(path: Any) -> str:
    return os.path.basename(os.fsdecode(path)) if isinstance(path, (str, bytes, os.PathLike)) else "model"


async def load_in_thread(load: Callable[..., _T], path: Any, *, progress: Any = None, **params: Any) -> _T:
    """Load in a thread what takes a path and a progress callback; a cancelled task ends the load."""
    unwanted = False

    def cancel() -> None:
        nonlocal unwanted
        unwanted = True

    def work() -> _T:
        with reporter(progress, _title(path)) as callback:

            def report(share: float) -> None:
                if unwanted:
                    raise _Unwanted
                if callback is not None:
                    callback(share)

            return load(path, progress=report, **params)

    worker = Worker("llama_cy load")
    try:
        return await worker.run(work, cancel)
    finally:
        worker.close()
