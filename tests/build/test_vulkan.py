"""What a build with Vulkan lacks is said in one line, before anything is compiled."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
ON = {"GGML_VULKAN": "ON"}
HEADER = """
#define VK_HEADER_VERSION {patch}
#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, {major}, {minor}, VK_HEADER_VERSION)
"""


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llama_cy_vulkan", ROOT / "vendor" / "vulkan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


vulkan = load()


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Give a folder that has all that is needed."""
    for name, text in {
        "bin/glslc": "",
        "include/vulkan/vulkan_core.h": HEADER.format(major=1, minor=4, patch=309),
        "include/spirv/unified1/spirv.hpp": "",
    }.items():
        path = tmp_path / "machine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "machine" / "bin" / "glslc").chmod(0o755)
    return tmp_path / "machine"


def missing(machine: Path, **environ: str) -> str | None:
    found = vulkan.missing(ON, {"PATH": str(machine / "bin"), **environ}, (str(machine),))
    assert found is None or "\n" not in found
    return found


def test_nothing_is_missing(machine: Path) -> None:
    assert missing(machine) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bin/glslc", "glslc"),
        ("include/vulkan/vulkan_core.h", "Vulkan's headers are not found"),
        ("include/spirv/unified1/spirv.hpp", "SPIR-V headers"),
    ],
)
def test_what_is_missing_is_named_with_its_package(machine: Path, name: str, said: str) -> None:
    (machine / name).unlink()
    reason = missing(machine)
    assert reason is not None
    assert said in reason
    assert "apt install" in reason
    # Who does not ask for Vulkan needs none of it, and who says where it is is believed.
    assert vulkan.missing({}, {"PATH": ""}, (str(machine),)) is None
    assert missing(machine, CMAKE_PREFIX_PATH="/opt/vulkan") is None


def test_older_headers_are_named_with_both_versions(machine: Path) -> None:
    (machine / "include/vulkan/vulkan_core.h").write_text(HEADER.format(major=1, minor=3, patch=239))
    reason = missing(machine)
    assert reason is not None
    assert "1.3.239" in reason
    assert vulkan.dotted(vulkan.OLDEST_HEADERS) in reason
    assert (ROOT / "docs" / "vulkan.md").is_file()


def test_the_sdk_comes_before_the_system(machine: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    for path in machine.rglob("*.h*"):
        copied = older / path.relative_to(machine)
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_text(HEADER.format(major=1, minor=3, patch=1))
    assert vulkan.missing(ON, {"PATH": str(machine / "bin")}, (str(older),)) is not None
    assert vulkan.missing(ON, {"PATH": "", "VULKAN_SDK": str(machine)}, (str(older),)) is None


numbers = st.integers(0, 999)


@given(numbers, numbers, numbers)
def test_versions_are_read(major: int, minor: int, patch: int) -> None:
    text = HEADER.format(major=major, minor=minor, patch=patch)
    assert vulkan.header_version(text) == (major, minor, patch)
    assert re.fullmatch(r"\d+\.\d+\.\d+", vulkan.dotted((major, minor, patch)))
