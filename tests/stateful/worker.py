"""Run examples in this process, which they may end: what is told comes on stdout, each line of an example in a file."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from .machine import Machine
from .session import journal_to, prepare, script_of

STEPS = 40


def main() -> None:
    """Run examples: ``folder journal seed count [shrink]``."""
    folder, journal, first, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    prepare(folder)
    note = journal_to(journal)
    done = 0

    class Counted(Machine):
        def __init__(self) -> None:
            super().__init__()
            note("# begin")

        def teardown(self) -> None:
            nonlocal done
            super().teardown()
            done += 1
            if done % 20 == 0:
                print(json.dumps({"done": done, "time": time.time()}), flush=True)

    Counted.journal = staticmethod(note)
    run = settings(
        max_examples=count, stateful_step_count=STEPS, deadline=None, database=None, print_blob=False,
        phases=(Phase.generate, Phase.shrink) if sys.argv[5:] else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    try:
        run_state_machine_as_test(seed(first)(Counted), settings=run)
    except BaseException as error:
        text = "".join(traceback.format_exception_only(error))[:3000]
        print(json.dumps({"failed": text, "script": script_of(Counted.last), "done": done}), flush=True)
        return
    print(json.dumps({"finished": done}), flush=True)


if __name__ == "__main__":
    main()
