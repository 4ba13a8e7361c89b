"""``llama-cy bench``."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from ..checks import INT32_MAX
from ..model import Model
from ..speed import Speed, Tuning, measure_speed, tune
from ..threadpool import MAX_THREADS
from .generate import n_gpu_layers
from .options import AsJson, Debug, ModelPath, Quiet, load
from .show import table_of
from .terminal import emit, emit_json, emit_table, note


def bench(
    *,
    model: ModelPath = None,
    n_prompt: Annotated[
        int, typer.Option("--n-prompt", "-p", min=1, max=INT32_MAX, help="Tokens of the prompt.")
    ] = 512,
    n_tokens: Annotated[int, typer.Option("--n-tokens", "-n", min=1, max=INT32_MAX, help="Tokens of the text.")] = 128,
    repeat: Annotated[int, typer.Option(min=1, max=INT32_MAX, help="Runs, of which the median counts.")] = 3,
    n_threads: Annotated[
        int | None, typer.Option(min=1, max=MAX_THREADS, help="Threads; the physical cores unless given.")
    ] = None,
    gpu_layers: Annotated[
        Any,
        typer.Option(
            "--n-gpu-layers", metavar="auto|N", parser=n_gpu_layers, help="Layers on the GPU; -1: all; auto: if any."
        ),
    ] = "auto",
    tuned: Annotated[bool, typer.Option("--tune", help="Find the best settings first.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure how fast a model reads a prompt and writes text here."""
    params: dict[str, Any] = {} if n_threads is None else {"n_threads": n_threads}
    with load(model, quiet, n_gpu_layers=gpu_layers) as loaded:
        tuning = None
        if tuned:
            say = None if quiet else note
            tuning = tune(loaded, n_prompt=n_prompt, n_tokens=n_tokens, repeat=repeat, progress=say, **params)
            params |= tuning.settings
        speed = measure_speed(loaded, n_prompt=n_prompt, n_tokens=n_tokens, repeat=repeat, **params)
        if as_json:
            emit_json(result(loaded, speed, tuning))
            return
        emit_table(table_of("tokens per second", rows(speed)))
        if tuning is not None:
            emit(f"{advice(tuning)}\n")


def rows(speed: Speed) -> dict[str, str]:
    """Name the figures."""
    return {
        f"prompt of {speed.n_prompt}": f"{speed.prompt:.1f}",
        f"{speed.n_tokens} decodes, no sampling": f"{speed.decode:.1f}",
        f"text of {speed.n_tokens}": f"{speed.text:.1f}",
    }


def named(settings: dict[str, Any]) -> dict[str, Any]:
    """Spell enums by name, as a context takes them."""
    return {name: value.name.lower() if isinstance(value, Enum) else value for name, value in settings.items()}


def advice(tuning: Tuning) -> str:
    """Return the call that the settings make."""
    settings = ", ".join(f"{name}={value!r}" for name, value in named(tuning.settings).items())
    return f"model.context({settings})  # {tuning.before:.3f} s before, {tuning.after:.3f} s with it"


def result(model: Model, speed: Speed, tuning: Tuning | None) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    found: dict[str, Any] = {"model": model.path, "tokens_per_second": speed._asdict()}
    if tuning is not None:
        found |= {"settings": named(tuning.settings), "before": tuning.before, "after": tuning.after}
    return found
