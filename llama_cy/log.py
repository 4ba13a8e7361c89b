"""llama.cpp's log, delivered to ``logging.getLogger("llama_cy")``. Wraps ``llama_log_set``.

llama.cpp's threads append to a queue and never wait for Python; the queue is emptied after each load, context
creation, close and failure, and by :func:`flush`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque

from . import _llama

logger = logging.getLogger("llama_cy")
# Without a handler of ours, `logging` would print warnings to stderr on its own.
logger.addHandler(logging.NullHandler())

_LEVELS = {1: logging.DEBUG, 2: logging.INFO, 3: logging.WARNING, 4: logging.ERROR}
_taking = threading.Lock()
_recent: deque[tuple[int, int, str]] = deque(maxlen=256)


def _renew_lock() -> None:
    # Who held it in the parent is not there in a forked child.
    global _taking  # noqa: PLW0603
    _taking = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def flush() -> None:
    """Hand the queued lines of llama.cpp to ``logging``."""
    with _taking:
        # No thread may look for its lines while another has taken them and not yet noted them.
        lines = [(thread, level, text.rstrip("\n")) for thread, level, text in _llama.drain_log()]
        lines = [entry for entry in lines if entry[2]]
        _recent.extend(lines)
    for _, level, line in lines:
        logger.log(_LEVELS.get(level, logging.INFO), "%s", line)


def begin() -> None:
    """Forget this thread's older lines, so that :func:`tail` tells of the call that follows."""
    flush()
    thread = threading.get_ident()
    for entry in [entry for entry in list(_recent) if entry[0] == thread]:
        try:
            _recent.remove(entry)
        except ValueError:
            continue


def tail(count: int = 5) -> tuple[str, ...]:
    """Return this thread's last warnings and errors, or its last lines where there were none.

    Parameters
    ----------
    count : int
        At most so many lines.

    Returns
    -------
    tuple of str
        Oldest first.
    """
    flush()
    thread = threading.get_ident()
    mine = [(level, line) for owner, level, line in list(_recent) if owner == thread]
    serious = [line for level, line in mine if level in (3, 4)]
    lines = serious or [line for _, line in mine]
    return tuple(lines[max(0, len(lines) - count) :])
