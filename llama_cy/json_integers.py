"""Integers of a range, as GBNF."""

from __future__ import annotations

# As many digits more than its bound, where a number has no other end.
MORE_DIGITS = 15


def integers(low: int | None, high: int | None) -> str:
    """Return an expression for the integers from `low` to `high`, each of them or neither given."""
    parts = []
    if low is None or low < 0:
        most = None if low is None else -low
        least = 1 if high is None or high >= 0 else -high
        parts.append(f'"-" {naturals(least, most)}')
    if high is None or high >= 0:
        parts.append(naturals(max(low or 0, 0), high))
    return "(" + " | ".join(parts) + ")"


def naturals(low: int, high: int | None) -> str:
    """Return an expression for the integers from `low`, which is not negative, to `high`."""
    if high is None:
        digits = len(str(low))
        longer = f"[1-9] [0-9]{{{digits},{digits + MORE_DIGITS}}}"
        return f"({naturals(low, 10**digits - 1)} | {longer})"
    parts = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first = max(low, 10 ** (length - 1) if length > 1 else 0)
        last = min(high, 10**length - 1)
        parts.append(of_one_length(str(first), str(last)))
    return "(" + " | ".join(parts) + ")"


def of_one_length(low: str, high: str) -> str:
    """Return an expression for digits between two of the same length."""
    if low == high:
        return f'"{low}"' if low else '""'
    if set(low) == {"0"} and set(high) == {"9"}:
        return f"[0-9]{{{len(low)}}}"
    if low[0] == high[0]:
        return f'"{low[0]}" {of_one_length(low[1:], high[1:])}'
    rest = len(low) - 1
    begin, end = int(low[0]), int(high[0])
    parts = []
    if set(low[1:]) - {"0"}:
        parts.append(f'"{begin}" {of_one_length(low[1:], "9" * rest)}')
        begin += 1
    if set(high[1:]) - {"9"}:
        tail = f'"{end}" {of_one_length("0" * rest, high[1:])}'
        end -= 1
    else:
        tail = ""
    if begin <= end:
        parts.append(f"[{begin}-{end}]" + (f" [0-9]{{{rest}}}" if rest else ""))
    return "(" + " | ".join([*parts, *([tail] if tail else [])]) + ")"
