"""What a file is read from, beside a path: open files, descriptors and memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO


def in_memory(data: Any) -> BinaryIO:
    """Return a file that has no name and holds the bytes of a buffer; it stands at its beginning."""
    if hasattr(os, "memfd_create"):
        file: Any = os.fdopen(os.memfd_create("llama_cy"), "r+b")
    else:
        import tempfile

        file = tempfile.TemporaryFile()  # noqa: SIM115 - handed on
    try:
        file.write(memoryview(data).cast("B"))
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file  # type: ignore[no-any-return]


def name_of(source: Any) -> str:
    """Return what to call a source in messages."""
    name = getattr(source, "name", source)
    return name if isinstance(name, str) else f"<{type(source).__name__} {name}>"


@contextmanager
def descriptor(source: Any, what: str) -> Iterator[tuple[int, int]]:
    """Give a file descriptor and the position where an open file, or a descriptor, stands; both stay where they are.

    Parameters
    ----------
    source : binary file or int
    what : str
        What is read from it, for the messages.
    """
    if isinstance(source, int) and not isinstance(source, bool):
        fd, position = source, None
    elif isinstance(source, io.TextIOBase):
        raise TypeError(f"{what} is read from a file opened in binary mode, not {source!r}")
    elif not callable(getattr(source, "read", None)):
        raise TypeError(f"{what} comes from a path, an open file or a descriptor, not {type(source).__name__}")
    else:
        try:
            fd, position = source.fileno(), source.tell()
        except OSError:
            # It is in memory, or packed.
            data = source.read()
            if not isinstance(data, bytes):
                raise TypeError(f"{what} is read from a file opened in binary mode, not {source!r}") from None
            with in_memory(data) as file:
                yield file.fileno(), 0
            return
    try:
        before = os.lseek(fd, 0, os.SEEK_CUR)
    except OSError as error:
        reason = f"{what} is read from a descriptor that can be sought in, which {fd} is not: {error.strerror}"
        raise OSError(error.errno, reason) from None
    try:
        yield fd, before if position is None else position
    finally:
        os.lseek(fd, before, os.SEEK_SET)
