"""What only Metal has: its kernels are in the module, and it takes every layer unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.child import check_output

import llama_cy

pytestmark = [pytest.mark.metal, pytest.mark.skipif(sys.platform != "darwin", reason="needs a Mac")]

FRAMEWORKS = ("Metal", "MetalKit", "MetalPerformanceShaders", "Foundation", "Accelerate")

ANYWHERE = """
import os, sys
os.chdir(sys.argv[1])
os.environ.pop("GGML_METAL_PATH_RESOURCES", None)
import llama_cy
with llama_cy.demo_model() as model, model.context(n_ctx=256) as context:
    assert len(context.complete("Once upon a time", max_tokens=20, ignore_eog=True).tokens) == 20
"""


def test_every_layer_is_on_metal_unasked() -> None:
    with llama_cy.demo_model() as model:
        (holding,) = [placed for placed in model.placement if placed.layers]
        assert holding.device.startswith("MTL")
        assert len(holding.layers) == model.n_layer


@pytest.mark.parametrize("name", ["metal", "auto"])
def test_one_argument(name: str) -> None:
    with llama_cy.Model(llama_cy.demo_model_path(), device=name) as model:
        assert model.placement[0].device.startswith("MTL")


def test_no_library_is_looked_for(tmp_path: Path) -> None:
    package = Path(llama_cy.__file__).parent
    assert not [path for path in package.rglob("*") if path.suffix in (".metal", ".metallib")]
    assert check_output(ANYWHERE, tmp_path) == ""


def test_the_frameworks_are_linked() -> None:
    (module,) = Path(llama_cy.__file__).parent.glob("_llama.*.so")
    listed = subprocess.run(["otool", "-L", module], capture_output=True, text=True, check=True).stdout
    assert [name for name in FRAMEWORKS if f"/{name}.framework/" not in listed] == []
