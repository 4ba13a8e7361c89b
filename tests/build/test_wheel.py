"""The wheel, built and installed where the source tree is not in sight."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import llama_cy, sys
assert llama_cy.__file__.startswith(sys.argv[1]), llama_cy.__file__
with llama_cy.demo_model() as model, model.context(n_ctx=256) as context:
    print(context.complete("Once upon a time", llama_cy.sampling(seed=1), max_tokens=30).text)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the tools of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (path,) = folder.glob("*.whl")
    return path


@pytest.mark.slow
def test_it_holds_what_a_user_and_a_downstream_need(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB")
    for name in ("py.typed", "context.pxd", "__init__.pxd", "models/demo.gguf", "models/demo-draft.gguf",
                 "include/llama.h", "include/llama.pxd", "include/llama_cy_api.h", "include/ggml.h"):  # fmt: skip
        assert f"llama_cy/{name}" in names
    stems = {Path(name).name.partition(".")[0] for name in names if name.endswith(".so")}
    assert stems == {path.stem for path in (ROOT / "llama_cy").glob("*.pyx")}
    assert not [name for name in names if re.search(r"\.(cpp|c|o|a)$|/tests?/", name)]


@pytest.mark.slow
def test_it_works_without_the_source_tree(wheel: Path, tmp_path: Path) -> None:
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    child = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert child.returncode == 0, child.stderr
    assert child.stderr == ""
    assert len(child.stdout.split()) > 5


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="readelf reads ELF files")
def test_no_path_of_the_build_machine_is_left(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    for module in tmp_path.rglob("*.so"):
        dynamic = subprocess.run(["readelf", "-d", module], capture_output=True, text=True, check=True).stdout
        # An interpreter that was built with one for itself gives it to every extension.
        if "-rpath" not in (sysconfig.get_config_var("LDSHARED") or ""):
            assert "RPATH" not in dynamic
            assert "RUNPATH" not in dynamic
        assert str(ROOT).encode() not in module.read_bytes(), module.name
