"""Applications that carry llama_cy within them: nothing has to be said for that, and they run where no source is."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.publish import run

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(1800)]

APP = """
import sys
import llama_cy


def main():
    with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=1) as context:
        print(context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=20).text)
    if getattr(sys, "frozen", False):
        assert llama_cy.__file__.startswith(sys._MEIPASS)
    elif sys.argv[1:]:
        assert llama_cy.__file__.startswith(sys.argv[1]), llama_cy.__file__


if __name__ == "__main__":
    main()
"""
# In a packed program there is no Python to try a file in.
UNTRUSTED = APP.replace(
    "    if getattr",
    """
    try:
        llama_cy.Model(llama_cy.demo_model_path(), trusted=False)
    except llama_cy.ModelLoadError as error:
        assert "set_executable" in str(error)
    else:
        raise AssertionError
    if getattr""",
    1,
)


@pytest.mark.parametrize("mode", ["--onedir", "--onefile"])
def test_pyinstaller_packs_an_application_unmodified(site: Path, tmp_path: Path, mode: str) -> None:
    (tmp_path / "app.py").write_text(UNTRUSTED)
    places: list[str | Path] = [
        "--distpath",
        tmp_path / "dist",
        "--workpath",
        tmp_path / "work",
        "--specpath",
        tmp_path,
    ]
    pack: list[str | Path] = ["-m", "PyInstaller", "--noconfirm", mode, *places, tmp_path / "app.py"]
    run(sys.executable, *pack, cwd=tmp_path, environ={"PYTHONPATH": str(site)})
    # Elsewhere, and without the Python that it was made with.
    shutil.move(tmp_path / "dist", tmp_path / "moved")
    program = tmp_path / "moved" / "app" / "app" if mode == "--onedir" else tmp_path / "moved" / "app"
    size = sum(path.stat().st_size for path in (tmp_path / "moved").rglob("*") if path.is_file())
    print(f"{mode}: {size / 2**20:.1f} MiB")
    done = subprocess.run(
        [program], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 10


def test_shiv_packs_an_application_unmodified(site: Path, tmp_path: Path) -> None:
    """It unpacks what can't be loaded out of a zip file when the program first starts."""
    packages = tmp_path / "packages"
    shutil.copytree(site, packages)
    (packages / "story.py").write_text(APP)
    pack: list[str | Path] = [
        "-m",
        "shiv.cli",
        "--site-packages",
        packages,
        "-e",
        "story:main",
        "-o",
        tmp_path / "app.pyz",
    ]
    run(sys.executable, *pack, "-p", sys.executable, cwd=tmp_path)
    shutil.rmtree(packages)
    root = tmp_path / "unpacked"
    for _ in range(2):
        text = run(sys.executable, tmp_path / "app.pyz", root, cwd=Path("/"), environ={"SHIV_ROOT": str(root)})
        assert len(text.split()) > 10


def test_a_zipped_application_finds_llama_cy_beside_it(site: Path, tmp_path: Path) -> None:
    """The standard library's zipapp unpacks nothing, so its programs have llama_cy beside them."""
    shutil.copytree(site, tmp_path / "packages")
    (tmp_path / "source").mkdir()
    start = "import pathlib, sys\nsys.path.insert(0, str(pathlib.Path(sys.argv[0]).resolve().parent / 'packages'))\n"
    (tmp_path / "source" / "__main__.py").write_text(start + APP)
    run(sys.executable, "-m", "zipapp", tmp_path / "source", "-o", tmp_path / "app.pyz")
    assert len(run(sys.executable, tmp_path / "app.pyz", tmp_path, cwd=Path("/")).split()) > 10
