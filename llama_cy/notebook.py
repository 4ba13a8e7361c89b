"""What a notebook shows: tables in the place of plain text, and the progress of a load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .completion import Completion
    from .model import Model


def in_notebook() -> bool:
    """Tell whether this is the kernel of a notebook, where output is a page and no terminal."""
    # Where nobody imported IPython, it does not run either.
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config


@contextmanager
def notebook_bar(title: str) -> Iterator[Callable[[float], Any]]:
    """Show a progress bar under the cell, with nothing but what a notebook has."""
    display: Any = sys.modules["IPython"].display
    shown = display.display(display.HTML(_bar(title, 0.0)), display_id=True)
    yield lambda share: shown.update(display.HTML(_bar(title, share)))


def _bar(title: str, share: float) -> str:
    return f"<progress value='{share:.3f}' max='1'></progress> {escape(title)} {share:.0%}"


def _table(caption: str, rows: Mapping[str, object]) -> str:
    cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{escape(caption)}</caption><tbody>{cells}</tbody></table>"


def completion_html(completion: Completion) -> str:
    """Return a completion as HTML: its text as it is, and how it came about."""
    timings = completion.timings
    told = f"{len(completion.tokens)} tokens, {completion.finish_reason}"
    if timings.seconds:
        told += f", {timings.tokens_per_second:.0f} tokens per second"
    text = escape(completion.text)
    return f"<div><pre style='white-space: pre-wrap'>{text}</pre><small>{escape(told)}</small></div>"


def model_html(model: Model) -> str:
    """Return what there is to know about a model as an HTML table."""
    if model.closed:
        return f"<div>{escape(repr(model))}</div>"
    metadata = model.metadata
    rows: dict[str, object] = {
        "file": model.path or "–",
        "kind": model.desc,
        "parameters": f"{model.n_params:,}",
        "size": f"{model.size / 2**20:,.1f} MiB",
        "layers": model.n_layer,
        "embedding": model.n_embd,
        "context": f"{model.n_ctx_train:,} tokens",
        "vocabulary": f"{len(model.vocab):,} tokens",
    }
    rows |= {key.partition(".")[2]: metadata[key] for key in ("general.license", "general.author") if key in metadata}
    return _table(metadata.get("general.name", "Model"), rows)
