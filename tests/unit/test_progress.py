"""A load tells how far it is: to a callback, to a bar of rich or tqdm, or to nobody."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

import llama_cy
from llama_cy.progress import reporter


def test_callback_gets_rising_shares(tiny_path: Path) -> None:
    shares: list[float] = []
    llama_cy.Model(tiny_path, progress=shares.append).close()
    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] == 1


@pytest.mark.parametrize("nothing", [None, False])
def test_nobody(nothing: bool | None) -> None:
    with reporter(nothing, "x") as report:
        assert report is None


def test_rich_bar(tiny_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    llama_cy.Model(tiny_path, progress=True).close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "tiny.gguf" in err
    assert "100%" in err


def test_tqdm_where_rich_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[int] = []

    class Bar:
        def __init__(self, total: int, desc: str, unit: str) -> None:
            self.n = 0
            assert (total, desc, unit) == (100, "a.gguf", "%")

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            updates.append(-1)

        def update(self, by: int) -> None:
            self.n += by
            updates.append(self.n)

    module = types.ModuleType("tqdm")
    module.tqdm = Bar  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tqdm", module)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with reporter(True, "a.gguf") as report:
        assert report is not None
        for share in (0.0, 0.25, 0.999, 1.0):
            report(share)
    assert updates == [0, 25, 100, 100, -1]


def test_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("rich.console", "tqdm"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"needs rich or tqdm: pip install \"llama_cy\[progress\]\""):
        reporter(True, "x").__enter__()


@pytest.mark.parametrize("progress", ["yes", 1, 0.5])
def test_other_types(tiny_path: Path, progress: Callable[[float], object]) -> None:
    with pytest.raises(TypeError, match="progress must be a callable, True or None"):
        llama_cy.Model(tiny_path, progress=progress)
