"""The table: each place with its verdict, and how both are kept."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from .scan import Place, scan
from .verdicts import VERDICTS, suggest

__all__ = ["TABLE", "Row", "complaints", "read", "rows_of", "write"]

TABLE = Path(__file__).with_name("table.tsv")
# A verdict that somebody has to look at.
OPEN = "?"


class Row(NamedTuple):
    """One line of the table; the digest stands for llama.cpp's words."""

    file: str
    function: str
    kind: str
    digest: str
    times: int
    verdict: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names the place."""
        return self[:4]


def read(path: Path = TABLE) -> list[Row]:
    """Read the table."""
    rows = []
    for line in path.read_text().splitlines()[1:]:
        file, function, kind, digest, count, verdict = line.split("\t")
        rows.append(Row(file, function, kind, digest, int(count), verdict))
    return rows


def rows_of(found: dict[Place, int], before: list[Row]) -> list[Row]:
    """Make the table anew: what was there keeps its verdict, what is new gets an open one with a suggestion."""
    verdicts = {row.key: row.verdict for row in before}
    rows = []
    for place, count in sorted(found.items()):
        key = (place.file, place.function, place.kind, place.digest)
        rows.append(Row(*key, count, verdicts.get(key, f"{OPEN}{suggest(place) or ''}")))
    return rows


def write(rows: list[Row], path: Path = TABLE) -> None:
    """Write the table."""
    lines = ["\t".join(Row._fields), *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def complaints(found: dict[Place, int] | None = None, rows: list[Row] | None = None) -> list[str]:
    """Say what is new in the source, what is gone, and what has no verdict."""
    found = scan() if found is None else found
    rows = read() if rows is None else rows
    places = {(place.file, place.function, place.kind, place.digest): place for place in found}
    kept = {row.key: row for row in rows}
    names = {verdict.name for verdict in VERDICTS}
    said = []
    for key, place in places.items():
        text = f"{place.file}: {place.function}: {place.text}"
        if key not in kept:
            said.append(f"new: {text}")
        elif kept[key].times != found[place]:
            said.append(f"{found[place]} times, not {kept[key].times}: {text}")
        elif kept[key].verdict not in names:
            said.append(f"open, perhaps {kept[key].verdict.removeprefix(OPEN)!r}: {text}")
    said += [f"gone: {row.file}: {row.function}: {row.kind} {row.digest}" for row in rows if row.key not in places]
    return said
