"""What llama.cpp's Vulkan backend needs of the machine that builds it, told in one line where it is missing."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["OLDEST_HEADERS", "missing"]

# VK_EXT_layer_settings, which llama.cpp uses whatever the headers are, came with this version.
OLDEST_HEADERS = (1, 3, 272)
PACKAGES = "`apt install libvulkan-dev glslc spirv-headers`"
SYSTEM = ("/usr", "/usr/local")
TOLD = ("CMAKE_PREFIX_PATH", "CMAKE_INCLUDE_PATH", "CPATH", "Vulkan_INCLUDE_DIR", "Vulkan_GLSLC_EXECUTABLE")


def missing(options: Mapping[str, str], environ: Mapping[str, str], roots: tuple[str, ...] = SYSTEM) -> str | None:
    """Return what is missing and how to get it; None where all is there, or where Vulkan isn't asked for.

    Parameters
    ----------
    options : mapping of str to str
        CMake's; who tells CMake where to look is believed.
    environ : mapping of str to str
        ``VULKAN_SDK`` names a folder that CMake takes before the system's.
    roots : tuple of str
        Where the system has its own.
    """
    asked = options.get("GGML_VULKAN", "OFF").upper() in {"ON", "1", "TRUE", "YES", "Y"}
    if not asked or not sys.platform.startswith("linux") or any(name in options or name in environ for name in TOLD):
        return None
    places = [Path(root) for root in (environ.get("VULKAN_SDK", ""), *roots) if root]
    path = os.pathsep.join([*(f"{place}/bin" for place in places), environ.get("PATH", "")])
    if not shutil.which("glslc", path=path):
        return f"glslc, which compiles Vulkan's shaders, is not found; {PACKAGES} brings it"
    headers = [place / "include" / "vulkan" / "vulkan_core.h" for place in places]
    found = next((path for path in headers if path.is_file()), None)
    if found is None:
        return f"Vulkan's headers are not found; {PACKAGES} brings them"
    version = header_version(found.read_text())
    if version < OLDEST_HEADERS:
        return (
            f"Vulkan's headers in {found.parent} are {dotted(version)}, llama.cpp needs {dotted(OLDEST_HEADERS)}; "
            "newer ones, as Debian 13 has them, may lie in a folder that VULKAN_SDK names: docs/vulkan.md"
        )
    if not any((place / "include" / "spirv" / "unified1" / "spirv.hpp").is_file() for place in places):
        return f"the SPIR-V headers are not found; {PACKAGES} brings them"
    return None


def header_version(text: str) -> tuple[int, ...]:
    """Read the version out of ``vulkan_core.h``."""
    complete = re.search(r"#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(0, (\d+), (\d+),", text)
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", text)
    return (int(complete[1]), int(complete[2]), int(patch[1])) if complete and patch else (0,)


def dotted(version: tuple[int, ...]) -> str:
    """Write a version as people do."""
    return ".".join(map(str, version))
