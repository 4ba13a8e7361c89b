"""``LLAMA_CY_LINK=system``: an installed llama.cpp is used if it is what the mirror says; what differs is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.publish import ROOT, run
from support.sdist import load

import llama_cy

TABLE = ROOT / "include" / "llama_cy_api.h"
HEADERS = load(ROOT / "setup.py").HEADERS
COMPILER = [os.environ.get("CXX", "c++")]


@pytest.fixture(scope="module")
def installed() -> Any:
    return load(ROOT / "vendor" / "installed.py")


def make_prefix(folder: Path, edit: Callable[[str, str], str] = lambda name, text: text) -> Path:
    """Lay out the headers that the mirror was made of, or edited ones, and empty files for libraries."""
    for name in ("include", "lib"):
        (folder / name).mkdir(parents=True)
    for name in HEADERS:
        text = (Path(llama_cy.get_include()) / name).read_text()
        (folder / "include" / name).write_text(edit(name, text))
    for name in ("llama", "ggml", "ggml-cpu", "ggml-base"):
        (folder / "lib" / f"lib{name}.so").touch()
    return folder


def look(installed: Any, prefix: Path, folder: Path) -> None:
    installed.check(installed.find({"CMAKE_PREFIX_PATH": str(prefix)}), TABLE, COMPILER, folder)


def replacing(before: str, after: str) -> Callable[[str, str], str]:
    """Return what edits llama.h."""

    def edit(name: str, text: str) -> str:
        if name != "llama.h":
            return text
        edited, count = re.subn(before, after, text, count=1)
        assert count == 1, before
        return edited

    return edit


@pytest.mark.parametrize(
    ("edit", "differ"),
    [
        (replacing(r"uint32_t llama_n_ctx ", "int64_t llama_n_ctx "), {"llama_n_ctx"}),
        (replacing(r"LLAMA_API bool llama_supports_mmap .*", ""), {"llama_supports_mmap"}),
        (replacing(r"(typedef struct llama_token_data \{)", r"\1 int32_t more;"), {
            "llama_token_data", "llama_token_data.id", "llama_token_data.logit", "llama_token_data.p",
        }),
        (replacing(r"LLAMA_POOLING_TYPE_RANK = 4", "LLAMA_POOLING_TYPE_RANK = 5"), {"LLAMA_POOLING_TYPE_RANK"}),
    ],
    ids=["another type", "gone", "another layout", "another value"],
)  # fmt: skip
def test_headers_that_differ_are_refused_by_name(
    installed: Any, tmp_path: Path, edit: Callable[[str, str], str], differ: set[str]
) -> None:
    prefix = make_prefix(tmp_path / "prefix", edit)
    with pytest.raises(installed.InstalledError) as caught:
        look(installed, prefix, tmp_path)
    told = re.fullmatch(rf"the llama.cpp in {prefix} is not the one .*; it differs in (.*): .*", str(caught.value))
    assert told is not None, caught.value
    assert set(told[1].split(", ")) == differ


def stub(prefix: Path, names: list[str]) -> None:
    """Make libraries that define these functions, which do nothing."""
    source = prefix / "stub.c"
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in names))
    for library, path in (("llama", source), *((name, "/dev/null") for name in ("ggml", "ggml-cpu", "ggml-base"))):
        command = ["cc", "-shared", "-fPIC", "-x", "c", str(path), "-o", str(prefix / "lib" / f"lib{library}.so")]
        subprocess.run(command, check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="these are ELF libraries")
def test_libraries_that_lack_a_function_are_refused_by_name(installed: Any, tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "prefix")
    names = [claim.name for claim in installed.claims(TABLE.read_text()) if "decltype" in claim.line]
    assert len(names) > 300
    stub(prefix, names)
    look(installed, prefix, tmp_path)
    stub(prefix, [name for name in names if name not in ("llama_decode", "ggml_backend_dev_name")])
    with pytest.raises(installed.InstalledError, match=r"it differs in ggml_backend_dev_name, llama_decode: "):
        look(installed, prefix, tmp_path)


def test_one_that_is_not_there_or_half_there(installed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "PREFIXES", ())
    with pytest.raises(installed.InstalledError, match=rf"no llama.cpp is in {tmp_path}; CMAKE_PREFIX_PATH says where"):
        installed.find({"CMAKE_PREFIX_PATH": str(tmp_path)})
    prefix = make_prefix(tmp_path / "prefix")
    (prefix / "include" / "llama.h").unlink()
    with pytest.raises(installed.InstalledError, match=r"has libllama but .*/include has no llama.h"):
        installed.find({"CMAKE_PREFIX_PATH": f"{tmp_path};{prefix}"})


STORY = """
import llama_cy, sys
assert llama_cy.__file__.startswith(sys.argv[1]), llama_cy.__file__
with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=1) as context:
    print(context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=30).text)
print(llama_cy.version().build_options)
print([line.split()[-1] for line in open("/proc/self/maps") if "libllama" in line][0])
"""


@pytest.mark.wheels
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_wheel_for_an_installed_llama_cpp_works(tmp_path: Path) -> None:
    # Kept from run to run, where ninja finds what it made before.
    folder = ROOT / "build" / "installed"
    prefix = folder / "prefix"
    off = [f"-DLLAMA_BUILD_{part}=OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP", "UI")]
    run("cmake", "-S", ROOT / "vendor" / "llama.cpp", "-B", folder / "build", "-G", "Ninja", *off,
        "-DBUILD_SHARED_LIBS=ON", "-DGGML_OPENMP=OFF", f"-DCMAKE_INSTALL_PREFIX={prefix}", "-DCMAKE_INSTALL_LIBDIR=lib",
        "-DCMAKE_BUILD_TYPE=Release")  # fmt: skip
    run("cmake", "--build", folder / "build")
    run("cmake", "--install", folder / "build")
    settings = {"LLAMA_CY_LINK": "system", "CMAKE_PREFIX_PATH": str(prefix)}
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", "--no-build-isolation", "--no-deps", "-w", tmp_path / "dist", ROOT, environ=settings)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    print(f"{wheel.name}: {wheel.stat().st_size / 2**20:.1f} MiB")
    run(*pip, "install", "-q", "--no-deps", "--target", tmp_path / "site", wheel)
    ours = run(sys.executable, "-c", STORY.partition("print(llama_cy.version")[0], ROOT)
    told = run(sys.executable, "-c", STORY, tmp_path, cwd=tmp_path, environ={"PYTHONPATH": str(tmp_path / "site")})
    story, options, library = told.rsplit("\n", 3)[:3]
    assert story == ours.rstrip("\n")
    assert options == "LLAMA_CY_LINK=system"
    assert library.startswith(str(prefix))
