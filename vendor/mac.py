"""Which of a Mac's two architectures to build for."""

from __future__ import annotations

import re


def machine(archflags: str, running: str, kernel: str, python: str) -> str:
    """Choose the one architecture to build for on a Mac: what ARCHFLAGS asks for, or the Mac's own.

    Parameters
    ----------
    archflags, running, kernel, python : str
        ``$ARCHFLAGS``, the architecture this process runs as, ``uname -v`` and ``sysconfig.get_platform()``.
    """
    asked = re.findall(r"-arch\s+(\S+)", archflags)
    if len(set(asked)) > 1:
        raise ValueError(f"ARCHFLAGS asks for {' and '.join(asked)} at once; build one wheel for each")
    if asked:
        return str(asked[0])
    if running == "x86_64" and "ARM64" in kernel:
        if python.endswith("universal2"):
            raise ValueError(
                "this shell runs Python as x86_64 under Rosetta; "
                "`arch -arm64 python3 -m pip install .` builds for the Mac itself, with Metal"
            )
        raise ValueError(
            "this Python is x86_64 but the Mac is arm64; use an arm64 Python to get Metal, "
            "for example from `brew install python`"
        )
    return running


def without_architectures(command: list[str]) -> list[str]:
    """Leave the architecture to our own flags: the compiler command of a universal2 Python names two."""
    return [part for index, part in enumerate(command) if "-arch" not in command[max(index - 1, 0) : index + 1]]
