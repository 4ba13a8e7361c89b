"""Every function of llama.h is wrapped by a public object and called by a test, or there is a good reason."""

from __future__ import annotations

import re

import pytest

from tools.gate import functions, record, report
from tools.gate.reasons import IN_THE_ENGINE_ROOM, NOT_NOTICED, NOT_WRAPPED

ROWS = {row.name: row for row in report.rows()}


def test_the_whole_header_is_looked_at() -> None:
    mirror = (functions.ROOT / "include" / "llama.pxd").read_text()
    declared = re.findall(r"^    [^#(]*?\b(llama_\w+)\([^*]", mirror, re.MULTILINE)
    # The last is no function of llama.h but what becomes of an exception.
    assert sorted(ROWS) == sorted(set(declared) - {"llama_cy_raise"})
    assert {"llama_decode", "llama_pooling_type", "llama_opt_epoch"} <= ROWS.keys()


def test_every_function_is_wrapped_and_tested() -> None:
    pending = report.pending()
    complaints = {row.name: row.complaint for row in ROWS.values() if row.complaint and row.name not in pending}
    assert complaints == {}


def test_reasons() -> None:
    assert len(NOT_WRAPPED) <= 10
    assert NOT_WRAPPED.keys() <= ROWS.keys()
    for name, reason in NOT_WRAPPED.items():
        assert len(reason.split()) > 5, name
        assert ROWS[name].wrapped_by == []


def test_engine_room_functions_are_called_there() -> None:
    for name in IN_THE_ENGINE_ROOM:
        assert ROWS[name].called_in == ["_llama.pyx"]


def test_what_no_test_notices_is_called_all_the_same() -> None:
    assert all(ROWS[name].tested_by and not ROWS[name].proved for name in NOT_NOTICED)


def test_each_test_calls_the_function_that_it_stands_for() -> None:
    expected = {name: witness["test"] for name, witness in report.witnesses().items()}
    status, text, calls = record.run(sorted(set(expected.values())))
    assert status == 0, text
    assert {name: test for name, test in expected.items() if name not in calls.get(test, ())} == {}


@pytest.mark.parametrize("name", ["llama_memory_seq_rm", "llama_vocab_is_eog", "llama_n_batch"])
def test_a_function_that_answers_wrongly_fails_its_test(name: str) -> None:
    assert ROWS[name].proved
    status, text, _ = record.run([report.witnesses()[name]["test"]], broken=name)
    assert (status, "stopping after 1 failures" in text) == (1, True)
