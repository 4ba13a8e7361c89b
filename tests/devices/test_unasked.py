"""What the options of the tests and the marker `cpu` say of a model's place holds, here and in children."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import unasked
from support.child import check_output
from support.offload import GPUS
from support.precision import offloaded

import llama_cy

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not GPUS, reason="needs a GPU")]

SOURCE = """
import sys
import llama_cy
print(sorted((one.device, one.layers) for one in llama_cy.Model(sys.argv[1]).placement if one.layers))
"""


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("cpu,", [("CPU", (0, 1))]),
        (",2", [("CPU", (0,)), (GPUS[0] if GPUS else "", (1,))]),
        (",0", [("CPU", (0, 1))]),
        (f"{GPUS[-1] if GPUS else ''},", [(GPUS[-1] if GPUS else "", (0, 1))]),
    ],
)
def test_models_go_there(
    tiny_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, expected: list[tuple[str, tuple[int, ...]]]
) -> None:
    monkeypatch.setenv(unasked.VARIABLE, asked)
    assert offloaded() is (expected[-1][0] != "CPU")
    with llama_cy.Model(tiny_path) as model:
        assert sorted((one.device, one.layers) for one in model.placement if one.layers) == sorted(expected)
    assert check_output(SOURCE, tiny_path) == f"{sorted(expected)}\n"


@pytest.mark.cpu
def test_the_marker_keeps_them_on_the_cpu(tiny: llama_cy.Model, tiny_path: Path) -> None:
    assert {one.device for one in tiny.placement} == {"CPU"}
    assert check_output(SOURCE, tiny_path) == "[('CPU', (0, 1))]\n"
    with llama_cy.Model(tiny_path, device=GPUS[0]) as model:
        assert model.placement[0].device == GPUS[0]
