"""Test offload to Vulkan on Mesa's software driver, which needs no GPU: ``python -m tools.vulkan [tests]``."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
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


def keep_buffers() -> Path:
    """Compile what keeps an older driver from buffers that are gone: see ``lavapipe.cpp``."""
    library = TREE / "build" / "lavapipe.so"
    includes = [f"-I{Path(os.environ['VULKAN_SDK']) / 'include'}"] if "VULKAN_SDK" in os.environ else []
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    source = Path(__file__).with_name("lavapipe.cpp")
    command = [*compiler, "-std=c++17", "-O2", "-fPIC", "-shared", *includes, str(source), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return library


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
        "LD_PRELOAD": os.pathsep.join(filter(None, [str(keep_buffers()), os.environ.get("LD_PRELOAD")])),
    }
    chosen = sys.argv[1:] if any(argument.startswith("tests") for argument in sys.argv[1:]) else [*TESTS, *sys.argv[1:]]
    # The other tests run too, with every model on the device or as --gpu-layers says.
    of_devices = all(path.startswith("tests/devices") for path in chosen if path.startswith("tests"))
    return second_build.test(TREE, settings, [*(["-m", "gpu"] if of_devices else []), *chosen])


if __name__ == "__main__":
    raise SystemExit(main())
