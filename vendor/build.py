"""Build llama.cpp's static libraries with cmake, for ``setup.py``: the plain ones and, for a wheel, one set per CPU."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

AMX = Path(__file__).with_name("amx.h")


class BuildError(SystemExit):
    """One line that says why the build cannot go on."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"llama_cy: {reason}")


def check_tools(compilers: Sequence[str] | None = None) -> None:
    """Refuse at once, in one line, what would otherwise fail after minutes.

    Parameters
    ----------
    compilers : sequence of str, optional
        Programs of which one must be there; by default, those that setuptools may choose.
    """
    if compilers is None and sys.platform == "win32":
        # Visual Studio's is on no PATH; setuptools finds it or says so.
        compilers = [sys.executable]
    elif compilers is None:
        chosen = shlex.split(os.environ.get("CXX", "") or sysconfig.get_config_var("CXX") or "c++")[0]
        compilers = [chosen, "c++", "g++", "clang++"]
    if not any(shutil.which(name) for name in compilers):
        raise BuildError(
            f"no C++17 compiler found ({compilers[0]}); install one, "
            "for example `apt install g++`, `dnf install gcc-c++` or `xcode-select --install`"
        )
    for tool in ("cmake", "ninja"):
        if not shutil.which(tool):
            raise BuildError(f"{tool} not found; `pip install {tool}` puts it on PATH")


def run(command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
    """Run a command; its output goes to the log, and to stderr when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        status = subprocess.run(command, env=environ, stdout=output, stderr=subprocess.STDOUT, check=False)
    if status.returncode:
        print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
        raise BuildError(f"`{shlex.join(command[:4])} …` failed; the whole log is in {log}")


class Source(NamedTuple):
    """A llama.cpp tree, its commit, and the folder to build it in."""

    tree: Path
    commit: str
    build: Path


def llama_cpp(
    source: Source, options: Mapping[str, str], environ: Mapping[str, str], target: str = "llama"
) -> list[Path]:
    """Configure and build the static libraries that a target needs; return them in link order.

    The folder is named after the settings, so that a change of settings never meets an old cache.
    """
    arguments = [f"-D{name}={value}" for name, value in options.items()]
    msvc = "CMAKE_MSVC_RUNTIME_LIBRARY" in options
    # Without an empty GIT_EXE, ggml would name the commit of whatever repository it is built in.
    # llama.cpp's asserts name their file, which should not be one of the machine that built it.
    for flags in ("CMAKE_C_FLAGS", "CMAKE_CXX_FLAGS"):
        given = options.get(flags, "")
        ours = "/EHs" if msvc else f'-fexceptions "-ffile-prefix-map={source.tree.as_posix()}=llama.cpp"'
        if flags == "CMAKE_CXX_FLAGS" and not msvc:
            ours += f' -include "{AMX.as_posix()}"'
        arguments.append(f"-D{flags}={given} {ours}".replace("= ", "="))
    arguments += [f"-DLLAMA_BUILD_COMMIT={source.commit[:9]}", "-DLLAMA_BUILD_NUMBER=0", "-DGIT_EXE="]
    key = hashlib.sha256("\0".join([str(source.tree), *arguments]).encode()).hexdigest()[:12]
    folder = source.build / f"llama.cpp-{key}"
    # Under build isolation ninja lives in another folder each time, which the cache must not remember.
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}"]
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(cores))
    log, merged = source.build / "llama.cpp.log", {**os.environ, **environ}
    run(["cmake", "-S", str(source.tree), "-B", str(folder), *generator, *arguments], log, merged)
    run(["cmake", "--build", str(folder), "--target", target, "--parallel", jobs], log, merged)
    found = [*folder.rglob("*.a"), *folder.rglob("*.lib")]
    return sorted(found, key=lambda path: (stem(path) != "llama", stem(path) != "ggml", path.stem))


def stem(library: Path) -> str:
    """Return a library's name without what the system puts around it."""
    return library.stem.removeprefix("lib")


def cuda_library_dirs(libraries: Sequence[str]) -> list[str]:
    """Folders of the CUDA toolkit's libraries, from the compiler on PATH."""
    if "cudart_static" not in libraries:
        return []
    compiler = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    root = Path(os.environ.get("CUDA_PATH", Path(compiler).resolve().parent.parent))
    names = ("lib64", "lib64/stubs", "targets/x86_64-linux/lib", "targets/x86_64-linux/lib/stubs")
    return [str(root / name) for name in names if (root / name).is_dir()]


def export_args(platform: str, module: str, folder: Path) -> list[str]:
    """Export the module's init function and nothing else: another llama.cpp in the process never meets ours."""
    if platform.startswith("darwin"):
        return [f"-Wl,-exported_symbol,_PyInit_{module}"]
    if platform.startswith("win32"):
        # What is not marked is not exported, and PyMODINIT_FUNC is the only mark.
        return []
    script = folder / f"{module}.map"
    write_if_new(script, f"{{ global: PyInit_{module}; local: *; }};\n")
    return [f"-Wl,--version-script={script}"]


def write_if_new(target: Path, content: str | bytes) -> None:
    """Keep the time stamp of an unchanged file, so that nothing is rebuilt for it."""
    content = content.encode() if isinstance(content, str) else content
    if not target.exists() or target.read_bytes() != content:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
