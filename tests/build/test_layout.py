"""llama_cy_api.h compiles everywhere it is used, notices headers that differ, and refuses a table that does."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tools.mirror.declarations import Constant
from tools.mirror.headers import read_headers
from tools.mirror.pxd import Mirror, safe

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "vendor" / "llama.cpp"
COMPILERS = {
    "c11": [*os.environ.get("CC", "cc").split(), "-xc", "-std=c11"],
    "c++17": [*os.environ.get("CXX", "c++").split(), "-xc++", "-std=c++17"],
}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
PYTHON = [f"-isystem{sysconfig.get_path('include')}"]

C_LINKAGE = """
#include "llama_cy_api.h"
#ifdef __cplusplus
#define C_LINKAGE extern "C"
#else
#define C_LINKAGE extern
#endif
"""
# llama_pooling_type is an enum and a function: both must work beside the macros.
CALLER = f"""{C_LINKAGE}
C_LINKAGE size_t call(struct llama_context * ctx);
size_t call(struct llama_context * ctx) {{
    enum llama_pooling_type pooling = ctx == NULL ? LLAMA_POOLING_TYPE_NONE : llama_pooling_type(ctx);
    return pooling == LLAMA_POOLING_TYPE_NONE ? llama_max_devices() : 0;
}}
"""
IMPORTER = f"""{C_LINKAGE}
C_LINKAGE int attempt(void);
int attempt(void) {{ return import_llama_cy(); }}
C_LINKAGE size_t table_size(void);
size_t table_size(void) {{ return sizeof(struct llama_cy_table); }}
"""
# Runs in a child: a stand-in for llama_cy whose table answers 7 to every call.
IMPORT = """
import ctypes, sys, types
library, commit, signature, changes = sys.argv[1:5]
loaded = ctypes.PyDLL(library)
loaded.table_size.restype = loaded.call.restype = ctypes.c_size_t
loaded.call.argtypes = [ctypes.c_void_p]
size = loaded.table_size()
answer = ctypes.CFUNCTYPE(ctypes.c_size_t)(lambda: 7)

class Table(ctypes.Structure):
    _fields_ = [("abi", ctypes.c_uint32), ("size", ctypes.c_uint32), ("commit", ctypes.c_char_p),
                ("signature", ctypes.c_char_p), ("functions", ctypes.c_void_p * (size // 8 - 3))]

table = Table(1, size, commit.encode(), signature.encode())
for i in range(len(table.functions)):
    table.functions[i] = ctypes.cast(answer, ctypes.c_void_p).value
for change in filter(None, changes.split(",")):
    name, value = change.split("=")
    setattr(table, name, value.encode() if name in ("commit", "signature") else int(value) % 2**32)
if changes != "absent=1":
    package, module = types.ModuleType("llama_cy"), types.ModuleType("llama_cy._llama")
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    module._api = new(ctypes.addressof(table), b"llama_cy._llama._api", None)
    package._llama = module
    sys.modules.update({"llama_cy": package, "llama_cy._llama": module})
else:
    sys.modules["llama_cy"] = None
try:
    print(loaded.attempt(), loaded.call(None))
except ImportError as error:
    print(error)
"""


@pytest.fixture(scope="module", autouse=True)
def pinned_source() -> None:
    if not (SOURCE / "include" / "llama.h").is_file():
        pytest.fail("vendor/llama.cpp is missing: run `python vendor/fetch.py` (make test does)")


def run_compiler(standard: str, *arguments: str | Path, headers: Path = SOURCE) -> subprocess.CompletedProcess[str]:
    includes = [f"-I{folder}" for folder in (ROOT / "include", headers / "include", headers / "ggml" / "include")]
    command = [*COMPILERS[standard], *includes, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("standard", COMPILERS)
@pytest.mark.parametrize("define", ["LLAMA_CY_UNIQUE_SYMBOL=a_llama_cy_api", "LLAMA_CY_DEFINE_TABLE", "OWN_TABLE"])
@pytest.mark.parametrize("text", [CALLER, '#include "llama_cy_api.h"\n'], ids=["used", "unused"])
def test_header_compiles_without_warnings(tmp_path: Path, standard: str, define: str, text: str) -> None:
    file = write(tmp_path / "caller.c", text)
    result = run_compiler(standard, "-fsyntax-only", *WARNINGS, *PYTHON, f"-D{define}", file)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("standard", COMPILERS)
def test_file_that_does_not_import_needs_no_python(tmp_path: Path, standard: str) -> None:
    file = write(tmp_path / "caller.c", CALLER)
    defines = ["-DLLAMA_CY_UNIQUE_SYMBOL=a_llama_cy_api", "-DLLAMA_CY_NO_IMPORT"]
    result = run_compiler(standard, "-fsyntax-only", *WARNINGS, *defines, file)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("standard", COMPILERS)
def test_no_import_without_a_shared_name_is_refused(tmp_path: Path, standard: str) -> None:
    result = run_compiler(standard, "-fsyntax-only", "-DLLAMA_CY_NO_IMPORT", write(tmp_path / "caller.c", CALLER))
    assert result.returncode != 0
    assert "LLAMA_CY_NO_IMPORT needs LLAMA_CY_UNIQUE_SYMBOL" in result.stderr


@pytest.mark.parametrize("standard", COMPILERS)
@pytest.mark.parametrize(
    ("header", "change", "complaint"),
    [
        ("ggml/include/ggml.h", ("GGML_MAX_NAME        64", "GGML_MAX_NAME 32"), "sizeof(struct ggml_tensor) == 336"),
        ("include/llama.h", ("float logit;", "double logit;"), "offsetof(struct llama_token_data, logit) == 4"),
        ("include/llama.h", ("float bias;", "float bias, more;"), "sizeof(struct llama_logit_bias) == 8"),
        ("include/llama.h", ("ATTR_LSTRIP ", "ATTR_LSTRIP = 1 << 10, // "), "LLAMA_TOKEN_ATTR_LSTRIP == 128"),
        ("include/llama.h", ("int64_t llama_time_us", "int32_t llama_time_us"), "int32_t ("),
    ],
    ids=["length", "offset", "size", "enum", "function"],
)
def test_headers_that_differ_do_not_compile(
    tmp_path: Path, standard: str, header: str, change: tuple[str, str], complaint: str
) -> None:
    for folder in ("include", "ggml/include"):
        shutil.copytree(SOURCE / folder, tmp_path / folder)
    text = (tmp_path / header).read_text()
    assert change[0] in text
    (tmp_path / header).write_text(text.replace(*change))
    file = write(tmp_path / "table.c", '#include "llama_cy_api.h"\n')
    result = run_compiler(standard, "-fsyntax-only", *WARNINGS, "-DLLAMA_CY_DEFINE_TABLE", file, headers=tmp_path)
    assert result.returncode != 0
    assert complaint in result.stderr


@pytest.fixture(scope="module", params=COMPILERS)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of two files that share one table: one imports it, the other calls through it."""
    folder = tmp_path_factory.mktemp("program")
    flags = ["-c", "-fPIC", "-DLLAMA_CY_UNIQUE_SYMBOL=program_llama_cy_api", *WARNINGS, *PYTHON]
    for name, text, more in (("importer", IMPORTER, []), ("caller", CALLER, ["-DLLAMA_CY_NO_IMPORT"])):
        file = write(folder / f"{name}.c", text)
        compiled = run_compiler(request.param, *flags, *more, file, "-o", folder / f"{name}.o")
        assert (compiled.returncode, compiled.stderr) == (0, "")
    # CPython's symbols come from the process that loads the library.
    lookup = ["-Wl,-undefined,dynamic_lookup"] if sys.platform == "darwin" else []
    linker = [argument for argument in COMPILERS[request.param] if not argument.startswith(("-x", "-std"))]
    objects = [str(folder / "importer.o"), str(folder / "caller.o")]
    subprocess.run([*linker, "-shared", *lookup, *objects, "-o", str(folder / "program.so")], check=True)
    return folder / "program.so"


def signature() -> str:
    """Read the signature of the committed table."""
    text = (ROOT / "include" / "llama_cy_api.h").read_text()
    return "".join(re.findall(r'^    "([0-9a-f]+)"', text.partition("#define LLAMA_CY_SIGNATURE")[2], re.M))


def import_table(program: Path, changes: str) -> str:
    """Import a table that differs from the header in `changes`, and return what the child printed."""
    text = (ROOT / "include" / "llama_cy_api.h").read_text()
    commit = text.split('#define LLAMA_CY_LLAMA_CPP_COMMIT "')[1].split('"')[0]
    command = [sys.executable, "-W", "error", "-c", IMPORT, str(program), commit, signature(), changes]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=program.parent)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.strip()


LONGER = f"size=1000000,signature={signature()}0123"


@pytest.mark.parametrize("changes", ["", LONGER], ids=["same", "longer"])
def test_table_is_shared_by_the_files_of_a_program(program: Path, changes: str) -> None:
    assert import_table(program, changes) == "0 7"


@pytest.mark.parametrize(
    ("changes", "installed"),
    [
        ("abi=2", "C API 2 "),
        ("abi=0", "C API 0 "),
        ("commit=0123abc", "llama.cpp 0123abc, "),
        (f"signature=0123{signature()[4:]}", "some of them others"),
        (f"signature=0123{signature()}", "functions"),
        ("size=24", "functions"),
        ("size=0", "functions"),
    ],
    ids=["newer", "older", "commit", "changed", "inserted", "small", "empty"],
)
def test_table_that_differs_is_an_import_error(program: Path, changes: str, installed: str) -> None:
    message = import_table(program, changes)
    ours, theirs = message.split(", but the installed llama_cy has ")
    assert ours.startswith("this extension was compiled against llama_cy C API 1 (llama.cpp ")
    assert installed in theirs
    assert message.endswith(": rebuild the extension against the installed one")


@pytest.mark.parametrize("length", [0, 4, len(signature()) - 4])
def test_an_older_table_asks_for_an_upgrade(program: Path, length: int) -> None:
    message = import_table(program, f"signature={signature()[:length]}")
    assert f", {length // 4} functions)" in message
    assert message.endswith(": upgrade llama_cy, or rebuild the extension against the installed one")


def test_absent_package_is_an_import_error(program: Path) -> None:
    assert "llama_cy" in import_table(program, "absent=1")


def every_name() -> str:
    """Write Cython that calls every function without the GIL, reads every field and converts every constant."""
    headers = read_headers(SOURCE)
    mirror = Mirror(headers)
    lines = ["from libc.stdint cimport *", "from libc.stdio cimport FILE", "from libcpp cimport bool"]
    lines += [*(f"from {header.name} cimport *" for header in headers), "import_llama_cy()", "callers = []"]
    for function in (f for h in headers for f in h.functions):
        arguments = [(f"a{i}", ctype) for i, (_, ctype) in enumerate(function.ctype.parameters)]
        declared = ", ".join(mirror.spell(ctype, name) for name, ctype in arguments)
        call = f"{function.name}({', '.join(name for name, _ in arguments)})"
        lines += [f"cdef int call_{function.name}({declared}) except -1 nogil:", f"    {call}", "    return 0"]
        lines += [f"callers.append(<size_t> <void *> call_{function.name})"]
    lines.append("def fields():")
    for struct in (s for h in headers for s in h.structs if s.fields and not s.cname):
        lines.append(f"    cdef {mirror.renamed.get(struct.name, struct.name)} {struct.name}_")
        lines += [f"    yield sizeof({struct.name}_.{safe(field.name)})" for field in struct.fields or ()]
    names = [d.name for h in headers for d in h.declarations if isinstance(d, Constant)]
    names += [name for h in headers for enum in h.enums for name, _ in enum.members]
    return "\n".join([*lines, f"constants = [{', '.join(names)}]", ""])


def test_every_name_compiles_from_cython(tmp_path: Path) -> None:
    file = write(tmp_path / "every.pyx", every_name())
    command = [sys.executable, "-m", "cython", "-3", "--cplus", "-I", str(ROOT / "include"), str(file)]
    translated = subprocess.run(command, capture_output=True, text=True, check=False)
    assert translated.returncode == 0, translated.stdout + translated.stderr
    result = run_compiler("c++17", "-fsyntax-only", *PYTHON, file.with_suffix(".cpp"))
    assert (result.returncode, result.stderr) == (0, "")
