"""``python -m benchmarks``: measure, print tables, and write the results."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

import llama_cy
from benchmarks.contender import ROOT
from benchmarks.machine import describe
from benchmarks.measure import Limit, measure, measure_limit
from benchmarks.models import model_path
from benchmarks.native import NativeError, compile_loop
from benchmarks.plan import PEERS, Group, Settings, make_plan
from benchmarks.report import limits_of, table, write
from benchmarks.turns import take_turns


def has(python: Path, module: str) -> bool:
    """Tell whether a module is installed for a Python, without importing it."""
    code = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    return subprocess.run([str(python), "-c", code], check=False).returncode == 0


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="Within two minutes: fewer models and rounds.")] = False,
    gpu: Annotated[bool, typer.Option("--gpu", help="All layers on the GPU, with larger models.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
    threads: Annotated[int, typer.Option(help="Threads of every loop.")] = 1,
    peer_python: Annotated[
        list[Path] | None, typer.Option(help="A Python that has other bindings; may be repeated.")
    ] = None,
    openmp: Annotated[
        bool, typer.Option("--openmp", help="One row more: the C loop with a llama.cpp that has OpenMP, built for it.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option(help="Only groups with this in their name; may be repeated.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="At most so many rounds; 0 chooses.")] = 0,
) -> None:
    """Compare our loops with the same loops in C, and with other bindings."""
    begin = time.monotonic()
    try:
        options = llama_cy.version().build_options
        loop = compile_loop(options)
        openmp_loop = compile_loop(options, openmp=True) if openmp else None
    except NativeError as error:
        raise SystemExit(f"benchmarks: {error}") from None
    pythons = {
        name: python for python in (peer_python or [Path(sys.executable)]) for name, module in PEERS.items()
        if has(python, module)
    }  # fmt: skip
    settings = Settings(
        loop, {}, pythons, gpu, threads, llama_cy.threadpool.default_n_threads(), openmp_loop=openmp_loop
    )

    def planned() -> list[Group]:
        return [group for group in make_plan(settings, quick) if any(text in group.name for text in only or [""])]

    for name in {group.model for group in planned() if group.model}:
        settings.models[name] = model_path(name)
    # Once more, as the commands name the files.
    plan = planned()
    machine = describe(f"python -m benchmarks {' '.join(sys.argv[1:])}")
    limits: list[Limit] = []
    for variable in ("LLAMA_BENCH", "LLAMA_BATCHED_BENCH"):
        if program := os.environ.get(variable):
            for model in dict.fromkeys(group.model for group in plan if limits_possible(group.model, group.name, gpu)):
                limits += measure_limit(
                    Path(program), model, settings.models[model], threads=threads, gpu=gpu, rounds=3 if quick else 5
                )
    results = []
    for group in plan:
        figures = measure(group, rounds or (9 if quick else 25), 2.5 if quick else 20.0)
        results.append((group, figures))
        print(table(group, figures, limits_of(group, limits)), flush=True)
    folder = out or ROOT / "benchmarks" / "results" / ("gpu" if gpu else "cpu")
    paths = write(folder, results, limits, machine) if results else []
    if any(text in "in turns of a token" for text in only or [""]):
        paths.append(take_turns(8 if quick else 25, folder, machine, gpu=gpu, quick=quick))
    for path in paths:
        print(path)
    print(f"{time.monotonic() - begin:.0f} s", file=sys.stderr)


def limits_possible(model: str, name: str, gpu: bool) -> bool:
    """Tell whether llama.cpp's programs say something about a group."""
    return bool(model) and (gpu or "sequences" not in name)


if __name__ == "__main__":
    typer.run(main)
