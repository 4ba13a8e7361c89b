"""The table: each function of llama.h with what wraps it, what tests it, or why neither is there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from .functions import ROOT, active, called, wrapped
from .reasons import IN_THE_ENGINE_ROOM, NOT_NOTICED, NOT_WRAPPED

WITNESSES = Path(__file__).with_name("witnesses.json")
PENDING = Path(__file__).with_name("pending.txt")


@dataclass(frozen=True)
class Row:
    """One function of llama.h.

    Attributes
    ----------
    name : str
    wrapped_by : list of str
        Public names whose docstring says so.
    called_in : list of str
        Files of the package.
    tested_by : str or None
        The test that stands for it; it calls the function, and others may too.
    proved : bool
        Whether that test was seen to fail with the function broken.
    reason : str or None
        Why it is not wrapped.
    """

    name: str
    wrapped_by: list[str]
    called_in: list[str]
    tested_by: str | None
    proved: bool
    reason: str | None

    @property
    def complaint(self) -> str | None:
        """What is missing; None when nothing is."""
        if self.reason is not None:
            return "it is wrapped in spite of the reason against it" if self.wrapped_by else None
        if not self.called_in:
            return "nothing in llama_cy calls it"
        if not self.wrapped_by:
            return f"no public docstring says Wraps ``{self.name}``."
        if self.tested_by is None:
            return "no test calls it"
        if not exists(self.tested_by):
            return f"its test is gone: {self.tested_by}"
        if not self.proved and self.name not in NOT_NOTICED | IN_THE_ENGINE_ROOM:
            return f"{self.tested_by} was not seen to fail without it: run `python -m tools.gate --prove {self.name}`"
        return None

    @property
    def state(self) -> str:
        if self.reason is not None:
            return f"not wrapped: {self.reason}"
        return self.complaint or f"{', '.join(self.wrapped_by)}; {self.tested_by}"


def exists(test: str) -> bool:
    """Tell whether a file has a test of that name."""
    path, *_, name = test.split("::")
    file = ROOT / path
    return file.is_file() and re.search(rf"^ *def {name}\(", file.read_text(encoding="utf-8"), re.MULTILINE) is not None


class Witness(TypedDict):
    test: str
    proved: bool


def witnesses() -> dict[str, Witness]:
    found: dict[str, Witness] = json.loads(WITNESSES.read_text(encoding="utf-8")) if WITNESSES.exists() else {}
    return found


def write_witnesses(found: dict[str, Witness]) -> None:
    """Write them down in the order of llama.h."""
    ordered = {name: found[name] for name in active() if name in found}
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(witness)}" for name, witness in ordered.items())
    WITNESSES.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def pending() -> list[str]:
    return PENDING.read_text(encoding="utf-8").split() if PENDING.exists() else []


def rows() -> Iterator[Row]:
    owners, code, tests = wrapped(), called(), witnesses()
    for name in active():
        witness = tests.get(name)
        test = IN_THE_ENGINE_ROOM.get(name) or (witness["test"] if witness else None)
        proved = witness is not None and witness["proved"]
        yield Row(name, owners.get(name, []), code.get(name, []), test, proved, NOT_WRAPPED.get(name))
