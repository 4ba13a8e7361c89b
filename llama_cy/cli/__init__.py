"""The command line, ``llama-cy``; also ``python -m llama_cy.cli``."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run ``llama-cy`` with the arguments of this process and exit; ``docs/cli.md`` lists the exit codes."""
    try:
        run()
    except KeyboardInterrupt:
        # Before a command was under way to answer it.
        sys.exit(130)


def run() -> None:
    """Import the commands and run the one that was named."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        print(f'llama-cy needs typer and rich ({error}): pip install "llama_cy[cli]"', file=sys.stderr)
        sys.exit(2)
    from . import app

    app.run()
