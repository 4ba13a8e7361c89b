"""Command line: print the table, or record which test calls what."""

from __future__ import annotations

import argparse
import sys

from . import record, report
from .reasons import IN_THE_ENGINE_ROOM, NOT_NOTICED

SILENT = NOT_NOTICED | IN_THE_ENGINE_ROOM
SUITE = ["tests/unit", "tests/properties", "tests/conformance", "tests/lifecycle"]


def table() -> int:
    """Print the table; return how many functions are open."""
    found = list(report.rows())
    for row in found:
        print(f"{'OPEN ' if row.complaint else '     '}{row.name}: {row.state}")
    is_open = [row for row in found if row.complaint]
    reasoned = sum(row.reason is not None for row in found)
    print(f"{len(found)} functions: {len(found) - reasoned - len(is_open)} wrapped and tested, ", end="")
    print(f"{reasoned} not wrapped for a reason, {len(is_open)} open")
    return len(is_open)


def prove(names: list[str]) -> None:
    """Break one function after another and look for a test that notices."""
    for row in report.rows():
        if row.name in names if names else not row.proved and row.tested_by and row.name not in SILENT:
            print(f"{row.name}: {record.prove(row.name) or 'no test fails without it'}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.gate", description=__doc__)
    parser.add_argument("--record", nargs="*", metavar="TEST", help="run these tests, or all, and note what they call")
    parser.add_argument(
        "--prove", nargs="*", metavar="FUNCTION", help="break these, or all unproved: which test fails?"
    )
    parser.add_argument("--pending", action="store_true", help="write down what is open")
    arguments = parser.parse_args()
    if arguments.record is not None:
        status, text, calls = record.run(arguments.record or SUITE)
        print(text if status else "")
        record.merge(calls)
    if arguments.prove is not None:
        prove(arguments.prove)
    is_open = table()
    if arguments.pending:
        names = [row.name for row in report.rows() if row.complaint]
        report.PENDING.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return 1 if is_open else 0


if __name__ == "__main__":
    sys.exit(main())
