"""Command line: write the pages, or check that the committed ones are up to date."""

from __future__ import annotations

import argparse
import sys

from .pages import FOLDER, ROOT, generate


def stale() -> dict[str, str | None]:
    """Return the pages that differ from the committed ones, None for one that is there no more."""
    files: dict[str, str | None] = dict(generate())
    present = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / FOLDER).glob("*.md")}
    gone = dict.fromkeys(present.keys() - files.keys())
    old = {name: path.read_text(encoding="utf-8") for name, path in present.items()}
    return {name: text for name, text in (files | gone).items() if old.get(name) != text}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.reference", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page differs")
    arguments = parser.parse_args()
    found = stale()
    for name, text in found.items():
        print(f"{name} is out of date" if arguments.check else f"wrote {name}")
        path = ROOT / name
        if arguments.check:
            continue
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    return 1 if arguments.check and found else 0


if __name__ == "__main__":
    sys.exit(main())
