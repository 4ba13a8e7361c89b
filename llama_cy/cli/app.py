"""The commands put together."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .bench import bench
from .generate import generate
from .show import devices, info, show_version, tokenize, version
from .terminal import ExitCode, exiting, note, prepare_streams

app = typer.Typer(
    name="llama-cy",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(
    show: Annotated[
        bool, typer.Option("--version", callback=exiting(show_version), is_eager=True, help="Tell the versions.")
    ] = False,
) -> None:
    """Language models from GGUF files, on the command line."""


for command in (generate, tokenize, info, devices, bench, version):
    app.command()(exiting(command))


def run() -> None:
    """Run the command that the arguments of this process name."""
    if sys.stdout is None:
        note("stdout is closed")
        sys.exit(ExitCode.FAILURE)
    prepare_streams()
    app(prog_name="llama-cy")
