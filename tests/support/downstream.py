"""Somebody else's code: extensions and programs compiled against what an installed llama_cy brings."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import llama_cy

ROOT = Path(__file__).resolve().parents[2]


def compile_extension(source: Path, folder: Path, *flags: str, include: str = "") -> Path:
    """Compile one C++ file into a module of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    shared = ["-bundle", "-undefined", "dynamic_lookup"] if sys.platform == "darwin" else ["-shared"]
    includes = [f"-I{include or llama_cy.get_include()}", f"-I{sysconfig.get_path('include')}"]
    command = [*compiler, "-std=c++17", "-O1", "-fPIC", *shared, *includes, *flags, str(source), "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def load_extension(path: Path) -> ModuleType:
    """Import a module from a file."""
    spec = importlib.util.spec_from_file_location(path.name.partition(".")[0], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
