"""What all of them have in common."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.protocol import Run

__all__ = ["imported", "prompt_text"]


def imported(given: argparse.Namespace) -> Run:
    """Start Python and import the module that `model` names."""

    def run() -> tuple[float, int, int]:
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import {given.model}"], check=True)
        return time.perf_counter() - begin, 1, 0

    return run


def prompt_text(words: int) -> str:
    """Return so many words that the models' vocabulary has."""
    return " ".join("bdfghklmnprstvz"[i % 15] + "aeiou"[i % 5] for i in range(words))
