"""Where a model comes from: paths, several files, open files, descriptors, memory; and where its tensors go."""

from __future__ import annotations

import gzip
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz.operations import apply
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.encoder_models import write_t5
from support.llama_models import write_llama
from support.precision import agree
from support.splits import write_splits

import llama_cy

TOKENS = [1, 5, 7, 11, 2]


def row_of(model: llama_cy.Model) -> NDArray[np.float32]:
    with model.context(n_ctx=64, n_threads=1) as context:
        context.decode(TOKENS)
        return context.logits()


def same(model: llama_cy.Model, tiny: llama_cy.Model) -> bool:
    with model:
        return agree(row_of(model), row_of(tiny))


class TestSplits:
    @pytest.mark.parametrize("n_split", [1, 2, 3])
    def test_by_their_paths(self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path, n_split: int) -> None:
        paths = write_splits(tiny_path, tmp_path, n_split)
        # Under any name, if all are named.
        renamed = [path.rename(tmp_path / f"{number}.bin") for number, path in enumerate(paths)]
        model = llama_cy.Model(renamed)
        assert model.path == str(renamed[0])
        assert same(model, tiny)

    def test_by_the_first(self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path) -> None:
        first = write_splits(tiny_path, tmp_path, 2)[0]
        assert llama_cy.split_prefix(first, 0, 2) == str(tmp_path / "model")
        assert same(llama_cy.Model(first), tiny)

    def test_not_trusted(self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path) -> None:
        paths = write_splits(tiny_path, tmp_path, 2)
        assert same(llama_cy.Model(paths, trusted=False), tiny)

    @pytest.mark.parametrize(
        ("choose", "text"),
        [
            (lambda paths: paths[:2], "split.count is 3, and 2 files are given"),
            (lambda paths: [*paths, paths[0]], "split.count is 3, and 4 files are given"),
            (lambda paths: [paths[0], paths[2], paths[1]], "split.no is 2; 1 is expected"),
            (lambda paths: [paths[0], paths[1], paths[1]], "split.no is 1; 2 is expected"),
            (lambda paths: [paths[0], paths[1], "no.gguf"], "cannot open the model 'no.gguf'"),
        ],
    )
    def test_refuses(self, tiny_path: Path, tmp_path: Path, choose: Callable[..., Any], text: str) -> None:
        with pytest.raises(llama_cy.ModelLoadError, match=re.escape(text)):
            llama_cy.Model(choose(write_splits(tiny_path, tmp_path, 3)))

    @pytest.mark.parametrize("lost", ["enc", "dec"])
    def test_refuses_a_t5_without_its_bias(self, tmp_path: Path, lost: str) -> None:
        whole = write_t5(tmp_path / "whole.gguf")
        paths = write_splits(whole, tmp_path, 3)
        with llama_cy.Model(paths[0]) as model:
            assert model.decoder_start_token is not None
        whole.write_bytes(apply(whole.read_bytes(), [("drop-tensor", f"{lost}.blk.0.attn_rel_b.weight"), ("settle",)]))
        paths = write_splits(whole, tmp_path, 3)
        with whole.open("rb") as file:
            for source in (whole, file, paths[0], paths):
                with pytest.raises(llama_cy.ModelLoadError, match=rf"{lost}\.blk\.0\.attn_rel_b\.weight is missing"):
                    llama_cy.Model(source)
        for source in (whole, paths[0]):
            with pytest.raises(llama_cy.ModelLoadError, match=rf"{lost}\.blk\.0\.attn_rel_b\.weight is missing"):
                llama_cy.quantize(source, tmp_path / "quantized.gguf", "Q8_0")
        assert llama_cy.Model(paths, vocab_only=True).vocab.n_tokens

    def test_refuses_a_file_that_is_not_split(self, tiny_path: Path) -> None:
        with pytest.raises(llama_cy.ModelLoadError, match=r"split\.count is 0, and 2 files are given"):
            llama_cy.Model([tiny_path, tiny_path])
        with pytest.raises(ValueError, match="empty list"):
            llama_cy.Model([])

    def test_one_part_alone_as_an_open_file(self, tiny_path: Path, tmp_path: Path) -> None:
        with (
            write_splits(tiny_path, tmp_path, 2)[0].open("rb") as file,
            pytest.raises(llama_cy.ModelLoadError, match="one file of several"),
        ):
            llama_cy.Model(file)


class TestOpenFiles:
    @given(around=st.tuples(st.integers(0, 200), st.integers(0, 200)), load_mode=st.sampled_from(["auto", "none"]))
    def test_within_a_larger_file(
        self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path, around: tuple[int, int], load_mode: str
    ) -> None:
        front, behind = around
        larger = tmp_path / "larger.bin"
        larger.write_bytes(b"x" * front + tiny_path.read_bytes() + b"y" * behind)
        with larger.open("rb") as file:
            file.seek(front)
            model = llama_cy.Model(file, load_mode=load_mode)
            assert file.tell() == front
        assert model.path == str(larger)
        assert same(model, tiny)

    def test_descriptor_is_left_where_it_stands(self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path) -> None:
        larger = tmp_path / "larger.bin"
        larger.write_bytes(b"x" * 64 + tiny_path.read_bytes())
        fd = os.open(larger, os.O_RDONLY)
        try:
            os.lseek(fd, 64, os.SEEK_SET)
            model = llama_cy.Model(fd)
            assert os.lseek(fd, 0, os.SEEK_CUR) == 64
        finally:
            os.close(fd)
        # The weights stay, though nothing is open any more.
        larger.unlink()
        assert same(model, tiny)

    def test_mapped_where_its_tensors_lie_badly(self, tiny_path: Path, tmp_path: Path) -> None:
        larger = tmp_path / "larger.bin"
        larger.write_bytes(b"x" + tiny_path.read_bytes())
        with larger.open("rb") as file:
            file.seek(1)
            with pytest.raises(llama_cy.ModelLoadError, match="cannot mmap"):
                llama_cy.Model(file, load_mode="mmap")

    def test_packed_or_in_memory(self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path) -> None:
        packed = tmp_path / "model.gguf.gz"
        packed.write_bytes(gzip.compress(tiny_path.read_bytes(), 1))
        with io.BytesIO(tiny_path.read_bytes()) as file:
            assert same(llama_cy.Model(file), tiny)
        with open(packed, "rb") as raw, gzip.open(raw) as file:
            data = io.BytesIO(file.read())
        assert same(llama_cy.Model(data, trusted=False), tiny)

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
    def test_buffers(self, tiny: llama_cy.Model, tiny_path: Path, kind: Callable[[bytes], Any]) -> None:
        assert same(llama_cy.Model.from_buffer(kind(tiny_path.read_bytes())), tiny)

    @pytest.mark.parametrize("data", [b"", b"GGUF", b"no model at all", b"GGUF" + b"\xff" * 100])
    def test_refuses_other_bytes(self, data: bytes) -> None:
        with pytest.raises(llama_cy.ModelLoadError, match="cannot load the model"):
            llama_cy.Model.from_buffer(data)

    def test_refuses_what_is_no_source(self, tiny_path: Path) -> None:
        sources: list[Any] = [None, 1.5, True, bytearray(b"GGUF"), {}]
        for source in sources:
            with pytest.raises(TypeError, match="a model comes from a path, an open file or a descriptor"):
                llama_cy.Model(source)
        untyped: Any = "text"
        with pytest.raises(TypeError, match="bytes-like"):
            llama_cy.Model.from_buffer(untyped)
        with tiny_path.open() as text, pytest.raises(TypeError, match="binary mode"):
            llama_cy.Model(text)  # type: ignore[arg-type]
        for fd in (-1, 10**6):
            with pytest.raises(OSError, match="descriptor"):
                llama_cy.Model(fd)

    def test_refuses_a_pipe(self) -> None:
        reading, writing = os.pipe()
        try:
            with pytest.raises(OSError, match="a model is read from a descriptor that can be sought in, which"):
                llama_cy.Model(reading)
        finally:
            os.close(reading)
            os.close(writing)

    def test_fit_needs_a_path(self, tiny_path: Path) -> None:
        with tiny_path.open("rb") as file, pytest.raises(ValueError, match="needs a path"):
            llama_cy.Model(file, n_gpu_layers="fit")

    def test_what_the_callback_raises(self, tiny_path: Path) -> None:
        def stop(share: float) -> None:
            raise ZeroDivisionError(f"at {share}")

        with tiny_path.open("rb") as file, pytest.raises(ZeroDivisionError, match="at "):
            llama_cy.Model(file, progress=stop)


class TestBufferTypes:
    def test_chosen_by_name(self, tiny: llama_cy.Model, tiny_path: Path) -> None:
        cpu = next(device for device in llama_cy.devices() if device.name == "CPU")
        for where in ("cpu", cpu):
            model = llama_cy.Model(tiny_path, tensor_buft_overrides={r"blk\.\d+\.ffn_.*": where})
            assert same(model, tiny)

    @pytest.mark.parametrize(
        ("overrides", "error", "text"),
        [
            ({"(": "cpu"}, ValueError, "a regular expression is expected, not '('"),
            ({"": "cpu"}, ValueError, "is 0 bytes; 1 to 1000"),
            ({"a" * 1001: "cpu"}, ValueError, "is 1001 bytes"),
            ({"a\0": "cpu"}, ValueError, "without NUL"),
            ({"a": "auto"}, ValueError, "one device is expected"),
            ({"a": "cuda:7"}, llama_cy.BackendError, "no device 'cuda:7'"),
            ({3: "cpu"}, TypeError, "must be str, not int"),
            ([("a", "cpu")], TypeError, "must be a mapping, not list"),
            ({str(i): "cpu" for i in range(4096)}, ValueError, "4095 are allowed"),
        ],
    )
    def test_refuses(self, tiny_path: Path, overrides: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=re.escape(text)):
            llama_cy.Model(tiny_path, tensor_buft_overrides=overrides)


def test_a_damaged_file_that_nobody_trusts(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "model.gguf")
    data = path.read_bytes()
    with pytest.raises(llama_cy.ModelLoadError, match="cannot load the model"):
        llama_cy.Model.from_buffer(data[:-1000], trusted=False)
