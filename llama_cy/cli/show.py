"""``llama-cy tokenize``, ``info``, ``devices`` and ``version``: the commands that look and change nothing."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from .. import devices as present_devices
from .. import version as versions
from ..model import Model
from .options import AsJson, Debug, ModelPath, Quiet, load, text_of
from .terminal import emit, emit_json, emit_table, printable

PROPERTIES = (
    "desc", "n_params", "size", "n_ctx_train", "n_embd", "n_layer", "n_head", "n_head_kv", "n_swa",
    "has_encoder", "has_decoder", "is_recurrent", "is_hybrid", "is_diffusion",
)  # fmt: skip
CELL_WIDTH = 100


def tokenize(
    text: Annotated[str, typer.Argument(help="Text to split; - reads it from stdin.", show_default=False)],
    *,
    model: ModelPath = None,
    no_special: Annotated[bool, typer.Option("--no-special", help="Add no BOS or EOS, even if wanted.")] = False,
    parse_special: Annotated[bool, typer.Option("--parse-special", help="Read <|end|> and such as tokens.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Split a text into tokens: one line each, with its id and its bytes."""
    data = text_of(text)
    with load(model, quiet, vocab_only=True) as loaded:
        tokens = loaded.vocab.tokenize(data, add_special=not no_special, parse_special=parse_special)
        pieces = [loaded.vocab.token_to_piece(token, special=True) for token in tokens]
    if as_json:
        # A piece may be a part of a character; the bytes of such a part appear as \xe2.
        emit_json({"tokens": tokens, "pieces": [piece.decode("utf-8", "backslashreplace") for piece in pieces]})
    else:
        emit("".join(f"{token:>7} {piece!r}\n" for token, piece in zip(tokens, pieces, strict=True)))


def info(model: ModelPath = None, as_json: AsJson = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Describe a model file: sizes, vocabulary, metadata."""
    # The weights are only mapped, not copied, so that a large file takes no longer than a small one.
    with load(model, quiet, n_gpu_layers=0, use_extra_bufts=False) as loaded:
        properties, vocab, metadata = properties_of(loaded), vocabulary_of(loaded), loaded.metadata
        chat_template = loaded.chat_template()
    if as_json:
        emit_json({**properties, "vocab": vocab, "chat_template": chat_template, "metadata": metadata})
        return
    emit_table(table_of("model", {**properties, **{f"vocab.{name}": value for name, value in vocab.items()}}))
    emit_table(table_of("metadata", dict(sorted(metadata.items()))))


def properties_of(model: Model) -> dict[str, Any]:
    """Return the path, the type names and the numbers of a model."""
    return {
        "path": model.path,
        **{name: getattr(model, name) for name in PROPERTIES},
        "ftype": model.ftype.name.lower(),
        "rope_type": model.rope_type.name.lower(),
    }


def vocabulary_of(model: Model) -> dict[str, Any]:
    """Return kind, size and special tokens of a model's vocabulary."""
    vocab = model.vocab
    numbers = {name: getattr(vocab, name) for name in ("n_tokens", "bos", "eos", "eot", "add_bos", "add_eos")}
    return {"type": vocab.type.name.lower(), **numbers}


def table_of(title: str, rows: dict[str, Any]) -> Table:
    """Make a table of names and values."""
    table = Table()
    table.add_column(title, style="bold", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in rows.items():
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
        table.add_row(Text(printable(name)), Text(printable(shown, CELL_WIDTH)))
    return table


def devices(as_json: AsJson = False, debug: Debug = False) -> None:
    """List what this build can compute on."""
    found = [{**device._asdict(), "type": device.type.name.lower()} for device in present_devices()]
    if as_json:
        emit_json({"devices": found})
        return
    table = Table("name", "type", "description", "free MiB", "total MiB")
    for device in found:
        memory = [f"{device[name] / 2**20:,.0f}" for name in ("memory_free", "memory_total")]
        table.add_row(Text(device["name"]), device["type"], Text(printable(device["description"])), *memory)
    emit_table(table)


def version(as_json: AsJson = False, debug: Debug = False) -> None:
    """Tell the versions of llama_cy and llama.cpp, and how they were built."""
    running = versions()
    if as_json:
        emit_json(running._asdict())
    else:
        emit("".join(f"{name:<14}{value}\n" for name, value in running._asdict().items()))


def show_version(asked: bool) -> None:
    """Answer ``--version`` with one line."""
    if asked:
        running = versions()
        emit(f"llama_cy {running.llama_cy} (llama.cpp {running.llama_cpp})\n")
        raise typer.Exit
