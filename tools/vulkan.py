"""Test offload to Vulkan on Mesa's software driver, which needs no GPU: ``python -m tools.vulkan [tests]``."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from tools import second_build

TREE = second_build.ROOT / "build" / "vulkan"
# What the driver computes in minutes; tests/devices has more, which may be asked for.
TESTS = ("tests/devices/test_placement.py", "tests/devices/test_use.py")
DRIVERS = [Path(folder) / "vulkan" / "icd.d" for folder in ("/usr/share", "/usr/local/share", "/etc")]


def software_driver() -> Path:
    """Return the file that tells the loader of Mesa's driver for the CPU."""
    found = [path for folder in DRIVERS for path in sorted(folder.glob("lvp_icd*.json"))]
    machine = platform.machine()
    # Debian 12 has one file for each architecture; later ones serve all.
    fitting = [path for path in found if path.name in ("lvp_icd.json", f"lvp_icd.{machine}.json")]
    if not fitting:
        raise SystemExit("Mesa's Vulkan driver for the CPU is not found; `apt install mesa-vulkan-drivers` brings it")
    return fitting[0]


def main() -> int:
    """Build with Vulkan and run tests of devices; arguments go to pytest."""
    driver = str(software_driver())
    second_build.build(TREE, {"CMAKE_ARGS": f"{os.environ.get('CMAKE_ARGS', '')} -DGGML_VULKAN=ON".strip()})
    settings = {
        # The second is what older loaders read. A GPU of the machine stays out of it.
        "VK_DRIVER_FILES": driver,
        "VK_ICD_FILENAMES": driver,
        # ggml takes a driver for the CPU only where it is asked to; "0,0" makes two of it.
        "GGML_VK_VISIBLE_DEVICES": os.environ.get("GGML_VK_VISIBLE_DEVICES", "0"),
        # Mesa 22.3 reads the buffers that an earlier kernel had where this one has none: see docs/vulkan.md.
        "GGML_VK_DISABLE_DESCRIPTOR_REUSE": "1",
    }
    chosen = sys.argv[1:] if any(argument.startswith("tests") for argument in sys.argv[1:]) else [*TESTS, *sys.argv[1:]]
    # The other tests run too, with every model on the device or as --gpu-layers says.
    of_devices = all(path.startswith("tests/devices") for path in chosen if path.startswith("tests"))
    return second_build.test(TREE, settings, [*(["-m", "gpu"] if of_devices else []), *chosen])


if __name__ == "__main__":
    raise SystemExit(main())
