"""The reference under docs/ is what the docstrings and stubs say, and its links lead somewhere."""

from __future__ import annotations

import re

import pytest

from tools.reference.__main__ import stale
from tools.reference.pages import generate
from tools.reference.signatures import ROOT, signature

PAGES = generate()


def test_reference_is_up_to_date() -> None:
    assert sorted(stale()) == [], "run `python -m tools.reference`"


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^a-z0-9_-]", "", heading.lower().replace(" ", "-")) for heading in headings}


@pytest.mark.parametrize("name", PAGES, ids=lambda name: name.rpartition("/")[2])
def test_links(name: str) -> None:
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        page = (folder / path).resolve().relative_to(ROOT).as_posix()
        assert page in PAGES or (ROOT / page).is_file(), target
        assert not anchor or anchor in anchors(PAGES[page]), target


def test_no_role_is_left() -> None:
    left = {name: re.findall(r":\w+:`[^`]*`|``[^`\n]+``(?!`)", text) for name, text in PAGES.items()}
    assert {name: found for name, found in left.items() if found} == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Memory.seq_pos_max", "def seq_pos_max(seq_id: SupportsIndex = 0) -> int"),
        ("Context.close", "def close() -> None"),
        ("Sampler.temp", "@staticmethod\ndef temp(t: float) -> Sampler"),
        ("Batch", "class Batch(n_tokens_max: int, *, n_seq_max: int = 1)"),
        ("Vocab", "class Vocab"),
        ("Model.n_embd", "n_embd: int"),
        ("Model.save", "def save(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None"),
    ],
)
def test_signature(name: str, expected: str) -> None:
    assert signature(name) == expected
