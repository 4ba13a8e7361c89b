"""Build llama.cpp statically, link it into ``llama_cy._llama`` alone, and compile the rest against its table."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform as host
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FRAMEWORKS = ("Metal", "Foundation", "MetalPerformanceShaders", "MetalKit")
MODULES = (
    "_llama", "abort", "lifetime", "handle", "vocab", "loading", "model", "batch", "batch_arrays", "threadpool",
    "eval_callback", "abort_callback", "context_handle", "batch_ext", "context_params", "decoder", "outputs", "context",
    "rows", "memory", "state", "sampler", "sampler_chain", "loop", "stream", "devices", "chat", "gguf_header",
    "gguf_vocab", "adapter", "cvec",
)  # fmt: skip
COVERAGE = os.environ.get("LLAMA_CY_COVERAGE") == "1"
TABLE = "include/llama_cy_api.h"
HEADERS = ("include/llama.h", "ggml/include/ggml.h", "ggml/include/ggml-cpu.h", "ggml/include/ggml-backend.h",
           "ggml/include/ggml-alloc.h", "ggml/include/ggml-opt.h", "ggml/include/gguf.h")  # fmt: skip


class BuildError(SystemExit):
    """One line that says why the build cannot go on."""

    def __init__(self, reason: str):
        super().__init__(f"llama_cy: {reason}")


@dataclass(frozen=True)
class NativeConfig:
    """What one platform needs to build llama.cpp and to link ``_llama``."""

    cmake_options: Mapping[str, str]
    sources: tuple[str, ...] = tuple(f"llama_cy/{name}.pyx" for name in MODULES)
    include_dirs: tuple[str, ...] = ("include", "llama_cy")
    compile_args: tuple[str, ...] = ("-std=c++17", "-O3", "-DNDEBUG", "-fvisibility=hidden")
    link_args: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)

    @property
    def framework_args(self) -> list[str]:
        return [arg for name in self.frameworks for arg in ("-framework", name)]


def native_config(platform: str, environ: Mapping[str, str]) -> NativeConfig:
    """Map a platform and an environment to build settings.

    Parameters
    ----------
    platform : str
        ``linux-x86_64``, ``linux-aarch64``, ``darwin-arm64``, ``darwin-x86_64``.
    environ : mapping of str to str
        ``CMAKE_ARGS`` is passed through and wins over our own options; ``MACOSX_DEPLOYMENT_TARGET`` is respected.

    Returns
    -------
    NativeConfig
        Pure data; nothing is read from the machine.
    """
    system, _, machine = platform.partition("-")
    options = {
        "CMAKE_BUILD_TYPE": "Release",
        "BUILD_SHARED_LIBS": "OFF",
        "CMAKE_POSITION_INDEPENDENT_CODE": "ON",
        "CMAKE_C_VISIBILITY_PRESET": "hidden",
        "CMAKE_CXX_VISIBILITY_PRESET": "hidden",
        "GGML_OPENMP": "OFF",
        "GGML_CCACHE": "ON",
        **{f"LLAMA_BUILD_{part}": "OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP", "UI")},
    }
    variables: dict[str, str] = {}
    frameworks: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    link_args: tuple[str, ...] = ()
    if system == "darwin":
        target = environ.get("MACOSX_DEPLOYMENT_TARGET", "11.0" if machine == "arm64" else "10.15")
        variables["MACOSX_DEPLOYMENT_TARGET"] = target
        metal = "ON" if machine == "arm64" else "OFF"
        options |= {
            "CMAKE_OSX_ARCHITECTURES": machine,
            "CMAKE_OSX_DEPLOYMENT_TARGET": target,
            "GGML_METAL": metal,
            "GGML_METAL_EMBED_LIBRARY": metal,
            "GGML_ACCELERATE": "ON",
            "GGML_BLAS": "ON",
            "GGML_BLAS_VENDOR": "Apple",
        }
        frameworks = (*FRAMEWORKS, "Accelerate")
        link_args = ("-arch", machine, f"-mmacosx-version-min={target}", "-Wl,-dead_strip", "-Wl,-x")
    elif system == "linux":
        libraries = ("pthread", "dl", "m")
        link_args = ("-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,-s")
    else:
        raise BuildError(f"no build settings for {platform!r}; Linux and macOS are supported")
    for option in shlex.split(environ.get("CMAKE_ARGS", "")):
        name, _, value = option.removeprefix("-D").partition("=")
        options[name.partition(":")[0]] = value
    if options.get("GGML_CUDA", "OFF").upper() in {"ON", "1", "TRUE"}:
        libraries += ("cudart_static", "culibos", "cublas", "cublasLt", "cuda", "rt")
    if options.get("GGML_VULKAN", "OFF").upper() in {"ON", "1", "TRUE"}:
        libraries += ("vulkan",)
    return NativeConfig(
        cmake_options=options, link_args=link_args, frameworks=frameworks, libraries=libraries, environ=variables
    )


def platform_name() -> str:
    """Name this interpreter's platform as :func:`native_config` expects it."""
    machine = os.environ.get("ARCHFLAGS", "").removeprefix("-arch ").strip() or host.machine().lower()
    return f"{sys.platform}-{ {'amd64': 'x86_64'}.get(machine, machine) }".replace(" ", "")


def check_tools(platform: str) -> None:
    """Refuse at once, in one line, what would otherwise fail after minutes."""
    compiler = shlex.split(os.environ.get("CXX", "") or sysconfig.get_config_var("CXX") or "c++")[0]
    if not any(shutil.which(name) for name in (compiler, "c++", "g++", "clang++")):
        raise BuildError(
            f"no C++17 compiler found ({compiler}); install one, "
            "for example `apt install g++`, `dnf install gcc-c++` or `xcode-select --install`"
        )
    if platform == "darwin-x86_64" and "ARM64" in os.uname().version:
        raise BuildError("this Python is x86_64 but the Mac is arm64; use an arm64 Python to get Metal")
    for tool in ("cmake", "ninja"):
        if not shutil.which(tool):
            raise BuildError(f"{tool} not found; `pip install {tool}` puts it on PATH")


def vendor():  # type: ignore[no-untyped-def]
    """Load ``vendor/fetch.py``, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("llama_cy_fetch", ROOT / "vendor" / "fetch.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def build_llama_cpp(config: NativeConfig, source: Path, commit: str, build: Path) -> list[Path]:
    """Configure and build the static libraries; return them in link order.

    The folder is named after the settings, so that a change of settings never meets an old cache.
    """
    environ = os.environ | config.environ
    arguments = [f"-D{name}={value}" for name, value in config.cmake_options.items()]
    # Without an empty GIT_EXE, ggml would name the commit of whatever repository it is built in.
    # llama.cpp's asserts name their file, which should not be one of the machine that built it.
    for flags in ("CMAKE_C_FLAGS", "CMAKE_CXX_FLAGS"):
        given = config.cmake_options.get(flags, "")
        # An assert that fails is thrown through ggml's C, whose frames need tables for that.
        arguments.append(f"-D{flags}={given} -fexceptions -ffile-prefix-map={source}=llama.cpp".replace("= ", "="))
    arguments += [f"-DLLAMA_BUILD_COMMIT={commit[:9]}", "-DLLAMA_BUILD_NUMBER=0", "-DGIT_EXE="]
    key = hashlib.sha256("\0".join([str(source), *arguments]).encode()).hexdigest()[:12]
    folder = build / f"llama.cpp-{key}"
    # Under build isolation ninja lives in another folder each time, which the cache must not remember.
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={shutil.which('ninja')}"]
    jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(len(os.sched_getaffinity(0)) if sys.platform == "linux"
                                                            else os.cpu_count()))  # fmt: skip
    commands = (
        ["cmake", "-S", str(source), "-B", str(folder), *generator, *arguments],
        ["cmake", "--build", str(folder), "--target", "llama", "--parallel", jobs],
    )
    log = build / "llama.cpp.log"
    build.mkdir(parents=True, exist_ok=True)
    for command in commands:
        with open(log, "ab") as output:
            status = subprocess.run(command, env=environ, stdout=output, stderr=subprocess.STDOUT, check=False)
        if status.returncode:
            print(log.read_text(errors="replace")[-4000:], file=sys.stderr)
            raise BuildError(f"`{shlex.join(command[:4])} …` failed; the whole log is in {log}")
    return sorted(folder.rglob("*.a"), key=lambda path: (path.stem != "libllama", path.stem != "libggml", path.stem))


def export_args(platform: str, module: str, folder: Path) -> list[str]:
    """Export the module's init function and nothing else: another llama.cpp in the process never meets ours."""
    folder.mkdir(parents=True, exist_ok=True)
    if platform.startswith("darwin"):
        return [f"-Wl,-exported_symbol,_PyInit_{module}"]
    script = folder / f"{module}.map"
    script.write_text(f"{{ global: PyInit_{module}; local: *; }};\n")
    return [f"-Wl,--version-script={script}"]


def cuda_library_dirs(config: NativeConfig) -> list[str]:
    """Folders of the CUDA toolkit's libraries, from the compiler on PATH."""
    if "cudart_static" not in config.libraries:
        return []
    compiler = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    root = Path(os.environ.get("CUDA_PATH", Path(compiler).resolve().parent.parent))
    return [str(path) for path in (root / "lib64", root / "lib64" / "stubs", root / "targets/x86_64-linux/lib",
                                   root / "targets/x86_64-linux/lib/stubs") if path.is_dir()]  # fmt: skip


def copy_if_newer(source: Path, target: Path) -> None:
    """Keep the time stamp of an unchanged file, so that nothing is rebuilt for it."""
    if not target.exists() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def main() -> None:
    """Run setuptools with the extensions of this platform."""
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext

    platform = platform_name()
    config = native_config(platform, os.environ)

    class BuildNative(build_ext):
        """llama.cpp first, then the modules."""

        def finalize_options(self) -> None:
            super().finalize_options()
            # Kept between builds, also where setuptools would take a temporary folder, so that only changes compile.
            self.build_temp = str(ROOT / "build" / f"temp-{platform}-{sys.implementation.cache_tag}")
            self.parallel = self.parallel or os.cpu_count()

        def build_extensions(self) -> None:
            check_tools(platform)
            os.environ.update(config.environ)
            fetch = vendor()
            try:
                source = fetch.source_dir(os.environ)
            except fetch.FetchError as error:
                raise BuildError(str(error)) from None
            commit = fetch.commit_of(source)
            pinned = fetch.pinned().commit
            if commit not in {pinned, "unknown"}:
                raise BuildError(
                    f"{source} is llama.cpp {commit[:9]}, but the mirror in include/ is of {pinned[:9]}: "
                    "`make mirror` makes one for it"
                )
            # A wheel's packages were collected before the headers were here, so they go to its folder too.
            folders = {ROOT if self.inplace else Path(self.build_lib), ROOT}
            for header in (*(source / name for name in HEADERS), *sorted((ROOT / "include").glob("*.[hp]*"))):
                for folder in folders:
                    copy_if_newer(header, folder / "llama_cy" / "include" / header.name)
            libraries = build_llama_cpp(config, source, pinned, ROOT / "build")
            options = " ".join(f"{name}={value}" for name, value in sorted(config.cmake_options.items())
                               if name.startswith("GGML_"))  # fmt: skip
            for extension in self.extensions:
                name = extension.name.rpartition(".")[2]
                if COVERAGE:
                    extension.define_macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
                extension.include_dirs += [str(ROOT / path) for path in ("llama_cy/include", *config.include_dirs)]
                extension.extra_compile_args += [*config.compile_args, "-Wno-unused-function"]
                extension.extra_link_args += [
                    *config.link_args,
                    *export_args(platform, name, ROOT / "build" / "exports"),
                ]
                if name == "_llama":
                    extension.define_macros += [("LLAMA_CY_BUILD_OPTIONS", f'"{options}"')]
                    extension.depends += [str(path) for path in libraries]
                    group = [str(path) for path in libraries]
                    if platform.startswith("linux"):
                        group = ["-Wl,--start-group", *group, "-Wl,--end-group"]
                    directories = [f"-L{path}" for path in cuda_library_dirs(config)]
                    libs = [f"-l{name}" for name in config.libraries]
                    extension.extra_link_args += [*group, *directories, *libs, *config.framework_args]
            # Here and not at start-up: what only asks for metadata should not wait for a translation.
            for extension, translated in zip(self.extensions, translate(self.extensions), strict=True):
                extension.sources = translated.sources
            if shutil.which("ccache") and self.compiler.compiler_type == "unix":
                for step in ("compiler_so", "compiler_so_cxx"):
                    if command := getattr(self.compiler, step, None):
                        setattr(self.compiler, step, ["ccache", *(part for part in command if part != "ccache")])
            super().build_extensions()

    headers = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "llama_cy" / "kernels").glob("*.h"))]
    modules = [
        Extension(f"llama_cy.{name}", [f"llama_cy/{name}.pyx"], language="c++", depends=[*headers, TABLE])
        for name in MODULES
    ]
    setup(ext_modules=modules, cmdclass={"build_ext": BuildNative})


def translate(extensions):  # type: ignore[no-untyped-def]
    """Turn the ``.pyx`` files that changed into C++."""
    from Cython.Build import cythonize

    return cythonize(
        extensions,
        include_path=[str(ROOT / "include")],
        # The coverage plugin looks for the C++ beside the source.
        build_dir=None if COVERAGE else "build/cython",
        quiet=True,
        compiler_directives={
            "language_level": "3",
            "binding": True,
            "linetrace": COVERAGE,
        },
    )


if __name__ == "__main__":
    main()
