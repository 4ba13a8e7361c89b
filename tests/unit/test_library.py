"""What the library is called, has names for and can do."""

from __future__ import annotations

import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import child

import llama_cy
from llama_cy import library

ROOT = Path(__file__).resolve().parents[2]
GPUS = (llama_cy.DeviceType.GPU, llama_cy.DeviceType.IGPU)


def untyped(value: Any) -> Any:
    return value


def test_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", llama_cy.version().llama_cpp_version)


def test_ftype_names() -> None:
    assert llama_cy.ftype_name("q4_k_m") == "Q4_K - Medium"
    assert llama_cy.ftype_name(0) == "all F32"
    names = {llama_cy.ftype_name(ftype) for ftype in llama_cy.Ftype if ftype is not llama_cy.Ftype.GUESSED}
    assert len(names) == len(llama_cy.Ftype) - 1


def test_flash_attn_type_names() -> None:
    for member in llama_cy.FlashAttnType:
        assert llama_cy.flash_attn_type_name(member) == member.name.lower()


@given(st.sampled_from(llama_cy.LoadMode))
def test_load_modes_there_and_back(mode: llama_cy.LoadMode) -> None:
    name = llama_cy.load_mode_name(mode)
    assert llama_cy.load_mode_from_str(name) is mode
    assert name in ("auto", "none", "mmap", "mlock", "mmap+mlock", "dio")


WRONG: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: llama_cy.load_mode_from_str("disk"), ValueError, "expected one of auto, none, mmap"),
    (lambda: llama_cy.load_mode_from_str("MMAP"), ValueError, "'MMAP'"),
    (lambda: llama_cy.load_mode_from_str("mmap\0"), ValueError, "expected one of"),
    (lambda: llama_cy.load_mode_from_str(untyped(b"mmap")), TypeError, "must be str, not bytes"),
    (lambda: llama_cy.load_mode_name(99), ValueError, "load_mode is 99"),
    (lambda: llama_cy.load_mode_name(untyped(None)), TypeError, "LoadMode"),
    (lambda: llama_cy.ftype_name(4711), ValueError, "ftype is 4711"),
    (lambda: llama_cy.ftype_name(untyped(1.5)), TypeError, "Ftype"),
    (lambda: llama_cy.flash_attn_type_name(7), ValueError, "flash_attn_type is 7"),
    (lambda: llama_cy.numa_init("everywhere"), ValueError, "distribute, isolate, numactl"),
    (lambda: llama_cy.numa_init(-1), ValueError, "numa is -1"),
    (lambda: llama_cy.split_path("a", 3, 3), ValueError, "split_no is 3"),
    (lambda: llama_cy.split_path("a", -1, 3), ValueError, "split_no is -1"),
    (lambda: llama_cy.split_path("a", 0, 0), ValueError, "split_count is 0"),
    (lambda: llama_cy.split_path("a", 0, 65_536), ValueError, "split_count is 65536"),
    (lambda: llama_cy.split_path("a\0b", 0, 1), ValueError, "NUL"),
    (lambda: llama_cy.split_path(untyped(5), 0, 1), TypeError, "int"),
    (lambda: llama_cy.split_prefix("a\0b", 0, 1), ValueError, "NUL"),
    (lambda: llama_cy.split_prefix("a", untyped(0.5), 1), TypeError, "split_no must be an integer"),
]


@pytest.mark.parametrize(("call", "error", "text"), WRONG)
def test_refuses(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        call()


@st.composite
def splits(draw: st.DrawFn) -> tuple[str, int, int]:
    count = draw(st.integers(1, library.MAX_SPLITS))
    prefix = draw(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300))
    return prefix, draw(st.integers(0, count - 1)), count


@given(splits())
def test_split_names_there_and_back(case: tuple[str, int, int]) -> None:
    prefix, number, count = case
    path = llama_cy.split_path(prefix, number, count)
    assert path == f"{prefix}-{number + 1:05}-of-{count:05}.gguf"
    assert llama_cy.split_prefix(path, number, count) == prefix
    assert llama_cy.split_prefix(path + "x", number, count) is None
    other = count - 1 if count > number + 1 else count + 1
    assert other > library.MAX_SPLITS or llama_cy.split_prefix(path, number, other) is None


def test_limits(tiny_path: Path, tiny: llama_cy.Model) -> None:
    most = llama_cy.max_parallel_sequences()
    with tiny.context(n_ctx=most, n_batch=most, n_seq_max=most) as context:
        assert context.n_seq_max == most
    with pytest.raises(ValueError, match="n_seq_max"):
        tiny.context(n_seq_max=most + 1)
    # As llama.cpp's own sources have them.
    assert (llama_cy.max_devices(), llama_cy.max_tensor_buft_overrides()) == (16, 4096)
    with pytest.raises(ValueError, match="17 shares; the limit is 16"):
        llama_cy.Model(tiny_path, tensor_split=[1.0] * 17)


def test_abilities(tiny_path: Path) -> None:
    assert llama_cy.supports_gpu_offload() is any(device.type in GPUS for device in llama_cy.devices())
    assert llama_cy.supports_rpc() is any(device.backend == "RPC" for device in llama_cy.devices())
    assert llama_cy.supports_mlock() is hasattr(resource, "RLIMIT_MEMLOCK")
    with llama_cy.Model(tiny_path, n_gpu_layers=0, load_mode="mmap", use_extra_bufts=False) as model:
        kinds = {kind for placed in model.placement for kind in placed.buffer_types}
    assert llama_cy.supports_mmap() is ("CPU_Mapped" in kinds)


def test_numa_of_a_process() -> None:
    source = """
    import llama_cy
    llama_cy.numa_init("disabled")
    llama_cy.numa_init("distribute")
    llama_cy.numa_init("disabled")
    try:
        llama_cy.numa_init(llama_cy.NumaStrategy.ISOLATE)
    except llama_cy.BackendError as error:
        print(error)
    with llama_cy.demo_model() as model, model.context(n_ctx=64, n_threads=2) as context:
        print(context.complete("Once", max_tokens=3).text)
    """
    first, *rest = child.check_output(source).splitlines()
    assert first == "numa_init was called before in this process, with 'distribute'"
    assert rest


def test_numa_disabled_is_what_there_is() -> None:
    for _ in range(2):
        llama_cy.numa_init(llama_cy.NumaStrategy.DISABLED)
