"""build_metal.sh, run against stand-ins for a Mac's programs: which commands it gives, and what it says is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAC = {
    "uname": "echo Darwin",
    "sysctl": 'case "$2" in hw.optional.arm64) echo ${FAKE_ARM64:-1} ;; *) echo ${FAKE_TRANSLATED:-0} ;; esac',
    "xcode-select": "echo /Library/Developer/CommandLineTools",
    "make": 'echo "make $* CMAKE_ARGS=$CMAKE_ARGS" >> "$CALLS"',
    "python3": """
case "$*" in
    *platform.machine*) echo ${FAKE_MACHINE:-arm64} ;;
    *version_info*) exit ${FAKE_OLD:-0} ;;
    *) echo "python3 $* LLAMA_CY_PORTABLE=${LLAMA_CY_PORTABLE:-}" >> "$CALLS" ;;
esac""",
    "arch": 'echo "arch $*" >> "$CALLS"',
}


class Mac:
    """A copy of the script in a folder of its own, with these programs alone on PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        shutil.copy(ROOT / "build_metal.sh", folder)
        (folder / "bin").mkdir()
        for name in ("bash", "dirname", "cat"):
            os.symlink(str(shutil.which(name)), folder / "bin" / name)
        for name, text in MAC.items():
            self.program(folder / "bin" / name, text)
        self.program(folder / ".venv" / "bin" / "python", 'echo "checked" >> "$CALLS"')

    def program(self, path: Path, text: str) -> None:
        """Write a stand-in."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{text}\n")
        path.chmod(0o755)

    def run(self, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        self.calls.write_text("")
        return subprocess.run(
            [self.folder / "build_metal.sh", *options], capture_output=True, text=True, check=False,
            env={"PATH": str(self.folder / "bin"), "CALLS": str(self.calls), **environ},
        )  # fmt: skip


@pytest.fixture
def mac(tmp_path: Path) -> Mac:
    """Give a Mac of Apple silicon with all that is needed."""
    return Mac(tmp_path)


def test_it_builds_with_metal_embedded_and_checks(mac: Mac) -> None:
    done = mac.run()
    assert done.returncode == 0, done.stderr
    make, check = mac.calls.read_text().splitlines()
    # As `make test` builds, so that it need not build again.
    assert make == "make build PYTHON=python3 CMAKE_ARGS="
    assert check == "checked"
    assert mac.run().returncode == 0


def test_the_options_reach_the_build(mac: Mac) -> None:
    done = mac.run("--debug", "--clean", "--wheel", CMAKE_ARGS="-DGGML_NATIVE=OFF")
    assert done.returncode == 0, done.stderr
    clean, wheel = mac.calls.read_text().splitlines()
    assert clean.startswith("make clean")
    assert wheel == "python3 -m pip wheel --no-deps --wheel-dir dist . LLAMA_CY_PORTABLE=1"
    assert "CMAKE_BUILD_TYPE=Debug" in done.stdout
    assert done.stdout.index("CMAKE_BUILD_TYPE") < done.stdout.index("GGML_NATIVE=OFF")


def test_a_dry_run_does_nothing_and_says_the_same(mac: Mac) -> None:
    wet = mac.run("--debug").stdout
    dry = mac.run("--debug", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, wet)
    assert mac.calls.read_text() == ""


def test_a_rosetta_shell_starts_again_as_arm64(mac: Mac) -> None:
    assert mac.run("--clean", FAKE_TRANSLATED="1").returncode == 0
    assert mac.calls.read_text().split() == ["arch", "-arm64", "/bin/bash", f"{mac.folder}/build_metal.sh", "--clean"]


@pytest.mark.parametrize(
    ("missing", "environ", "advice"),
    [
        ("uname", {}, "make build"),
        ("xcode-select", {}, "xcode-select --install"),
        ("make", {}, "xcode-select --install"),
        ("python3", {}, "brew install python"),
        ("", {"FAKE_MACHINE": "x86_64"}, "brew install python"),
        ("", {"FAKE_OLD": "1"}, "brew install python"),
        ("", {"FAKE_ARM64": "0"}, "make build"),
        ("", {"PYTHON": "python3.99"}, "no python3.99"),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(mac: Mac, missing: str, environ: dict[str, str], advice: str) -> None:
    if missing == "uname":
        mac.program(mac.folder / "bin" / "uname", "echo Linux")
    elif missing:
        (mac.folder / "bin" / missing).unlink()
    done = mac.run(**environ)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("build_metal.sh: ")
    assert advice in line
    assert mac.calls.read_text() == ""


def test_an_unknown_option_is_refused(mac: Mac) -> None:
    done = mac.run("--fast")
    assert done.returncode == 2
    assert "unknown option --fast" in done.stderr
    assert mac.calls.read_text() == ""


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_elsewhere_it_says_so() -> None:
    done = subprocess.run([ROOT / "build_metal.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Metal needs macOS" in done.stderr


def test_shellcheck_finds_nothing() -> None:
    checker = shutil.which("shellcheck") or str(Path(sys.executable).parent / "shellcheck")
    scripts = [ROOT / "build_metal.sh", ROOT / ".ci" / "run"]
    done = subprocess.run([checker, *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
