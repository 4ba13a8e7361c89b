"""The build settings of each platform, as data."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
METAL = ("Metal", "Foundation", "MetalPerformanceShaders")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """Load setup.py, which runs nothing when imported."""
    spec = importlib.util.spec_from_file_location("llama_cy_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_linux_is_static_hidden_and_without_openmp(build: ModuleType) -> None:
    config = build.native_config("linux-x86_64", {})
    assert config.cmake_options["BUILD_SHARED_LIBS"] == "OFF"
    assert config.cmake_options["CMAKE_POSITION_INDEPENDENT_CODE"] == "ON"
    assert config.cmake_options["CMAKE_CXX_VISIBILITY_PRESET"] == "hidden"
    assert config.cmake_options["GGML_OPENMP"] == "OFF"
    assert config.frameworks == ()
    assert "-Wl,--exclude-libs,ALL" in config.link_args
    assert "-fvisibility=hidden" in config.compile_args


def test_apple_silicon_has_metal_embedded(build: ModuleType) -> None:
    config = build.native_config("darwin-arm64", {})
    assert config.cmake_options["GGML_METAL"] == "ON"
    assert config.cmake_options["GGML_METAL_EMBED_LIBRARY"] == "ON"
    assert config.cmake_options["CMAKE_OSX_ARCHITECTURES"] == "arm64"
    for framework in METAL:
        assert framework in config.frameworks
        position = config.framework_args.index(framework)
        assert config.framework_args[position - 1] == "-framework"
    # The static Metal backend asks for MetalKit too.
    assert "MetalKit" in config.frameworks
    assert config.environ["MACOSX_DEPLOYMENT_TARGET"] == config.cmake_options["CMAKE_OSX_DEPLOYMENT_TARGET"]


def test_intel_mac_computes_on_the_cpu_and_links_the_frameworks(build: ModuleType) -> None:
    config = build.native_config("darwin-x86_64", {})
    assert config.cmake_options["GGML_METAL"] == "OFF"
    assert config.cmake_options["CMAKE_OSX_ARCHITECTURES"] == "x86_64"
    assert set(METAL) <= set(config.frameworks)


def test_windows_is_built_with_zig_unless_asked(build: ModuleType) -> None:
    config = build.native_config("win32-x86_64", {})
    assert config.cmake_options["BUILD_SHARED_LIBS"] == "OFF"
    assert config.cmake_options["GGML_OPENMP"] == "OFF"
    assert config.libraries == ("advapi32",)
    assert {"-std=c++17", "-fvisibility=hidden", "-O3", "-DNDEBUG", "-DMS_WIN64"} <= set(config.compile_args)
    # No library of the compiler's has to be on the machine that runs it, and none of Linux's linker is asked.
    assert {"-static-libgcc", "-static-libstdc++"} <= set(config.link_args)
    assert not any("exclude-libs" in argument for argument in config.link_args)
    assert config.frameworks == ()
    named = {"CXX": "x86_64-w64-mingw32-g++"}
    assert build.native_config("win32-x86_64", named) == config
    assert "-Wl,-s" in config.link_args
    debug = build.native_config("win32-x86_64", {"CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Debug"})
    assert "-Wl,-s" not in debug.link_args


def test_microsofts_compiler_gets_its_own_flags(build: ModuleType) -> None:
    config = build.native_config("win32-x86_64", {"LLAMA_CY_COMPILER": "msvc", "CXX": "cl"})
    assert all(argument.startswith("/") for argument in (*config.compile_args, *config.link_args))
    # Its own words for the standard, for optimizing, and for exceptions that go through C.
    assert {"/std:c++17", "/O2", "/DNDEBUG", "/EHs", "/utf-8"} <= set(config.compile_args)
    # The C library that Python has.
    assert config.cmake_options["CMAKE_MSVC_RUNTIME_LIBRARY"] == "MultiThreadedDLL"
    debug = {"LLAMA_CY_COMPILER": "msvc", "CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Debug"}
    assert {"/Od", "/Z7"} <= set(build.native_config("win32-x86_64", debug).compile_args)
    assert "/DNDEBUG" not in build.native_config("win32-x86_64", debug).compile_args


def test_a_compiler_that_windows_has_not_is_refused(build: ModuleType) -> None:
    with pytest.raises(SystemExit, match="LLAMA_CY_COMPILER=borland; expected one of zig, gnu, msvc"):
        build.native_config("win32-x86_64", {"LLAMA_CY_COMPILER": "borland"})
    with pytest.raises(SystemExit, match="pip install ziglang"):
        build.asked(build.windows.compilers, {}, "")


def test_the_compilers_for_windows_are_commands_of_both_setuptools_and_cmake(build: ModuleType) -> None:
    found = build.windows.compilers({}, "C:\\py\\ziglang\\zig.exe")
    assert found.cxx[:4] == ["C:\\py\\ziglang\\zig.exe", "c++", "-target", "x86_64-windows-gnu"]
    assert found.cmake_options["CMAKE_CXX_COMPILER"].startswith("C:/py/ziglang/zig.exe;c++;-target;")
    assert found.cmake_options["CMAKE_CXX_ARCHIVE_CREATE"] == "<CMAKE_AR> ar qcs <TARGET> <OBJECTS>"
    named = build.windows.compilers({"CC": "gcc", "CXX": "ccache g++ -m64"}, "")
    assert named.cxx == ["ccache", "g++", "-m64"]
    assert named.cmake_options["CMAKE_AR"] == "ar"
    assert build.windows.compilers({"LLAMA_CY_COMPILER": "msvc"}, "") is None


@pytest.mark.parametrize("platform", ["linux-x86_64", "darwin-arm64", "darwin-x86_64", "win32-x86_64"])
def test_every_source_exists(build: ModuleType, platform: str) -> None:
    config = build.native_config(platform, {})
    assert len(config.sources) == len(set(config.sources))
    assert sorted(config.sources) == sorted(f"llama_cy/{path.name}" for path in (ROOT / "llama_cy").glob("*.pyx"))
    assert all((ROOT / folder).is_dir() for folder in config.include_dirs)


def test_cmake_args_pass_through_and_win(build: ModuleType) -> None:
    arguments = '-DGGML_CUDA=on -DGGML_OPENMP:BOOL=ON "-DCMAKE_CUDA_ARCHITECTURES=80;90a" -DGGML_NATIVE=OFF'
    config = build.native_config("linux-x86_64", {"CMAKE_ARGS": arguments})
    assert config.cmake_options["GGML_CUDA"] == "on"
    assert config.cmake_options["GGML_OPENMP"] == "ON"
    assert config.cmake_options["CMAKE_CUDA_ARCHITECTURES"] == "80;90a"
    assert config.cmake_options["GGML_NATIVE"] == "OFF"
    assert {"cublas", "cudart_static"} <= set(config.libraries)
    assert "vulkan" in build.native_config("linux-x86_64", {"CMAKE_ARGS": "-DGGML_VULKAN=1"}).libraries


@pytest.mark.parametrize(
    ("arguments", "nccl"),
    [
        ("-DGGML_CUDA=ON", "OFF"),
        ("-DGGML_CUDA=1 -DGGML_CUDA_NCCL=ON", "ON"),
        ("-DGGML_CUDA=OFF", None),
        ("", None),
    ],
)
def test_cuda_goes_without_nccl_unless_asked(build: ModuleType, arguments: str, nccl: str | None) -> None:
    config = build.native_config("linux-x86_64", {"CMAKE_ARGS": arguments})
    assert config.cmake_options.get("GGML_CUDA_NCCL") == nccl


def test_nothing_but_its_arguments_decides(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.native_config("linux-x86_64", {})
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    assert build.native_config("linux-x86_64", {}) == before


def test_the_deployment_target_of_the_caller_is_respected(build: ModuleType) -> None:
    config = build.native_config("darwin-arm64", {"MACOSX_DEPLOYMENT_TARGET": "13.3"})
    assert config.cmake_options["CMAKE_OSX_DEPLOYMENT_TARGET"] == "13.3"
    assert "-mmacosx-version-min=13.3" in config.link_args


def test_an_unknown_platform_is_refused_in_one_line(build: ModuleType) -> None:
    with pytest.raises(SystemExit, match="plan9-x86_64") as refused:
        build.native_config("plan9-x86_64", {})
    assert "\n" not in str(refused.value)


def test_a_missing_compiler_is_one_line(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(SystemExit, match="no C\\+\\+17 compiler found") as refused:
        build.check_tools()
    assert "\n" not in str(refused.value)


def test_a_missing_cmake_is_named(build: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None if name == "cmake" else f"/usr/bin/{name}")
    with pytest.raises(SystemExit, match="cmake not found"):
        build.check_tools()


def test_a_debug_build_keeps_symbols_and_asserts(build: ModuleType) -> None:
    config = build.native_config("darwin-arm64", {"CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Debug"})
    assert {"-O0", "-g"} <= set(config.compile_args)
    assert not {"-O3", "-DNDEBUG"} & set(config.compile_args)
    assert "-Wl,-x" not in config.link_args
    assert "-Wl,-s" in build.native_config("linux-x86_64", {}).link_args
    assert "-Wl,-s" not in build.native_config("linux-x86_64", {"CMAKE_ARGS": "-DCMAKE_BUILD_TYPE=Debug"}).link_args


def test_accelerates_blas_is_left_out_where_macos_lacks_it(build: ModuleType) -> None:
    assert build.native_config("darwin-arm64", {}).cmake_options["GGML_BLAS"] == "ON"
    for target, blas in (("13.3", "ON"), ("14.0", "ON"), ("13.0", "OFF"), ("11.0", "OFF"), ("10.15", "OFF")):
        config = build.native_config("darwin-x86_64", {"MACOSX_DEPLOYMENT_TARGET": target})
        assert config.cmake_options["GGML_BLAS"] == blas, target


INTEL = "Darwin Kernel Version 22.6.0: root:xnu-8796/RELEASE_X86_64"
APPLE = "Darwin Kernel Version 22.6.0: root:xnu-8796/RELEASE_ARM64_T8103"


@pytest.mark.parametrize(
    ("asked", "machine"),
    [
        (("", "arm64", APPLE, "macosx-11.0-arm64"), "arm64"),
        (("", "arm64", APPLE, "macosx-10.9-universal2"), "arm64"),
        (("", "x86_64", INTEL, "macosx-10.9-universal2"), "x86_64"),
        (("-arch x86_64", "arm64", APPLE, "macosx-10.9-universal2"), "x86_64"),
        (("-arch arm64", "x86_64", INTEL, "macosx-10.9-universal2"), "arm64"),
        (("-arch arm64 -arch arm64", "arm64", APPLE, "macosx-11.0-arm64"), "arm64"),
    ],
)
def test_a_mac_builds_for_one_architecture(build: ModuleType, asked: tuple[str, ...], machine: str) -> None:
    assert build.mac.machine(*asked) == machine


@pytest.mark.parametrize(
    ("archflags", "running", "python", "advice"),
    [
        ("", "x86_64", "macosx-10.9-universal2", "arch -arm64 python3"),
        ("", "x86_64", "macosx-10.9-x86_64", "use an arm64 Python"),
        ("-arch arm64 -arch x86_64", "arm64", "macosx-10.9-universal2", "one wheel for each"),
    ],
)
def test_what_cannot_have_metal_is_refused_in_one_line(
    build: ModuleType, archflags: str, running: str, python: str, advice: str
) -> None:
    with pytest.raises(SystemExit, match=advice) as refused:
        build.asked(build.mac.machine, archflags, running, APPLE, python)
    assert "\n" not in str(refused.value)


def test_a_universal_pythons_architectures_are_dropped(build: ModuleType) -> None:
    command = ["clang++", "-bundle", "-arch", "arm64", "-arch", "x86_64", "-g"]
    assert build.mac.without_architectures(command) == ["clang++", "-bundle", "-g"]
    assert build.mac.without_architectures(["clang", "-O2"]) == ["clang", "-O2"]


@pytest.mark.parametrize("platform", ["linux-x86_64", "linux-aarch64", "darwin-arm64", "darwin-x86_64"])
def test_a_portable_build_never_asks_what_this_machine_can_do(build: ModuleType, platform: str) -> None:
    assert "GGML_NATIVE" not in build.native_config(platform, {}).cmake_options
    config = build.native_config(platform, {"LLAMA_CY_PORTABLE": "1"})
    assert config.cmake_options["GGML_NATIVE"] == "OFF"
    assert bool(config.variants) == platform.startswith("linux")
    assert build.native_config(platform, {}).variants == ()
    for variant in config.variants:
        # A variant says each option that the ordinary build says, so that nothing is left to a default.
        assert set(variant.options) == set(config.cmake_options) & set(variant.options)
        assert variant.options != {name: config.cmake_options[name] for name in variant.options}


def test_the_ordinary_x86_build_of_a_wheel_runs_anywhere(build: ModuleType) -> None:
    options = build.native_config("linux-x86_64", {"LLAMA_CY_PORTABLE": "1"}).cmake_options
    switched = {name for name, value in options.items() if name.startswith(("GGML_SSE", "GGML_AVX")) and value == "ON"}
    assert switched == set()
    assert options["GGML_AVX2"] == options["GGML_SSE42"] == "OFF"
