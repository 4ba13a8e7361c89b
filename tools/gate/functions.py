"""Which functions llama.h has, which of them our code calls, and which public object says that it wraps them."""

from __future__ import annotations

import fnmatch
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import llama_cy
from tools.surface import Documented, public, sections

ROOT = Path(__file__).resolve().parents[2]
API = ROOT / "include" / "llama_cy_api.h"
SOURCES = ("*.pyx", "*.pxd", "kernels/*.h")


def active() -> list[str]:
    """Return the functions of llama.h that are not deprecated, in its order."""
    return re.findall(r"^#define (llama_\w+)\(\.\.\.\)", API.read_text(encoding="utf-8"), re.MULTILINE)


def called() -> dict[str, list[str]]:
    """Return the functions that our code calls, each with the files that do."""
    files: dict[str, list[str]] = {name: [] for name in active()}
    package = ROOT / "llama_cy"
    for path in sorted(path for pattern in SOURCES for path in package.glob(pattern)):
        code = re.sub(r"(#|//).*", "", path.read_text(encoding="utf-8"))
        for name, alias in re.findall(r"\b(llama_\w+) as (\w+)", code):
            code = re.sub(rf"\b{alias}\(", f"{name}(", code)
        for name in dict.fromkeys(re.findall(r"\b(llama_\w+?)(?:_address\b|\s*\()", code)):
            if name in files:
                files[name].append(path.relative_to(package).as_posix())
    return {name: found for name, found in files.items() if found}


def inherited(name: str) -> bool:
    """Tell whether a member comes from another public class."""
    owner, _, member = name.rpartition(".")
    bases = getattr(llama_cy, owner, object).__mro__[1:] if isinstance(getattr(llama_cy, owner, None), type) else ()
    return any(base.__name__ in llama_cy.__all__ and hasattr(base, member) for base in bases)


def described() -> Iterator[tuple[str, str]]:
    """Yield the public names with what is written about them; attributes that their class describes come apart."""
    seen = set()
    for item in (Documented("llama_cy", llama_cy), *public()):
        text = item.doc
        if inherited(item.name):
            continue
        if isinstance(item.value, type):
            for heading in ("Parameters", "Attributes"):
                section = sections(text).get(heading, "")
                text = text.replace(section, "") if section else text
                for names, entry in re.findall(r"^(\S[^:\n]*)(?: :.*)?\n((?:[ ]+.*\n?|\n)*)", section, re.MULTILINE):
                    yield from ((f"{item.name}.{name.strip(' *')}", entry) for name in names.split(","))
        if (item.name, text) not in seen:
            seen.add((item.name, text))
            yield item.name, text


def wrapped() -> dict[str, list[str]]:
    """Return the functions that a public object says it wraps, each with the names of the objects."""
    names = active()
    code = called()
    owners: dict[str, list[str]] = defaultdict(list)
    for owner, text in described():
        for sentence in re.findall(r"\bWraps\s+((?:[^.]|\.(?=\w))*)", inspect.cleandoc(text)):
            for said in re.findall(r"``(llama_[\w*]+)``", sentence):
                # A pattern speaks for what is called; a whole name is a promise.
                for name in fnmatch.filter(code if "*" in said else names, said):
                    if owner not in owners[name]:
                        owners[name].append(owner)
    return dict(owners)
