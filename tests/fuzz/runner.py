"""Feed mutants to workers, and count what came of them; a worker that dies or hangs is a finding."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Findings", "run_mutants"]

TESTS = Path(__file__).resolve().parents[1]
# A worker that lives forever would hide what only shows in a fresh process.
PER_WORKER = 250
# Seconds of computing; a worker that waits hangs as well, but one that others keep from computing does not.
HANG_SECONDS = 10.0
WAIT_SECONDS = 300.0


@dataclass
class Findings:
    """What came of all mutants.

    Attributes
    ----------
    counts : Counter
        Mutants by outcome: ``used``, ``refused``, ``died``, ``hung``, ``unexpected``.
    refused : Counter
        Refusals by the start of their text.
    bad : list of dict
        The mutants that died, hung or raised what nobody should see.
    """

    counts: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    bad: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    def asserts(self) -> Counter[str]:
        """Count the refusals that were failed asserts, by their text."""
        counts: Counter[str] = Counter()
        for text, count in self.refused.items():
            if found := re.search(r"[\w./-]+:\d+: GGML_ASSERT\(.*|[\w./-]+\.(cpp|c|h):\d+: .*", text):
                counts[found[0]] += count
        return counts

    def add(self, result: dict[str, Any]) -> None:
        self.counts[result["outcome"]] += 1
        if result["outcome"] == "refused":
            self.refused[f"{result['error']}: {result['text']}"] += 1
        elif result["outcome"] != "used":
            self.bad.append(result)


class _Worker:
    def __init__(self, target: str, folder: Path) -> None:
        environ = os.environ | {"PYTHONPATH": str(TESTS), "GGML_NO_BACKTRACE": "1"}
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the worker
        self.process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "fuzz.worker", target, str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, env=environ, cwd=folder,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.lines = b""
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def line(self, seconds: float) -> dict[str, Any] | None:
        """Return the next line, None at the end of the output; TimeoutError if nothing comes."""
        deadline = time.monotonic() + seconds
        assert self.process.stdout is not None
        while b"\n" not in self.lines:
            left = deadline - time.monotonic()
            if left <= 0 or not self.selector.select(left):
                raise TimeoutError
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return None
            self.lines += data
        line, _, self.lines = self.lines.partition(b"\n")
        return dict(json.loads(line))

    def computed(self) -> float:
        """Return the seconds of processor time that it took so far."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        if stat.exists():
            user, system = stat.read_text().rpartition(")")[2].split()[11:13]
            return (int(user) + int(system)) / float(os.sysconf("SC_CLK_TCK"))
        command = ["ps", "-o", "cputime=", "-p", str(self.process.pid)]
        text = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        days, _, clock = text.rpartition("-")
        parts = [float(part) for part in clock.split(":")] if clock else [0.0]
        return float(days or 0) * 86400.0 + sum(part * 60.0**i for i, part in enumerate(reversed(parts)))

    def send(self, order: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return

    def end(self) -> tuple[int, str]:
        """End it, and return its status and what it wrote to stderr."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            status = self.process.wait(HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        self.process.stdout.close()
        self.selector.close()
        self.errors.seek(0)
        text = self.errors.read().decode(errors="replace")
        self.errors.close()
        return status, text


def _run_one(worker: _Worker, order: Any) -> dict[str, Any]:
    """Give a worker an order and wait for its outcome."""
    worker.send(order)
    begun, computed = time.monotonic(), worker.computed()
    while True:
        try:
            line = worker.line(1.0)
        except TimeoutError:
            if worker.computed() - computed < HANG_SECONDS and time.monotonic() - begun < WAIT_SECONDS:
                continue
            worker.process.send_signal(signal.SIGABRT)
            return {"outcome": "hung", "error": "hung"}
        if line is None:
            return {"outcome": "died", "error": "died"}
        if "end" in line:
            return line
        begun, computed = time.monotonic(), worker.computed()


def run_mutants(target: str, orders: Iterable[Any], folder: Path, *, report: Any = None) -> Findings:
    """Run the mutants that seeds, or pairs of a base and a recipe, stand for."""
    findings = Findings()
    begun = time.monotonic()
    pending: Iterator[Any] = iter(orders)
    worker: _Worker | None = None
    done = 0
    for order in pending:
        if worker is None:
            worker, done = _Worker(target, folder), 0
        result = _run_one(worker, order)
        done += 1
        if result["outcome"] in ("died", "hung", "unexpected") or done == PER_WORKER:
            status, text = worker.end()
            worker = None
            if result["outcome"] in ("died", "hung"):
                result["error"] = signal.Signals(-status).name if status < 0 else f"status {status}"
                result["text"] = text[-3000:]
            elif status != 0 and result["outcome"] != "unexpected":
                result = {"outcome": "died", "error": f"at the end, with {status}", "text": text[-3000:]}
        result["order"] = order
        findings.add(result)
        if report is not None:
            report(result, findings)
    if worker is not None:
        status, text = worker.end()
        if status != 0:
            findings.add(
                {"outcome": "died", "error": f"at the end, with {status}", "text": text[-3000:], "order": None}
            )
    findings.seconds = time.monotonic() - begun
    return findings
