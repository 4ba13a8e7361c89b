"""Build a Cython module against the installed headers, as a downstream project does."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["build_extension", "import_extension"]

BUILD = """
import sys
from pathlib import Path
from Cython.Build import cythonize
from setuptools import Extension, setup
import llama_cy
name = sys.argv[1]
package = Path(llama_cy.__file__).parent
extension = Extension(name, [f"{name}.pyx"], include_dirs=[llama_cy.get_include(), str(package)],
                      extra_compile_args=["-std=c++17", sys.argv[2]])
setup(name=name, script_args=["-q", "build_ext", "--inplace"],
      ext_modules=cythonize([extension], include_path=[llama_cy.get_include(), str(package.parent)],
                            language_level=sys.argv[3], quiet=True))
"""


def build_extension(source: Path, folder: Path, optimization: str = "-O0", level: int = 3) -> Path:
    """Compile a ``.pyx`` file in a folder of its own and return the path of the module."""
    (folder / source.name).write_text(source.read_text())
    (folder / "build.py").write_text(BUILD)
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "build.py", source.stem, optimization, str(level)],
        cwd=folder, capture_output=True, text=True, check=False, env=os.environ | {"CFLAGS": "-Wno-unused-function"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    (built,) = folder.glob(f"{source.stem}.*.so")
    return built


def import_extension(built: Path) -> ModuleType:
    """Import a module by its path."""
    spec = importlib.util.spec_from_file_location(built.name.partition(".")[0], built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
