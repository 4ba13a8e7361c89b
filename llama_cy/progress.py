"""Progress of a load: a callback, a bar, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .notebook import in_notebook, notebook_bar


@contextmanager
def reporter(progress: Any, title: str) -> Iterator[Callable[[float], Any] | None]:
    """Yield the function to call with the share done, or None.

    Parameters
    ----------
    progress : callable, bool or None
        True draws a bar: under the cell of a notebook, elsewhere on stderr with rich, or tqdm where rich is missing.
    title : str
        Shown beside the bar.
    """
    if progress is None or progress is False:
        yield None
    elif callable(progress):
        yield progress
    elif progress is True:
        with _bar(title) as report:
            yield report
    else:
        raise TypeError(f"progress must be a callable, True or None, not {type(progress).__name__}")


@contextmanager
def _bar(title: str) -> Iterator[Callable[[float], Any]]:
    if in_notebook():
        with notebook_bar(title) as report:
            yield report
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:
        with _tqdm_bar(title) as report:
            yield report
        return
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda share: bar.update(task, completed=share)


@contextmanager
def _tqdm_bar(title: str) -> Iterator[Callable[[float], Any]]:
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError('progress=True needs rich or tqdm: pip install "llama_cy[progress]"') from None
    with tqdm(total=100, desc=title, unit="%") as bar:

        def report(share: float) -> None:
            bar.update(round(share * 100) - bar.n)

        yield report
