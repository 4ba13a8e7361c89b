"""``python -m fuzz model --count 20000``: mutants of files until one ends the process, or none does.

``python -m fuzz stateful --examples 100000``: random sequences of public calls.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from .bases import write_bases
from .runner import Findings, run_mutants
from .worker import TARGETS, make_mutant


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}, stateful; all but the last by default"
    )
    parser.add_argument("--examples", type=int, default=1000, help="sequences of calls for stateful (1000)")
    parser.add_argument("--count", type=int, default=1000, help="mutants of each target (1000)")
    parser.add_argument("--seed", type=int, default=0, help="the first seed; mutant i has seed + i")
    parser.add_argument("--folder", type=Path, help="where the base files are kept")
    parser.add_argument("--show", action="store_true", help="print the recipe of --seed and run nothing")
    parser.add_argument("--refusals", type=int, default=0, help="print the N most frequent refusals")
    options = parser.parse_args()
    options.targets = options.targets or list(TARGETS)
    if unknown := set(options.targets) - {*TARGETS, "stateful"}:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}, stateful")
    return options


def show(result: dict[str, Any], findings: Findings) -> None:
    if result["outcome"] in ("died", "hung", "unexpected"):
        print(f"  {result['order']}: {result['outcome']}, {result['error']}: {last_words(result)}", flush=True)
    elif sum(findings.counts.values()) % 1000 == 0:
        print(f"  {dict(findings.counts)}", flush=True)


def last_words(result: dict[str, Any]) -> str:
    lines = [line for line in result.get("text", "").splitlines() if line.strip()]
    return next((line for line in lines if "ends the process" in line), " | ".join(lines[:3]))[:300]


def run_stateful(options: argparse.Namespace) -> int:
    """Run random calls, and return how many examples went wrong."""
    from stateful.campaign import run_examples

    print(f"stateful: {options.examples} examples from seed {options.seed}", flush=True)
    report = run_examples(options.examples, options.seed, tell=lambda text: print(text, flush=True))
    print(
        f"stateful: {report.examples} examples of {report.lines} calls, {len(report.findings)} findings "
        f"in {report.seconds:.0f} s"
    )
    return len(report.findings)


def main() -> int:
    options = parse()
    bad = 0
    if "stateful" in options.targets:
        options.targets.remove("stateful")
        bad += run_stateful(options)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(exist_ok=True)
        write_bases(folder)
        for target in options.targets:
            if options.show:
                mutant = make_mutant(target, options.seed, folder)
                print(json.dumps([mutant.base, mutant.recipe]))
                continue
            print(f"{target}: {options.count} mutants from seed {options.seed}", flush=True)
            findings = run_mutants(target, range(options.seed, options.seed + options.count), folder, report=show)
            bad += len(findings.bad)
            print(f"{target}: {dict(findings.counts)} in {findings.seconds:.0f} s", flush=True)
            for text, count in findings.refused.most_common(options.refusals):
                print(f"{count:6} {' | '.join(text.splitlines())[:400]}")
            # Caught by the guard; a check before would have named the key.
            for text, count in findings.asserts().most_common():
                print(f"{count:6} {text}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
