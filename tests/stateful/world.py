"""Run calls as lines of a script, with what is expected of them written beside."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import llama_cy

__all__ = ["CONTRACT", "Raised", "SeenContext", "World"]

# What a call may raise: all else is a failure, as is an AttributeError or a bare RuntimeError from inside.
CONTRACT = (llama_cy.LlamaError, ValueError, TypeError, IndexError, BufferError, OverflowError, MemoryError, OSError)
SETUP = """import sys
import llama_cy
models = {{}}
for name in {kinds!r}:
    models[name] = llama_cy.Model({folder!r} + "/" + name + ".gguf", n_gpu_layers=0)
"""


@dataclass
class Raised:
    """What a call raised instead of returning."""

    error: BaseException

    def __repr__(self) -> str:
        return f"{type(self.error).__name__}: {self.error}"


@dataclass
class SeenContext:
    """What a context should hold.

    Attributes
    ----------
    positions : dict of int to list of int, or None
        By sequence, those remembered; None where nobody knows until they are asked for.
    tokens : tuple of int or None
        All of sequence 0, where nothing but decoding made it.
    rows : bool or None
        Whether the last call left logits.
    """

    model: str
    n_ctx: int
    n_seq_max: int
    unified: bool
    closed: bool = False
    positions: dict[int, list[int]] | None = field(default_factory=dict)
    tokens: tuple[int, ...] | None = ()
    rows: bool | None = False

    def held(self, seq: int) -> list[int]:
        assert self.positions is not None
        return self.positions.get(seq, [])


class World:
    """The names of one example, the lines that made them, and where the lines are told."""

    def __init__(self, models: dict[str, Any], folder: Path, log: int) -> None:
        self.names: dict[str, Any] = {"models": models, "llama_cy": llama_cy}
        self.log = log
        self.count = 0
        os.write(log, b"\0" + SETUP.format(kinds=sorted(models), folder=str(folder)).encode())

    def name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def do(self, line: str) -> Any:
        """Run a line; return the value of an expression, or what was raised."""
        os.write(self.log, f"{line}\n".encode())
        return self.run(line)

    def run(self, line: str) -> Any:
        try:
            try:
                code = compile(line, "<example>", "eval")
            except SyntaxError:
                exec(compile(line, "<example>", "exec"), self.names)
                return None
            return eval(code, self.names)
        except CONTRACT as error:
            return Raised(error.with_traceback(None))

    def together(self, *lines: str) -> list[Any]:
        """Run lines at the same time, each in a thread."""
        os.write(self.log, f"together{lines!r}\n".encode())
        found: list[Any] = [None] * len(lines)

        def work(i: int) -> None:
            try:
                found[i] = self.run(lines[i])
            except BaseException as error:
                found[i] = error

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(lines))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in found:
            if isinstance(result, BaseException):
                raise result
        return found
