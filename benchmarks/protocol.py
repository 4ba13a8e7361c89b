"""What a measured process and the one that measures say to each other; nothing but the standard library."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Run", "arguments", "digest", "prompt_tokens", "serve"]

# Seconds, what was counted (tokens, rows, loads), and a digest of the tokens, 0 where there is none.
Run = Callable[[], tuple[float, int, int]]


def arguments() -> argparse.Namespace:
    """Read what the C loop reads too."""
    parser = argparse.ArgumentParser()
    for name, kind, default in (
        ("scenario", str, "generate"), ("model", str, ""), ("chain", str, "greedy"), ("tokens", int, 128),
        ("prompt", int, 32), ("threads", int, 1), ("n-ctx", int, 512), ("n-batch", int, 2048), ("n-ubatch", int, 512),
        ("flash-attn", str, "auto"), ("n-gpu-layers", int, 0), ("poll", int, 50), ("seed", int, 1), ("rows", int, 64),
        ("vocab", int, 128256), ("row-threads", int, 1), ("ahead", int, 0), ("sequences", int, 1),
        ("backend", int, 0),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, default=default)
    return parser.parse_args()


def prompt_tokens(n_vocab: int, count: int, start: int = 0) -> list[int]:
    """Return the same prompt as the C loop's."""
    return [300 + (start + i) * 7 % (n_vocab - 300) for i in range(count)]


def digest(tokens: list[int]) -> int:
    """Fold tokens into one number, as the C loop does."""
    value = 0
    for token in tokens:
        value = (value * 31 + token) % 2**32
    return value


def serve(run: Run) -> None:
    """Warm up, say so, and make one run for each line that comes."""
    # What a library prints must not get between the lines.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(**fields: Any) -> None:
        print(json.dumps(fields), file=out, flush=True)

    run()
    say(ready=True)
    for _ in sys.stdin:
        seconds, count, folded = run()
        say(seconds=seconds, count=count, digest=folded)
    # Some libraries crash in their own teardown, which is not what is measured.
    os._exit(0)
