"""``python -m fuzz stateful --examples 100000``: examples in child processes, until one of them ends its own."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fuzz.bases import MODELS

from .machine import KINDS

__all__ = ["Campaign", "main", "run_examples"]

TESTS = Path(__file__).resolve().parents[1]
# A fresh process now and then; and one that writes no line for so long hangs.
PER_WORKER = 500
HANG_SECONDS = 60.0


@dataclass
class Campaign:
    """What came of the examples: how many ran, and what was wrong with some."""

    examples: int
    failures: list[str]
    seconds: float


def run_worker(
    folder: Path, examples: int, seed: int, program: tuple[str, ...] = ("-m", "stateful.worker")
) -> tuple[int, str]:
    """Run one process; return the examples that it counted and what went wrong, which is nothing or a report."""
    log = folder / "lines"
    log.write_bytes(b"")
    environ = os.environ | {"PYTHONPATH": str(TESTS), "GGML_NO_BACKTRACE": "1"}
    command = [sys.executable, "-X", "faulthandler", *program, str(folder), str(examples), str(seed), str(log)]
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=folder)
        size, since = -1, time.monotonic()
        hung = False
        while child.poll() is None:
            time.sleep(0.2)
            now = log.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > HANG_SECONDS:
                hung = True
                child.send_signal(signal.SIGABRT)
                child.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    script = log.read_bytes().rpartition(b"\0")[2].decode()
    begun = log.read_bytes().count(b"\0")
    if child.returncode == 0:
        return begun, ""
    how = "hung" if hung else f"died of {signal.Signals(-child.returncode).name}" if child.returncode < 0 else "failed"
    return begun, f"seed {seed} {how}:\n{text[-6000:]}\n# the script\n{script}"


def run_examples(examples: int, *, seed: int = 0, folder: Path | None = None) -> Campaign:
    """Run so many examples, in as many processes as they need."""
    begun, count = time.monotonic(), 0
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="stateful-") as temporary:
        place = folder or Path(temporary)
        for kind in KINDS:
            if not (place / f"{kind}.gguf").exists():
                MODELS[kind](place / f"{kind}.gguf")
        while count < examples and len(failures) < 5:
            done, report = run_worker(place, min(PER_WORKER, examples - count), seed)
            count, seed = count + done, seed + 1
            if report:
                failures.append(report)
    return Campaign(count, failures, time.monotonic() - begun)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz stateful", description=__doc__)
    parser.add_argument("--examples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(sys.argv[2:])
    campaign = run_examples(options.examples, seed=options.seed)
    for report in campaign.failures:
        print(report)
    print(f"{campaign.examples} examples in {campaign.seconds:.0f} s, {len(campaign.failures)} failures")
    return 1 if campaign.failures else 0
