"""Run workers one after another, and make a short script of what ended one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .session import script_of

__all__ = ["Finding", "Report", "run_examples", "shorten"]

TESTS = Path(__file__).resolve().parents[1]
# A worker that lives forever would hide what only shows in a fresh process.
PER_WORKER = 500
# Without a line in the journal for so long, an example hangs; a machine in use by others may take a little longer.
HANG_SECONDS = 10.0 * float(os.environ.get("STATEFUL_PATIENCE", "3"))
# Before the first line lies the start of an interpreter, and of whatever drives the devices that there are.
START_SECONDS = 60.0


@dataclass
class Finding:
    """Something that must not be: how it ended, and a script that shows it."""

    how: str
    text: str
    script: str
    seed: int


@dataclass
class Report:
    """What came of a campaign."""

    examples: int = 0
    lines: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "GGML_NO_BACKTRACE": "1"}


def run_examples(
    n: int, seed: int, *, shrink: bool = True, tell: Callable[[str], None] = lambda text: None, stop: bool = False
) -> Report:
    """Run `n` examples, in workers of 500, from a seed that each of them counts up."""
    report = Report()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stateful-") as temporary:
        folder = Path(temporary)
        while report.examples < n:
            before = report.examples
            finding = run_worker(folder, seed, min(PER_WORKER, n - report.examples), report, shrink)
            if finding is not None:
                report.findings.append(finding)
                tell(f"{finding.how} (seed {seed}): {finding.text}\n{finding.script}")
                if stop:
                    break
            seed += 1
            report.seconds = time.monotonic() - begun
            if report.examples // 5000 != before // 5000:
                tell(
                    f"{report.examples} examples, {report.lines} calls, {report.seconds:.0f} s, "
                    f"{len(report.findings)} findings"
                )
    report.seconds = time.monotonic() - begun
    return report


def run_worker(folder: Path, seed: int, count: int, report: Report, shrink: bool) -> Finding | None:
    """Run one process of examples."""
    journal = folder / "journal"
    journal.write_text("")
    errors = folder / "errors"
    command = [sys.executable, "-X", "faulthandler", "-m", "stateful.worker", str(folder / "models"), str(journal)]
    with errors.open("wb") as stderr:
        child = subprocess.Popen(
            [*command, str(seed), str(count), *(["shrink"] if shrink else [])],
            stdout=subprocess.PIPE, stderr=stderr, env=environment(), cwd=folder, text=True,
        )  # fmt: skip
        hung = wait(child, journal)
    assert child.stdout is not None
    told = [json.loads(line) for line in child.stdout.read().splitlines()]
    child.stdout.close()
    text = journal.read_text(errors="replace")
    examples = text.count("# begin\n")
    report.examples += examples
    report.lines += text.count("\n") - examples
    if told and "failed" in told[-1]:
        return Finding("failed", told[-1]["failed"], told[-1]["script"], seed)
    if child.returncode == 0 and told and "finished" in told[-1]:
        return None
    how = (
        "hung"
        if hung
        else signal.Signals(-child.returncode).name
        if child.returncode < 0
        else f"status {child.returncode}"
    )
    lines = text.rpartition("# begin\n")[2].splitlines()
    lines = shorten(lines, folder / "models") if shrink else lines
    words = errors.read_text(errors="replace")
    # A traceback of faulthandler begins with where it is, and is long.
    place = words.find("Fatal Python error")
    return Finding(how, words[place:][:3000] if place >= 0 else words[-3000:], script_of(lines), seed)


def wait(child: subprocess.Popen[str], journal: Path) -> bool:
    """Wait for the end of a worker; one that writes nothing in its journal for too long is ended, and True returned."""
    size, since = -1, time.monotonic()
    while True:
        try:
            child.wait(0.5)
        except subprocess.TimeoutExpired:
            now = journal.stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            elif time.monotonic() - since > (HANG_SECONDS if size else max(HANG_SECONDS, START_SECONDS)):
                # The handler of Python's faulthandler writes where it is.
                child.send_signal(signal.SIGABRT)
                child.wait()
                return True
        else:
            return False


def ends_badly(lines: list[str], folder: Path) -> bool:
    """Run a script in a process of its own, and tell whether it ends it."""
    source = (
        f"import sys\nfrom pathlib import Path\nfrom stateful.session import prepare\nprepare(Path({str(folder)!r}))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", source + script_of(lines)],
            env=environment(), capture_output=True, timeout=HANG_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def shorten(lines: list[str], folder: Path, seconds: float = 120.0) -> list[str]:
    """Leave out lines, in smaller and smaller pieces, as long as the rest still ends the process."""
    deadline = time.monotonic() + seconds
    if not ends_badly(lines, folder):
        return ["# this needs what went before in its process", *lines]
    piece = len(lines) // 2
    while piece and time.monotonic() < deadline:
        at = 0
        while at < len(lines) and time.monotonic() < deadline:
            rest = lines[:at] + lines[at + piece :]
            if rest and ends_badly(rest, folder):
                lines = rest
            else:
                at += piece
        piece //= 2
    return lines
