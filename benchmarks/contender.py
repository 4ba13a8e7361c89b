"""A process that is measured: it stays alive, so that runs of different ones can take turns."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

__all__ = ["Contender", "ContenderError", "Sample"]

ROOT = Path(__file__).resolve().parents[1]


class ContenderError(Exception):
    """The process ended or said something else than expected."""


class Sample(NamedTuple):
    """One run."""

    seconds: float
    things: int
    digest: int


@dataclass
class Contender:
    """A command that makes one run for each line on its stdin."""

    command: list[str]
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Contender:
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, cwd=ROOT,
            env={**os.environ, **self.environ},
        )  # fmt: skip
        return self

    def ready(self) -> None:
        """Wait until it is set up and warm."""
        if not self._answer().get("ready"):
            raise ContenderError("it is not ready")

    def run(self) -> Sample:
        """Make one run."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write("run\n")
            self.process.stdin.flush()
        except OSError:
            pass
        answer = self._answer()
        return Sample(answer["seconds"], answer["count"], answer["digest"])

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.errors.seek(0)
            lines = self.errors.read().strip().splitlines()
            raise ContenderError(f"ended with {self.process.returncode}: {' | '.join(lines[-3:])}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.errors.close()
