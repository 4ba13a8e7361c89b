"""``python -m tools.audit`` says what is new; ``--write`` takes it in, with open verdicts."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from .scan import scan
from .table import complaints, read, rows_of, write
from .verdicts import VERDICTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.audit", description=__doc__)
    parser.add_argument("--write", action="store_true", help="take in what is new, with a verdict to be looked at")
    parser.add_argument("--show", metavar="VERDICT", help="print the places of a verdict, with their text")
    options = parser.parse_args()
    found = scan()
    if options.write:
        write(rows_of(found, read()))
    rows = read()
    if options.show:
        digests = {row.key for row in rows if row.verdict == options.show}
        for place in sorted(found):
            if (place.file, place.function, place.kind, place.digest) in digests:
                print(f"{place.file}: {place.function}: {place.text}")
        return 0
    said = complaints(found, rows)
    print("\n".join(said))
    counts = Counter(row.verdict for row in rows)
    for verdict in VERDICTS:
        print(f"{counts[verdict.name]:5} {verdict.means:11} {verdict.name}: {verdict.why}")
    print(f"{len(rows):5} places in all, {len(said)} to be looked at")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
