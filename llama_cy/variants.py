"""Choose the build of ``_llama`` that suits this CPU, where a wheel brings several; one of them is ever loaded.

A wheel's ordinary ``_llama`` runs on every CPU of its platform. Beside it, in ``_variants``, lie others that differ in
nothing but the instruction sets of ggml's CPU kernels.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Collection, Mapping
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "_variants"
VARIABLE = "LLAMA_CY_CPU_VARIANT"
BASELINE = "baseline"


class Variant(NamedTuple):
    """One build: what the CPU must have, and the options of ggml's CMake that make it so.

    Attributes
    ----------
    name : str
        Of its folder.
    needs : frozenset of str
        As in :func:`llama_cy.cpu.features`.
    options : mapping of str to str
        For CMake.
    """

    name: str
    needs: frozenset[str]
    options: Mapping[str, str]


_V3 = ("SSE42", "AVX", "AVX2", "F16C", "FMA", "BMI2")
_V4 = (*_V3, "AVX512")
_V4_VNNI = (*_V4, "AVX512_VBMI", "AVX512_VNNI", "AVX512_BF16")
_AMX = (*_V4_VNNI, "AMX_TILE", "AMX_INT8")
_NEEDS = {
    "SSE42": ("sse4.2",),
    "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512vnni",),
    "AVX512_BF16": ("avx512bf16",),
}
X86_FEATURES = _AMX


def _x86(name: str, features: Collection[str]) -> Variant:
    needs = frozenset(need for feature in features for need in _NEEDS.get(feature, (feature.lower(),)))
    return Variant(name, needs, x86_options(features))


def x86_options(features: Collection[str]) -> dict[str, str]:
    """Return the CMake options that turn these instruction sets on and the others off."""
    return {f"GGML_{feature}": "ON" if feature in features else "OFF" for feature in X86_FEATURES}


def _arm(name: str, architecture: str, *needs: str) -> Variant:
    return Variant(name, frozenset(needs), {"GGML_CPU_ARM_ARCH": architecture})


# The best first.
_X86 = (
    _x86("x86_64_amx", _AMX),
    _x86("x86_64_v4_vnni", _V4_VNNI),
    _x86("x86_64_v4", _V4),
    _x86("x86_64_v3", _V3),
    _x86("x86_64_v2", ("SSE42",)),
)
VARIANTS: Mapping[str, tuple[Variant, ...]] = {
    "linux-x86_64": _X86,
    "linux-aarch64": (
        _arm("armv8_2_sve_i8mm", "armv8.2-a+dotprod+fp16+sve+i8mm", "dotprod", "fp16", "sve", "i8mm"),
        _arm("armv8_2_dotprod", "armv8.2-a+dotprod+fp16", "dotprod", "fp16"),
    ),
    # Whether Windows saves the tiles of AMX, nobody has seen.
    "win32-x86_64": _X86[1:],
}
PORTABLE: Mapping[str, Mapping[str, str]] = {
    "linux-x86_64": {"GGML_NATIVE": "OFF", **x86_options(())},
    "win32-x86_64": {"GGML_NATIVE": "OFF", **x86_options(())},
    "linux-aarch64": {"GGML_NATIVE": "OFF", "GGML_CPU_ARM_ARCH": "armv8-a"},
    "darwin-arm64": {"GGML_NATIVE": "OFF"},
    # Each Mac that runs the oldest macOS we build for has these.
    "darwin-x86_64": {"GGML_NATIVE": "OFF", **x86_options(_V3)},
}


def choose(present: Collection[str], features: Collection[str], asked: str = "") -> str:
    """Return the name of the variant to load.

    Parameters
    ----------
    present : collection of str
        Names of the variants that are installed.
    features : collection of str
        What the CPU has.
    asked : str
        A name that is taken instead, if the CPU can run it.

    Returns
    -------
    str
        ``baseline`` for the ordinary module.
    """
    if asked and asked != BASELINE and asked not in present:
        raise ImportError(f"{VARIABLE}={asked}: there are {', '.join([*sorted(present), BASELINE])}")
    for variant in (variant for variants in VARIANTS.values() for variant in variants):
        if variant.name not in present or asked not in ("", variant.name):
            continue
        missing = sorted(variant.needs.difference(features))
        if not missing:
            return variant.name
        if asked:
            raise ImportError(f"{VARIABLE}={asked}: this CPU has no {', '.join(missing)}")
    return BASELINE


def load() -> str:
    """Put the variant that suits this CPU in the place of ``llama_cy._llama``; return its name."""
    modules = {path.name: path for path in FOLDER.iterdir()} if FOLDER.is_dir() else {}
    asked = os.environ.get(VARIABLE, "")
    if not modules and asked in ("", BASELINE):
        return BASELINE
    from .cpu import features

    name = choose(modules, features(), asked)
    found = [modules[name] / f"_llama{suffix}" for suffix in EXTENSION_SUFFIXES] if name != BASELINE else []
    for path in (path for path in found if path.is_file()):
        spec = importlib.util.spec_from_file_location("llama_cy._llama", path)
        if spec is not None and spec.loader is not None:
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[spec.name]
                raise
            return name
    return BASELINE
