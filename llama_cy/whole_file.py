"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> Iterator[Path]:
    """Give a path of the same name in a folder beside `path`; what is written there moves up if nothing is raised.

    That is the file, and what else is in the folder by then, as further parts of a model. A pipe, a device or a folder
    at `path` is an OSError.
    """
    from shutil import rmtree
    from tempfile import mkdtemp

    # A link stays one, and what it leads to changes.
    target = Path(os.path.realpath(os.fsdecode(path)))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    # A pipe or a device would be gone, for everybody.
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "no regular file", os.fspath(path))
    # A name may be as long as the file system allows, which leaves nothing to add.
    maker = os.getpid()
    folder = Path(mkdtemp(prefix=f".{target.name[:64]}.", suffix=".part", dir=target.parent))
    try:
        yield folder / target.name
        if os.getpid() != maker:
            raise OSError(errno.ECHILD, "the process that writes it was forked meanwhile", os.fspath(path))
        # The first of several files is what is loaded, so it comes last.
        for part in sorted(folder.iterdir(), reverse=True):
            os.replace(part, target.with_name(part.name))
    finally:
        # A child that was forked meanwhile leaves it to its parent.
        if os.getpid() == maker:
            rmtree(folder, ignore_errors=True)
