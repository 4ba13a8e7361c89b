"""The options that commands share, and what is read through them."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from .. import demo_model
from ..model import Model
from .terminal import note

ModelPath = Annotated[
    str | None,
    typer.Option("--model", "-m", metavar="PATH", help="GGUF file; without it the built-in model.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing on stderr but errors.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]


def load(path: str | None, quiet: bool, **params: Any) -> Model:
    """Load a model, or the built-in one where there is no path, and say so."""
    if path is not None:
        return Model(path, **params)
    if not quiet:
        note("no --model given, so this is the built-in one")
    return demo_model(**params)


def text_of(argument: str) -> bytes:
    """Return the bytes of a text argument as they were typed; ``-`` reads stdin, without its last newline."""
    if argument != "-":
        # Bytes that are no UTF-8 reach Python as surrogates.
        return argument.encode("utf-8", "surrogateescape")
    if sys.stdin is None:
        raise OSError("cannot read stdin: it is closed")
    data = sys.stdin.buffer.read()
    return data.removesuffix(b"\n").removesuffix(b"\r")
