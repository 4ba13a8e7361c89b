"""What is published, built once for the files that look at it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from support.publish import ROOT, run


@pytest.fixture(scope="session")
def portable_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the portable wheel and give it the tag of the oldest system that it runs on."""
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", folder / "raw", ROOT]
    run(sys.executable, *build, environ={"LLAMA_CY_PORTABLE": "1"})
    (raw,) = (folder / "raw").glob("*.whl")
    told = run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "repaired", raw)
    assert "Fixed-up wheel" in told
    (repaired,) = (folder / "repaired").glob("*.whl")
    return repaired


@pytest.fixture(scope="session")
def site(portable_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the portable wheel into a folder of its own."""
    folder = tmp_path_factory.mktemp("site") / "packages"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", folder, portable_wheel)
    return folder
