"""What is published: the portable wheel and the source distribution, checked by the tools that check such things."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from support.publish import ROOT, run

from llama_cy.cpu import features
from llama_cy.variants import VARIANTS

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(1800)]

PROGRAM = """
import llama_cy, os, sys
assert llama_cy.__file__.startswith(sys.argv[1]), llama_cy.__file__
with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=1) as context:
    text = context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=30).text
print(sys.modules["llama_cy._llama"].__file__)
print(text)
"""
# MiB of a wheel, without debug information and with the two models; and of the source distribution.
MOST_WHEEL, MOST_SDIST = 40, 20


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", folder)
    (path,) = folder.glob("*.tar.gz")
    return path


def test_the_wheel_is_in_order(portable_wheel: Path, tmp_path: Path) -> None:
    assert re.search(r"-manylinux_2_\d+_", portable_wheel.name)
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", portable_wheel)
    run(Path(sys.executable).with_name("check-wheel-contents"), portable_wheel)
    zipfile.ZipFile(portable_wheel).extractall(tmp_path)
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
    print(f"{portable_wheel.name}: {portable_wheel.stat().st_size / 2**20:.1f} MiB")
    assert portable_wheel.stat().st_size < MOST_WHEEL * 2**20


def instructions(module: Path) -> set[str]:
    """Return the names of the instructions in a module, and of the wide registers that they use."""
    return set(re.findall(r"%[yz]mm|(?<=\t)[a-z][a-z0-9]+", run("objdump", "-d", "--no-show-raw-insn", module)))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are instructions of x86")
def test_the_baseline_has_no_instructions_of_newer_cpus(site: Path) -> None:
    (baseline,) = (site / "llama_cy").glob("_llama.*.so")
    found = instructions(baseline)
    assert {"mov", "mulps"} <= found
    newer = re.compile(
        r"%.*|v.+[sd]|pshufb|ptest|pmulld|round[ps][sd]|p?blendv?.*|popcnt|crc32.*|pext|mulx|[sr][ahlo]r?x"
    )
    assert not [name for name in found if newer.fullmatch(name)]
    for variant in VARIANTS["linux-x86_64"]:
        (module,) = (site / "llama_cy" / "_variants" / variant.name).glob("_llama.*")
        found = instructions(module)
        assert ("%ymm" in found) == ("avx" in variant.needs)
        assert ("%zmm" in found) == ("avx512f" in variant.needs)
        assert ("ldtilecfg" in found) == ("amx_tile" in variant.needs)
        assert "pshufb" in found or "vpshufb" in found


def test_each_variant_tells_the_same_story(site: Path, tmp_path: Path) -> None:
    variants = {path.name for path in (site / "llama_cy" / "_variants").iterdir()}
    assert len(variants) >= 2
    able = [v.name for group in VARIANTS.values() for v in group if v.name in variants and v.needs <= features()]
    assert able
    stories = {}
    for name in ["", "baseline", *sorted(variants)]:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(site)], cwd=tmp_path, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": str(site), "LLAMA_CY_CPU_VARIANT": name},
        )  # fmt: skip
        if name not in ("", "baseline", *able):
            assert "this CPU has no" in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        loaded, _, stories[name] = done.stdout.partition("\n")
        # The best first, where nobody asks.
        folder = {"": able[0], "baseline": "llama_cy"}.get(name, name)
        assert Path(loaded).parent.name == folder
    # They round differently, and may part where two words are equally likely.
    assert len({story[:40] for story in stories.values()}) == 1
    assert stories[""] == stories[able[0]]


# The last NumPy that runs on the first of them. Its OpenBLAS takes an emulated CPU for a better one, unless told.
OLD_NUMPY = "numpy==1.26.4"
OLDER = {"core2duo": ("Prescott", "baseline"), "Nehalem": ("Nehalem", "x86_64_v2"), "Haswell": ("Haswell", "x86_64_v3")}


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.version_info >= (3, 13), reason="has no such NumPy")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="nothing emulates older CPUs (apt install qemu-user)")
def test_each_cpu_gets_the_variant_that_suits_it(site: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "numpy", OLD_NUMPY)
    python = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    stories = set()
    for cpu, (blas, variant) in OLDER.items():
        settings = {"PYTHONPATH": f"{tmp_path / 'numpy'}{os.pathsep}{site}", "OPENBLAS_CORETYPE": blas}
        told = run("qemu-x86_64", "-cpu", cpu, python, "-c", PROGRAM, site, cwd=tmp_path, environ=settings)
        loaded, _, story = told.partition("\n")
        assert Path(loaded).parent.name == {"baseline": "llama_cy"}.get(variant, variant)
        # They round differently, and may part later.
        stories.add(story[:40])
    assert len(stories) == 1


def test_the_source_distribution_is_in_order(sdist: Path) -> None:
    assert "PASSED" in run(sys.executable, "-m", "twine", "check", "--strict", sdist)
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "setup.py", "vendor/build.py", "vendor/llama.cpp/include/llama.h", "vendor/llama.cpp/LICENSE",
        "llama_cy/hooks/hook-llama_cy.py", "examples/apps/story_server/main.cpp", "include/llama.pxd",
    ):  # fmt: skip
        assert name in names
    assert not [name for name in names if name.endswith((".so", ".pyc", ".o"))]
    print(f"{sdist.name}: {sdist.stat().st_size / 2**20:.1f} MiB")
    assert sdist.stat().st_size < MOST_SDIST * 2**20


def files(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name and not name.endswith("/")}


def test_the_source_distribution_builds_without_a_network(sdist: Path, portable_wheel: Path, tmp_path: Path) -> None:
    # In the same place each time, where ccache knows what it compiled before.
    folder = ROOT / "build" / "sdist"
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (source,) = folder.iterdir()
    offline = {"PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    build = ["-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", "dist"]
    run(sys.executable, *build, source, cwd=tmp_path, environ=offline | nowhere)
    (built,) = (tmp_path / "dist").glob("*.whl")
    assert files(built) == {name for name in files(portable_wheel) if "/_variants/" not in name}
    run(
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", tmp_path / "site", built, environ=offline
    )
    story = run(sys.executable, "-c", PROGRAM, tmp_path, cwd=tmp_path, environ={"PYTHONPATH": str(tmp_path / "site")})
    print(f"{built.name}: {built.stat().st_size / 2**20:.1f} MiB")
    assert len(story.split()) > 10
