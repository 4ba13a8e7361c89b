"""Compile the C loop against the static libraries that the package was built with."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

__all__ = ["NativeError", "compile_loop"]

ROOT = Path(__file__).resolve().parents[1]


class NativeError(Exception):
    """The C loop can't be compiled."""


def setup_module() -> ModuleType:
    """Load setup.py, which builds nothing when imported."""
    spec = importlib.util.spec_from_file_location("llama_cy_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def compile_loop(build_options: str, *, openmp: bool = False) -> Path:
    """Compile ``loop.cpp`` and return the program.

    Parameters
    ----------
    build_options : str
        What ``llama_cy.version().build_options`` says: the same settings, from CMAKE_ARGS, are needed here.
    openmp : bool
        Link it to a llama.cpp with OpenMP, as llama.cpp comes, which is built for this alone.
    """
    setup = setup_module()
    platform = setup.platform_name()
    config = setup.native_config(platform, os.environ)
    ours = {f"{name}={value}" for name, value in config.cmake_options.items() if name.startswith("GGML_")}
    if ours != set(build_options.split()):
        raise NativeError(
            f"the package was built with {build_options}, and CMAKE_ARGS now gives {' '.join(sorted(ours))}: "
            "set it as it was, or build again"
        )
    fetch = setup.script("vendor/fetch.py")
    tree = fetch.source_dir(os.environ)
    source = setup.build.Source(tree, fetch.pinned().commit, ROOT / "build")
    options = {**config.cmake_options, "GGML_OPENMP": "ON"} if openmp else config.cmake_options
    libraries = [str(path) for path in setup.build.llama_cpp(source, options, config.environ)]
    group = ["-Wl,--start-group", *libraries, "-Wl,--end-group"] if platform.startswith("linux") else libraries
    directories = [f"-L{path}" for path in setup.build.cuda_library_dirs(config.libraries)]
    program = ROOT / "build" / ("bench-loop-openmp" if openmp else "bench-loop")
    compiler = shlex.split(os.environ.get("CXX", "") or sysconfig.get_config_var("CXX") or "c++")
    includes = [f"-I{tree / 'include'}", f"-I{tree / 'ggml' / 'include'}"]
    command = [
        *compiler, "-std=c++17", "-O3", "-march=native", *includes, str(ROOT / "benchmarks" / "loop.cpp"), *group,
        *directories, *(f"-l{name}" for name in config.libraries), *config.framework_args,
        *(["-fopenmp"] if openmp else []), "-o", str(program),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NativeError(f"{shlex.join(command)}\n{done.stderr}")
    return program
