"""Find the places in the pinned sources: by file, function and text, so that lines may move."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Place", "places", "scan", "sources"]

SOURCE = Path(__file__).resolve().parents[2] / "vendor" / "llama.cpp"
# What every build compiles: llama.cpp itself, what all backends share, and the CPU's. A GPU's backend comes on top.
FOLDERS = (
    *("src", "src/models", "ggml/src", "ggml/src/ggml-cpu", "ggml/src/ggml-cpu/arch/x86", "ggml/src/ggml-cpu/arch/arm"),
    *("ggml/src/ggml-cpu/llamafile", "ggml/src/ggml-cpu/amx"),
)
# Compiled by nobody who builds llama_cy: other ways to load backends, and a backend made of others.
LEFT_OUT = ("ggml-backend-dl.cpp", "ggml-backend-meta.cpp", "ggml-opt.cpp")
SUFFIXES = {".c", ".cpp", ".h"}

CALLS = {"GGML_ASSERT": "assert", "GGML_ABORT": "abort", ".at": "at"}
FOUND = re.compile(r"\b(GGML_ASSERT|GGML_ABORT)\s*\(|(\.at)\s*\(|\b(throw)\b(?!\s*;)")
# Comments, literals and preprocessor lines, whose braces and parentheses mean nothing.
NOISE = re.compile(
    r"//[^\n]*|/\*.*?\*/|R\"(?P<tag>\w*)\(.*?\)(?P=tag)\"|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'"
    r"|^[ \t]*\#(?:\\\n|[^\n])*",
    re.DOTALL | re.MULTILINE,
)
NAMED = re.compile(r"([A-Za-z_~][\w:~]*|operator\s*\S+?)\s*(?:<[^<>;]*>)?\s*\((?!.*\)\s*=\s*$)", re.DOTALL)
SCOPE = re.compile(
    r"\b(?:struct|class|namespace|union|enum(?:\s+class)?)\s+(?:\w+\s+)*?([A-Za-z_][\w:]*)?\s*(?:final\s*)?(?::[^:].*)?$",
    re.DOTALL,
)
CONTROL = {"if", "for", "while", "switch", "catch", "do", "else", "try", "return", "sizeof"}


@dataclass(frozen=True, order=True)
class Place:
    """One kind of place: what is asserted or thrown, and in which function.

    Attributes
    ----------
    file : str
        Path in llama.cpp's source.
    function : str
        With the scopes around it; empty outside of any.
    kind : str
        ``assert``, ``abort``, ``at`` or ``throw``.
    text : str
        The source, on one line.
    """

    file: str
    function: str
    kind: str
    text: str

    @property
    def digest(self) -> str:
        """Stands for the text where llama.cpp's own words must not be copied."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


def _blanked(text: str) -> str:
    """Return the text with noise blanked out, of the same length and with the same lines."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match[0])

    return NOISE.sub(blank, text)


def _name_of(head: str) -> tuple[str, bool] | None:
    """Return the name of what opens behind a piece of code, and whether it is a function; None if it is neither."""
    head = head.strip()
    scope = SCOPE.search(head)
    if scope and not head.endswith(")") and "=" not in head.rpartition("\n")[2]:
        return scope[1] or "", False
    named = NAMED.search(head)
    if named is None or ("[" in head[: named.start()] and "](" in head.replace(" ", "")):
        return None
    name = named[1].replace(" ", "")
    if name in CONTROL or name.startswith("GGML_") or re.search(r"=\s*$|\breturn\b|\]\s*\(", head[: named.start() + 1]):
        return None
    return name, True


def _functions(code: str) -> list[tuple[int, int, str]]:
    """Return start, end and name of every function, inner ones with the scopes around them."""
    found: list[tuple[int, int, str]] = []
    stack: list[tuple[int, str, bool] | None] = []
    begin = 0
    for match in re.finditer(r"[{};]", code):
        if match[0] == "{":
            inside = any(entry is not None and entry[2] for entry in stack)
            entry = _name_of(code[begin : match.start()])
            if entry is not None and entry[1] and inside:
                # A block, a lambda or an initializer within a function.
                entry = None
            stack.append(None if entry is None else (match.start(), *entry))
        elif match[0] == "}" and stack:
            entry_ = stack.pop()
            if entry_ is not None and entry_[2]:
                around = [other[1] for other in stack if other is not None and other[1]]
                found.append((entry_[0], match.start(), "::".join([*around, entry_[1]])))
        elif match[0] == ";" and code[begin : match.start()].count("(") > code[begin : match.start()].count(")"):
            continue
        begin = match.end()
    return found


def _end_of_call(code: str, start: int) -> int:
    """Return the index behind the parenthesis that closes the first one from `start` on."""
    depth = 0
    for at in range(code.index("(", start), len(code)):
        depth += {"(": 1, ")": -1}.get(code[at], 0)
        if depth == 0:
            return at + 1
    return len(code)


def places(file: str, text: str) -> Iterator[Place]:
    """Yield the places of one file, as often as they are there."""
    code = _blanked(text)
    functions = sorted(_functions(code), key=lambda entry: entry[0] - entry[1])
    for match in FOUND.finditer(code):
        line = code.rfind("\n", 0, match.start()) + 1
        if match[3]:
            kind, end = "throw", code.index(";", match.start())
        else:
            kind, end = CALLS[match[1] or match[2]], _end_of_call(code, match.start())
        start = line if kind == "at" else match.start()
        inner = [name for begin, stop, name in functions if begin < match.start() < stop]
        yield Place(file, inner[-1] if inner else "", kind, " ".join(text[start:end].split()))


def sources(source: Path = SOURCE) -> list[Path]:
    """List the files that are looked at."""
    files = [path for folder in FOLDERS for path in sorted((source / folder).glob("*")) if path.suffix in SUFFIXES]
    return [path for path in files if path.name not in LEFT_OUT and not path.name.endswith("-data.cpp")]


def scan(source: Path = SOURCE) -> dict[Place, int]:
    """Return every place with how often it is there."""
    counts: dict[Place, int] = {}
    for path in sources(source):
        for place in places(path.relative_to(source).as_posix(), path.read_text(errors="replace")):
            counts[place] = counts.get(place, 0) + 1
    return counts
