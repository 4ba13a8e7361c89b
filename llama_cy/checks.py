"""Checks of arguments before C sees them: each failure names the parameter, the value and the range."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from enum import IntEnum
from typing import Any

import numpy as np

INT32_MAX = 2**31 - 1
FLOAT32_MIN = 2.0**-126
FLOAT32_MAX = (2 - 2**-23) * 2.0**127
UINT32_MAX = 2**32 - 1


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Return `value` as an int within ``[low, high]``."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} is {shown(number)}, which is out of range [{low}, {high}]")
    return number


def shown(number: int) -> str:
    """Return the digits of an integer; Python refuses to print those with thousands of them."""
    return str(number) if number.bit_length() <= 256 else f"an integer of {number.bit_length()} bits"


def real(name: str, value: Any, low: float = -FLOAT32_MAX, high: float = FLOAT32_MAX) -> float:
    """Return `value` as a float within ``[low, high]``; C keeps it in 32 bits."""
    if isinstance(value, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    try:
        number = float(value)
    except TypeError:
        raise TypeError(f"{name} must be a number, not {type(value).__name__}") from None
    except OverflowError:
        number = math.inf
    if not low <= number <= high:
        raise ValueError(f"{name} is {number}, which is out of range [{low:.9g}, {high:.9g}]")
    return number


def each(name: str, values: Any, wanted: str = "an iterable") -> Iterable[Any]:
    """Return `values` if it is an iterable other than a text, whose characters nobody means one by one."""
    if isinstance(values, (str, bytes, bytearray)) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be {wanted}, not {type(values).__name__}")
    return values


def flag(name: str, value: Any) -> bool:
    """Return `value` as a bool; a text such as "no" is none, however true Python finds it."""
    try:
        number = operator.index(bool(value) if isinstance(value, np.bool_) else value)
    except TypeError:
        raise TypeError(f"{name} must be a bool, not {type(value).__name__}") from None
    if number not in (0, 1):
        raise ValueError(f"{name} is {number}; expected True or False")
    return bool(number)


def choice(name: str, members: type[IntEnum], value: Any) -> int:
    """Return the C value of an enum member, given as the member, its value, or its name in any case."""
    if isinstance(value, str):
        wanted = value.upper()
        for prefix in ("", "MOSTLY_"):
            if prefix + wanted in members.__members__:
                return int(members[prefix + wanted])
    else:
        try:
            return int(members(operator.index(value)))
        except ValueError:
            pass
        except TypeError:
            raise TypeError(f"{name} must be a {members.__name__}, its value or its name, not {value!r}") from None
    options = ", ".join(member.lower() for member in members.__members__)
    raise ValueError(f"{name} is {value!r}; expected one of {options}")


def fill(params: dict[str, Any], given: dict[str, Any], what: str) -> dict[str, Any]:
    """Overlay keyword arguments on the defaults of a C struct; an unknown one is a TypeError."""
    unknown = given.keys() - params.keys()
    if unknown:
        raise TypeError(f"{what} has no parameter {sorted(unknown)[0]!r}; it takes {', '.join(sorted(params))}")
    return params | given
