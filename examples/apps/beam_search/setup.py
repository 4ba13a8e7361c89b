"""Compile against an installed llama_cy; nothing is linked."""

from __future__ import annotations

from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

import llama_cy

package = Path(llama_cy.__file__).parent
search = Extension(
    "beam_search.search",
    ["beam_search/search.pyx"],
    # For the mirror of llama.cpp's API, and for the headers that llama_cy's own classes name.
    include_dirs=[llama_cy.get_include(), str(package)],
    extra_compile_args=["-std=c++17", "-O2"],
    language="c++",
)
where = [llama_cy.get_include(), str(package.parent)]
setup(ext_modules=cythonize([search], include_path=where, language_level=3))  # type: ignore[no-untyped-call]
