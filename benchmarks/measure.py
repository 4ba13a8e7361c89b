"""Runs that take turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.contender import ContenderError, Sample
from benchmarks.plan import Group, Row

__all__ = ["Figure", "Limit", "measure", "measure_limit"]

# Where a process happens to have its memory can cost it a percent or two for as long as it lives.
STARTS = 3


@dataclass(frozen=True)
class Figure:
    """What the runs of one row came to.

    Attributes
    ----------
    microseconds : float
        For one of the things that the group counts; the median of the runs.
    ratio, low, high : float
        Of that to the first row of the group, in the same round: the median, and the quartiles around it.
    best : float
        The ratio of the shortest runs of both: what is left where something else ran on the machine.
    """

    name: str
    microseconds: float
    ratio: float
    low: float
    high: float
    best: float
    runs: int
    digest: int
    target: float | None
    peer: str
    error: str = ""

    @property
    def per_second(self) -> float:
        return 1e6 / self.microseconds if self.microseconds else 0.0

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached, None where there is none."""
        return None if self.target is None or self.error else self.ratio <= self.target


def measure(group: Group, rounds: int, seconds: float) -> list[Figure]:
    """Run the rows of a group in turn, `rounds` times or for so many seconds, but three times at least."""
    samples: dict[str, list[float]] = {row.name: [] for row in group.rows}
    digests: dict[str, int] = {}
    errors: dict[str, str] = {}
    spent, number = 0.0, 0
    for start in range(1, STARTS + 1):
        alive = [row for row in group.rows if row.name not in errors]
        with ExitStack() as stack:
            for row in tuple(alive):
                try:
                    stack.enter_context(row.contender)
                    row.contender.ready()
                except (OSError, ContenderError) as error:
                    errors[row.name] = str(error)
                    alive.remove(row)
            begin = time.perf_counter()
            while alive and number < rounds * start / STARTS:
                now = spent + time.perf_counter() - begin
                if number >= start and now > seconds * start / STARTS:
                    break
                # The first of a round is another one each time.
                turn = number % len(alive)
                for row in [*alive[turn:], *alive[:turn]]:
                    try:
                        sample: Sample = row.contender.run()
                    except ContenderError as error:
                        errors[row.name] = str(error)
                        alive.remove(row)
                        continue
                    samples[row.name].append(sample.seconds / sample.things * 1e6)
                    digests[row.name] = sample.digest
                number += 1
            spent += time.perf_counter() - begin
    base = samples[group.rows[0].name]
    return [
        figure(row, samples[row.name], base, digest=digests.get(row.name, 0), error=errors.get(row.name, ""))
        for row in group.rows
    ]


def figure(row: Row, times: Sequence[float], base: Sequence[float], *, digest: int, error: str) -> Figure:
    """Sum up the runs of a row."""
    if not times or not base:
        return Figure(row.name, 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, row.target, row.peer, error or "nothing to compare with")
    ratios = [one / other for one, other in zip(times, base, strict=False)]
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return Figure(
        row.name, statistics.median(times), statistics.median(ratios), low, high, min(times) / min(base), len(times),
        digest, row.target, row.peer, error,
    )  # fmt: skip


@dataclass(frozen=True)
class Limit:
    """What one of llama.cpp's own programs says."""

    name: str
    model: str
    per_second: float
    command: str


def measure_limit(program: Path, model: str, path: Path, *, threads: int, gpu: bool, rounds: int) -> list[Limit]:
    """Run llama-bench or llama-batched-bench; in tokens per second."""
    layers = "99" if gpu else "0"
    if "batched" in program.name:
        command = [
            str(program), "-m", str(path), "-c", "8192", "-b", "2048", "-ub", "512", "-npp", "16", "-ntg", "32", "-npl",
            "128", "-ngl", layers, "-t", str(threads), "--output-format", "jsonl",
        ]  # fmt: skip
        found = [json.loads(line) for line in output_of(command).splitlines() if line.startswith("{")]
        return [Limit("llama-batched-bench, 128 sequences", model, one["speed_tg"], told(command)) for one in found]
    command = [
        str(program), "-m", str(path), "-p", "512", "-n", "128", "-ngl", layers, "-t", str(threads), "-r", str(rounds),
        "-o", "json",
    ]  # fmt: skip
    limits = []
    for one in json.loads(output_of(command)):
        name = f"llama-bench pp{one['n_prompt']}" if one["n_prompt"] else f"llama-bench tg{one['n_gen']}"
        limits.append(Limit(name, model, statistics.median(one["samples_ts"]), told(command)))
    return limits


def told(command: list[str]) -> str:
    """Spell a command as it would be typed, without the folders of this machine."""
    return " ".join(Path(part).name if os.sep in part else part for part in command)


def output_of(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{command[0]} ended with {done.returncode}: {done.stderr[-400:]}", file=sys.stderr)
        return "[]"
    return done.stdout
