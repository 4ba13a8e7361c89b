"""llama.cpp's lines reach `logging` with their level, and the exception of the call that failed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import llama_cy
from llama_cy import log


@pytest.fixture(autouse=True)
def listen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    log.flush()
    with caplog.at_level(logging.DEBUG, "llama_cy"):
        yield


def load_with_a_layer_too_many(path: Path) -> None:
    llama_cy.Model(path, kv_overrides={"llama.block_count": 3})


def test_a_load_tells_what_it_reads(tiny_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    llama_cy.Model(tiny_path).close()
    lines = [record for record in caplog.records if record.name == "llama_cy"]
    assert any("general.architecture" in record.getMessage() and "llama" in record.getMessage() for record in lines)
    assert {record.levelno for record in lines} <= {logging.DEBUG, logging.INFO, logging.WARNING}
    assert not any(record.getMessage().endswith("\n") for record in lines)


def test_a_failure_says_why(tiny_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(llama_cy.ModelLoadError) as caught:
        load_with_a_layer_too_many(tiny_path)
    assert any("blk.2" in line for line in caught.value.log)
    assert str(caught.value).endswith("\n  ".join(caught.value.log))
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert set(caught.value.log) <= set(errors)


def test_tail_is_of_the_last_call(tiny_path: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError):
        load_with_a_layer_too_many(tiny_path)
    assert any("blk.2" in line for line in log.tail())
    assert len(log.tail(1)) == 1
    assert log.tail(0) == ()
    log.begin()
    assert log.tail() == ()


def test_nothing_is_printed(tiny_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with llama_cy.Model(tiny_path) as model, model.context(n_ctx=64) as context:
        context.decode([1, 2, 3])
    assert capfd.readouterr() == ("", "")
