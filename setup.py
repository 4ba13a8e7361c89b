"""Build llama.cpp statically, link it into ``llama_cy._llama`` alone, and compile the rest against its table."""

from __future__ import annotations

import copy
import importlib.util
import os
import platform as host
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent


def script(path: str):  # type: ignore[no-untyped-def]
    """Load a file of ours that no installed package holds."""
    spec = importlib.util.spec_from_file_location(f"llama_cy_{Path(path).stem}", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build = script("vendor/build.py")
variants = script("llama_cy/variants.py")
mac = script("vendor/mac.py")
windows = script("vendor/windows.py")
BuildError, check_tools = build.BuildError, build.check_tools

MACOS = "13.3"
FRAMEWORKS = ("Metal", "Foundation", "MetalPerformanceShaders", "MetalKit")
MODULES = (
    "_llama", "abort", "lifetime", "handle", "vocab_facts", "vocab", "loading", "model_facts", "model", "batch",
    "batch_arrays", "threadpool", "eval_callback", "abort_callback", "context_handle", "batch_ext", "context_params",
    "decoder", "prefix", "outputs", "attachments", "context", "rows", "memory", "state", "sampler_failure",
    "sampler_handle", "sampler", "sampler_grammar", "sampler_custom", "sampler_chain", "backend_sampling", "logprobs",
    "batch_sampling", "loop", "stream", "devices", "placement", "memory_plan", "chat", "gguf_header", "gguf_vocab",
    "adapter", "cvec", "cpu", "capsule", "library", "snapshot", "session", "training", "user_model", "quantize",
    "activations", "sharing",
)  # fmt: skip
COVERAGE = os.environ.get("LLAMA_CY_COVERAGE") == "1"
# Notice who frees what is not theirs, in the two modules that keep the books (docs/embed.md).
DEBUG = os.environ.get("LLAMA_CY_DEBUG") == "1"
TABLE = "include/llama_cy_api.h"
HEADERS = ("llama.h", "ggml.h", "ggml-cpu.h", "ggml-backend.h", "ggml-alloc.h", "ggml-opt.h", "gguf.h")


@dataclass(frozen=True)
class NativeConfig:
    """What one platform needs to build llama.cpp and to link ``_llama``."""

    cmake_options: Mapping[str, str]
    sources: tuple[str, ...] = tuple(f"llama_cy/{name}.pyx" for name in MODULES)
    include_dirs: tuple[str, ...] = ("include", "llama_cy")
    compile_args: tuple[str, ...] = ()
    link_args: tuple[str, ...] = ()
    frameworks: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[Any, ...] = ()

    @property
    def framework_args(self) -> list[str]:
        return [arg for name in self.frameworks for arg in ("-framework", name)]


def native_config(platform: str, environ: Mapping[str, str]) -> NativeConfig:
    """Map a platform and an environment to build settings.

    Parameters
    ----------
    platform : str
        ``linux-x86_64``, ``linux-aarch64``, ``darwin-arm64``, ``darwin-x86_64``, ``win32-x86_64``.
    environ : mapping of str to str
        ``CMAKE_ARGS`` is passed through and wins over our own options; ``MACOSX_DEPLOYMENT_TARGET`` is respected.
        ``LLAMA_CY_PORTABLE=1`` is for wheels: code for any CPU of the platform, and variants for better ones.
        ``LLAMA_CY_COMPILER`` and ``CXX`` say whose flags Windows gets.

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
    compile_args: tuple[str, ...] = ("-std=c++17", "-fvisibility=hidden", "-Wno-unused-function")
    link_args: tuple[str, ...] = ()
    given = cmake_arguments(environ)
    debug = given.get("CMAKE_BUILD_TYPE", "Release") == "Debug"
    compile_args += ("-O0", "-g") if debug else ("-O3", "-DNDEBUG")
    if system == "darwin":
        target = environ.get("MACOSX_DEPLOYMENT_TARGET", MACOS)
        variables["MACOSX_DEPLOYMENT_TARGET"] = target
        metal = "ON" if machine == "arm64" else "OFF"
        # ggml calls the BLAS that Accelerate has since macOS 13.3; before that it would be a call of a null pointer.
        blas = "ON" if version_tuple(target) >= version_tuple(MACOS) else "OFF"
        options |= {
            "CMAKE_OSX_ARCHITECTURES": machine,
            "CMAKE_OSX_DEPLOYMENT_TARGET": target,
            "GGML_METAL": metal,
            "GGML_METAL_EMBED_LIBRARY": metal,
            "GGML_ACCELERATE": "ON",
            "GGML_BLAS": blas,
            "GGML_BLAS_VENDOR": "Apple",
        }
        frameworks = (*FRAMEWORKS, "Accelerate")
        here = ("-arch", machine, f"-mmacosx-version-min={target}")
        compile_args += here
        link_args = (*here, "-Wl,-dead_strip", *([] if debug else ["-Wl,-x", "-Wl,-S"]))
    elif system == "linux":
        libraries = ("pthread", "dl", "m")
        link_args = ("-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", *([] if debug else ["-Wl,-s"]))
    elif platform == "win32-x86_64":
        # ggml looks the CPU's name up in the registry.
        libraries = ("advapi32",)
        if asked(windows.kind, environ) == "msvc":
            compile_args, link_args = windows.MSVC_DEBUG if debug else windows.MSVC
            options["CMAKE_MSVC_RUNTIME_LIBRARY"] = "MultiThreadedDLL"
        else:
            # CPython's headers ask Microsoft's compiler only whether pointers have 64 bits.
            compile_args += ("-DMS_WIN64",)
            link_args = ("-static-libgcc", "-static-libstdc++", "-Wl,--gc-sections", *([] if debug else ["-Wl,-s"]))
    else:
        raise BuildError(f"no build settings for {platform!r}; Linux, macOS and Windows on x86-64 are supported")
    portable = environ.get("LLAMA_CY_PORTABLE") == "1"
    if portable:
        options |= variants.PORTABLE.get(platform, {})
    options |= given
    if is_on(options, "GGML_CUDA"):
        # Where ggml finds NCCL it calls it, and a static library of ggml says nothing of what else to link.
        options.setdefault("GGML_CUDA_NCCL", "OFF")
        libraries += ("cudart_static", "culibos", "cublas", "cublasLt", "cuda", "rt")
    if is_on(options, "GGML_VULKAN"):
        libraries += ("vulkan",)
    return NativeConfig(
        cmake_options=options, compile_args=compile_args, link_args=link_args, frameworks=frameworks,
        libraries=libraries, environ=variables, variants=variants.VARIANTS.get(platform, ()) if portable else (),
    )  # fmt: skip


def asked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what refuses a setting of the environment with a ValueError, and end the build with its words."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise BuildError(str(error)) from None


def cmake_arguments(environ: Mapping[str, str]) -> dict[str, str]:
    """Read ``CMAKE_ARGS`` as CMake would."""
    found = {}
    for option in shlex.split(environ.get("CMAKE_ARGS", "")):
        name, _, value = option.removeprefix("-D").partition("=")
        found[name.partition(":")[0]] = value
    return found


def is_on(options: Mapping[str, str], name: str) -> bool:
    """Tell whether CMake would take an option as true."""
    return options.get(name, "OFF").upper() in {"ON", "1", "TRUE", "YES", "Y"}


def version_tuple(text: str) -> tuple[int, ...]:
    """Make versions comparable."""
    return tuple(int(part) for part in text.split("."))


def platform_name() -> str:
    """Name the platform to build for as :func:`native_config` expects it."""
    machine = {"amd64": "x86_64"}.get(host.machine().lower(), host.machine().lower())
    if sys.platform == "darwin":
        machine = asked(
            mac.machine, os.environ.get("ARCHFLAGS", ""), machine, os.uname().version, sysconfig.get_platform()
        )
    return f"{sys.platform}-{machine}"


def main() -> None:
    """Run setuptools with the extensions of this platform."""
    from setuptools import Extension, setup
    from setuptools.command.build_ext import build_ext
    from setuptools.command.sdist import sdist

    platform = platform_name()
    config = native_config(platform, os.environ)
    commands = None
    if platform.startswith("win32"):
        commands = asked(windows.compilers, os.environ, windows.find_zig())
        if commands is not None:
            config = replace(config, cmake_options={**commands.cmake_options, **config.cmake_options})
    if platform.startswith("darwin"):
        # The wheel's tag: a universal2 Python would promise an architecture that is not in it.
        machine, target = platform.partition("-")[2], config.environ["MACOSX_DEPLOYMENT_TARGET"]
        os.environ.setdefault("_PYTHON_HOST_PLATFORM", f"macosx-{target}-{machine}")

    class BuildNative(build_ext):
        """llama.cpp first, then the modules."""

        def finalize_options(self) -> None:
            super().finalize_options()
            # Kept between builds, also where setuptools would take a temporary folder, so that only changes compile.
            self.build_temp = str(ROOT / "build" / f"temp-{platform}-{sys.implementation.cache_tag}{'-debug' * DEBUG}")
            self.parallel = self.parallel or os.cpu_count()

        def build_extensions(self) -> None:
            if commands is not None:
                self.compiler = windows.replace(self.compiler, commands)
            check_tools(commands.cxx[:1] if commands is not None else None)
            if reason := script("vendor/vulkan.py").missing(config.cmake_options, os.environ):
                raise BuildError(reason)
            os.environ.update(config.environ)
            self.change_of_settings()
            for extension in self.extensions:
                self.set_up(extension)
            engine = next(extension for extension in self.extensions if extension.name == "llama_cy._llama")
            if os.environ.get("LLAMA_CY_LINK") == "system":
                self.link_installed(engine)
                self.translate()
            else:
                self.link_own(engine)
            for step in ("compiler", "compiler_so", "compiler_cxx", "compiler_so_cxx", "linker_so", "linker_so_cxx"):
                if command := getattr(self.compiler, step, None):
                    if platform.startswith("darwin"):
                        command = mac.without_architectures(command)
                    if shutil.which("ccache") and step.startswith("compiler_so"):
                        command = ["ccache", *(part for part in command if part != "ccache")]
                    setattr(self.compiler, step, command)
            super().build_extensions()

        def change_of_settings(self) -> None:
            """Build all again when the settings are not those of the last build into the same place."""
            stamp = ROOT / "build" / ("settings-inplace" if self.inplace else "settings-wheel")
            build.write_if_new(stamp, repr((config, os.environ.get("LLAMA_CY_LINK"), COVERAGE, DEBUG)))
            for extension in self.extensions:
                extension.depends.append(str(stamp))
            # A wheel takes all that lies there.
            left = (ROOT if self.inplace else Path(self.build_lib)) / "llama_cy" / "_variants"
            if left.exists() and not config.variants:
                shutil.rmtree(left)

        def translate(self) -> None:
            """Turn Cython into C++: not at start-up, as what only asks for metadata should not wait for it."""
            for extension, translated in zip(self.extensions, translate(self.extensions), strict=True):
                extension.sources = translated.sources

        def take_headers(self, folders: list[Path]) -> None:
            """Lay llama.cpp's headers and the mirror where a downstream looks for them."""
            found = [next(folder / name for folder in folders if (folder / name).is_file()) for name in HEADERS]
            # A wheel's packages were collected before the headers were here, so they go to its folder too.
            for folder in {ROOT if self.inplace else Path(self.build_lib), ROOT}:
                for header in (*found, *sorted((ROOT / "include").glob("*.[hp]*"))):
                    build.write_if_new(folder / "llama_cy" / "include" / header.name, header.read_bytes())
                if licence := next((place / "LICENSE" for place in folders if (place / "LICENSE").is_file()), None):
                    build.write_if_new(folder / "llama_cy" / "include" / "llama.cpp.LICENSE", licence.read_bytes())

        def link_own(self, engine: Extension) -> None:
            """Build the pinned llama.cpp and link it into the engine room, and into that of each variant."""
            fetch = script("vendor/fetch.py")
            try:
                tree = fetch.source_dir(os.environ)
            except fetch.FetchError as error:
                raise BuildError(str(error)) from None
            commit = fetch.commit_of(tree)
            pinned = fetch.pinned().commit
            if commit not in {pinned, "unknown"}:
                raise BuildError(
                    f"{tree} is llama.cpp {commit[:9]}, but the mirror in include/ is of {pinned[:9]}: "
                    "`make mirror` makes one for it"
                )
            source = build.Source(tree, pinned, ROOT / "build")
            self.take_headers([tree / "include", tree / "ggml" / "include", tree])
            self.translate()
            twins = []
            for variant in config.variants:
                twin = copy.deepcopy(engine)
                twin.name = twin._full_name = f"llama_cy._variants.{variant.name}._llama"
                # A source of its own, because objects are named after sources.
                twin.sources = [str(ROOT / "build" / "variants" / variant.name / "_llama.cpp")]
                build.write_if_new(Path(twin.sources[0]), f'#include "{ROOT / engine.sources[0]}"\n')
                twins.append(twin)
            libraries = build.llama_cpp(source, config.cmake_options, config.environ)
            self.link(engine, libraries, config.cmake_options)
            for twin, variant in zip(twins, config.variants, strict=True):
                options = {**config.cmake_options, **variant.options}
                built = build.llama_cpp(source, options, config.environ, "ggml-cpu")
                kernels = next(path for path in built if build.stem(path) == "ggml-cpu")
                self.link(twin, [kernels if path.stem == kernels.stem else path for path in libraries], options)
            self.extensions += twins

        def link_installed(self, engine: Extension) -> None:
            """Link a llama.cpp that somebody installed, if its headers are what the mirror says."""
            installed = script("vendor/installed.py")
            try:
                place = installed.find(os.environ)
                compiler = shlex.split(os.environ.get("CXX", "") or sysconfig.get_config_var("CXX") or "c++")
                installed.check(place, ROOT / TABLE, compiler, ROOT / "build")
            except installed.InstalledError as error:
                raise BuildError(str(error)) from None
            self.take_headers([place.include])
            engine.define_macros += [("LLAMA_CY_BUILD_OPTIONS", '"LLAMA_CY_LINK=system"'), ("LLAMA_CY_INSTALLED", "1")]
            engine.extra_link_args += [*place.link_args, *config.framework_args]

        def set_up(self, extension: Extension) -> None:
            """Give a module the flags that all have."""
            name = extension.name.rpartition(".")[2]
            if COVERAGE:
                extension.define_macros += [("CYTHON_TRACE", "1"), ("CYTHON_TRACE_NOGIL", "1")]
            if DEBUG and name in ("_llama", "lifetime"):
                extension.define_macros += [("LLAMA_CY_DEBUG", "1")]
            extension.include_dirs += [str(ROOT / path) for path in ("llama_cy/include", *config.include_dirs)]
            extension.extra_compile_args += config.compile_args
            exports = build.export_args(platform, name, ROOT / "build" / "exports")
            extension.extra_link_args += [*config.link_args, *exports]

        def link(self, extension: Extension, libraries: list[Path], options: Mapping[str, str]) -> None:
            """Link the engine room with llama.cpp, and let it say how that was built."""
            text = " ".join(f"{name}={value}" for name, value in sorted(options.items()) if name.startswith("GGML_"))
            text += " LLAMA_CY_DEBUG=1" * DEBUG
            extension.define_macros += [("LLAMA_CY_BUILD_OPTIONS", f'"{text}"')]
            # After the translation, which would copy what it depends on.
            extension.depends += [str(path) for path in libraries]
            group = [str(path) for path in libraries]
            if platform.startswith("linux"):
                group = ["-Wl,--start-group", *group, "-Wl,--end-group"]
                # What llama.cpp allocates goes by way of kernels/out_of_memory.h.
                wrapped = ("fread", "malloc", "calloc", "realloc", "posix_memalign", "ggml_init", "ggml_hash_set_free",
                           "ggml_gallocr_reserve_n", "ggml_gallocr_reserve_n_size")  # fmt: skip
                extension.define_macros += [("LLAMA_CY_WRAP_MALLOC", "1")]
                extension.extra_link_args += [f"-Wl,--wrap={name}" for name in wrapped]
            directories = [f"-L{path}" for path in build.cuda_library_dirs(config.libraries)]
            libs = [f"-l{name}" for name in config.libraries]
            if platform.startswith("win32"):
                # Microsoft's linker has another way to name them.
                extension.libraries, libs = [*config.libraries], []
            extension.extra_link_args += [*group, *directories, *libs, *config.framework_args]

    headers = [str(path.relative_to(ROOT)) for path in sorted((ROOT / "llama_cy" / "kernels").glob("*.h"))]
    modules = [
        Extension(f"llama_cy.{name}", [f"llama_cy/{name}.pyx"], language="c++", depends=[*headers, TABLE])
        for name in MODULES
    ]

    class SourceWithLlamaCpp(sdist):
        """A source distribution that builds without a network: the pinned llama.cpp is in it."""

        def run(self) -> None:
            script("vendor/fetch.py").fetch()
            super().run()

    setup(ext_modules=modules, cmdclass={"build_ext": BuildNative, "sdist": SourceWithLlamaCpp})


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
