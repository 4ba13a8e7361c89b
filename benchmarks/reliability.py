"""What becomes of wrong calls, of this package and of others: ``python -m benchmarks.reliability --peer-python PATH``.

Each call runs in a process of its own, which may die of it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks.plan import PEERS
from benchmarks.wrong_calls import CALLS, SETUPS

__all__ = ["main", "outcome_of"]

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 20
CALL = """
import json, sys
names = {}
setup, source = sys.argv.pop(1), sys.argv.pop(1)
exec(setup, names)
print("ready", flush=True)
try:
    exec(source, names)
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)[:200]]), flush=True)
else:
    print("null", flush=True)
"""
OUTCOMES = ("raised", "accepted", "died", "hung", "no such call")


def outcome_of(python: str, binding: str, call: str, *arguments: str) -> tuple[str, str]:
    """Run a call in a process of its own.

    Returns
    -------
    tuple of str
        One of `OUTCOMES`, and what was raised or what it died of.
    """
    source = CALLS[call].get(binding)
    if source is None:
        return "no such call", ""
    command = [python, "-c", CALL, SETUPS[binding], source, *arguments]
    environ = os.environ | {"GGML_NO_BACKTRACE": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, env=environ, check=False
        )
    except subprocess.TimeoutExpired:
        return "hung", f"after {SECONDS} s"
    lines = [line for line in done.stdout.splitlines() if line]
    if "ready" not in lines:
        raise RuntimeError(f"{binding} is not ready for {call!r}: {done.stderr[-1000:]}")
    if done.returncode < 0:
        # What was raised and then ended the process at its exit ended it all the same.
        return "died", signal.Signals(-done.returncode).name
    if lines[-1] == "null":
        return "accepted", ""
    if lines[-1] == "ready":
        return "died", f"status {done.returncode}"
    name, text = json.loads(lines[-1])
    if name in {"AttributeError", "NameError"} and binding != "llama_cy":
        # It says that the table speaks of what this version does not have.
        return "no such call", text
    return "raised", f"{name}: {text}"


def installed(python: str, module: str) -> bool:
    return subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0


def main() -> int:
    """Print the table, and return 1 if this package did not raise an exception for each call."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=__doc__)
    parser.add_argument("--peer-python", action="append", default=[], help="a Python with other bindings")
    parser.add_argument("--only", default="", help="calls with this in their name")
    options = parser.parse_args()
    contenders = {"llama_cy": sys.executable}
    for python in options.peer_python:
        contenders |= {name: python for name, module in PEERS.items() if name in SETUPS and installed(python, module)}
    calls = [call for call in CALLS if options.only in call]
    counts: dict[str, Counter[str]] = {name: Counter() for name in contenders}
    sys.path.insert(0, str(ROOT / "tests"))
    from support.llama_models import write_llama

    with tempfile.TemporaryDirectory() as folder:
        path = write_llama(Path(folder) / "tiny.gguf")
        cut = Path(folder) / "cut.gguf"
        cut.write_bytes(path.read_bytes()[:-100_000])
        print(f"| call | {' | '.join(contenders)} |\n|---|{'---|' * len(contenders)}")
        for call in calls:
            cells = []
            for name, python in contenders.items():
                outcome, text = outcome_of(python, name, call, str(path), str(cut))
                counts[name][outcome] += 1
                cells.append(f"{outcome} {text.partition(':')[0]}".strip() if outcome != "no such call" else "–")
            print(f"| {call} | {' | '.join(cells)} |", flush=True)
    print()
    for name, count in counts.items():
        asked = sum(count.values()) - count["no such call"]
        print(f"{name}: {', '.join(f'{count[outcome]} {outcome}' for outcome in OUTCOMES[:-1])}, of {asked} calls")
    return 0 if counts["llama_cy"]["raised"] == len(calls) else 1


if __name__ == "__main__":
    sys.exit(main())
