"""Run examples in this process; what kills it leaves the lines of the last one behind."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

import llama_cy

from .machine import KINDS, Machine


def main() -> None:
    folder, examples, first, log = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    Machine.models = {kind: llama_cy.Model(folder / f"{kind}.gguf", n_gpu_layers=0) for kind in KINDS}
    Machine.folder = folder
    Machine.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    Machine.baseline = llama_cy.live_objects()
    gc.collect()
    gc.freeze()
    options = settings(
        max_examples=examples, stateful_step_count=25, deadline=None, database=None, print_blob=False,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
    )  # fmt: skip
    failed = 0
    try:
        run_state_machine_as_test(seed(first)(Machine), settings=options)
    except BaseException:
        traceback.print_exc()
        failed = 1
    print(Machine.examples, flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
