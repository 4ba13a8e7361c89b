"""A pytest plugin that notes which functions of llama.h each test calls: ``pytest -p tools.gate.plugin``.

``LLAMA_CY_GATE_RECORD`` names a folder for the notes, ``LLAMA_CY_GATE_BREAK`` a function that answers wrongly.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Generator
from pathlib import Path

import pytest

from .counting import ROOT, install

API = (ROOT / "include" / "llama_cy_api.h").read_text(encoding="utf-8")
NAMES = re.findall(r"^#define (llama_\w+)\(\.\.\.\)", API, re.MULTILINE)
COUNTS = install(NAMES, os.environ.get("LLAMA_CY_GATE_BREAK"))
CALLED: dict[str, set[str]] = defaultdict(set)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Count during the test itself: what a fixture shares with others shows nothing."""
    before = COUNTS.now()
    result = yield
    # Not reached when the test fails.
    CALLED[item.nodeid.partition("[")[0]].update(COUNTS.since(before))
    return result


def pytest_sessionfinish() -> None:
    folder = os.environ.get("LLAMA_CY_GATE_RECORD")
    if folder and CALLED:
        found = {test: sorted(names) for test, names in sorted(CALLED.items()) if names}
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(found), encoding="utf-8")
