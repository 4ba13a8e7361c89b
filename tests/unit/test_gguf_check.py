"""The look at a GGUF file before llama.cpp's: what is wrong is named, what is right passes, and it takes little."""

from __future__ import annotations

import io
import re
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzz.bases import rwkv
from fuzz.gguf_layout import Layout
from fuzz.operations import Recipe, apply
from hypothesis import given
from hypothesis import strategies as st
from support.encoder_models import write_bert, write_t5
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_lfm2, write_mamba
from support.vocab_files import vocab_files
from support.vocabulary import bpe, no_vocab

import llama_cy
from llama_cy.gguf_check import check_model
from llama_cy.gguf_rules import ELEMENTWISE, IDS, check_tensor

WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_llama,
    "bpe": lambda path: write_llama(path, vocab=bpe()),
    "rwkv": lambda path: write_llama(path, vocab=rwkv()),
    "no-vocab": lambda path: write_llama(path, vocab=no_vocab(300)),
    "q8_0": lambda path: write_llama(path, weight_type="Q8_0"),
    "gemma3": write_gemma3,
    "mamba": write_mamba,
    "jamba": write_jamba,
    "lfm2": write_lfm2,
    "bert": write_bert,
    "t5": write_t5,
}
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
TOKENS = "tokenizer.ggml.tokens"

# Name of the case to base, recipe and words of the message.
BAD: dict[str, tuple[str, Recipe, list[str]]] = {
    "magic": ("llama", [("head", "47475558", 3)], ["b'GGUX'", "b'GGUF'"]),
    "version 1": ("llama", [("head", "47475546", 1)], ["version is 1;"]),
    "version 99": ("llama", [("head", "47475546", 99)], ["version is 99;"]),
    "big-endian": ("llama", [("head", "47475546", 3 << 24)], ["other byte order"]),
    "2**63 tensors": ("llama", [("counts", 2**63, None)], [str(2**63), "tensors"]),
    "2**40 values": ("llama", [("counts", None, 2**40)], [str(2**40), "metadata values"]),
    "one value more": ("llama", [("counts", None, 10_000)], ["metadata value", "bytes"]),
    "nothing behind the head": ("llama", [("cut", 24)], ["the key of metadata value 0", "0 are left"]),
    "cut in the head": ("llama", [("cut", 3000)], [TOKENS]),
    "cut in the data": ("llama", [("cut", -1)], ["the tensor", "left in the file"]),
    "duplicate key": ("llama", [("double", "llama.block_count")], ["llama.block_count", "twice"]),
    "empty key": ("llama", [("rename", "general.name", "")], ["b''"]),
    "NUL in a key": ("llama", [("rename", "general.name", "a\0b")], [r"b'a\x00b'"]),
    "unknown type": ("llama", [("retype", "general.name", 13)], ["general.name", "type 13"]),
    "array of arrays": ("llama", [("declare", TOKENS, ARRAY, 1)], [TOKENS, "type 9"]),
    "array of unknown type": ("llama", [("declare", TOKENS, 77, 1)], [TOKENS, "type 77"]),
    "endless array": ("llama", [("declare", TOKENS, STRING, 2**60)], [TOKENS, str(2**60)]),
    "long array": ("llama", [("declare", TOKENS, U32, 2**24)], [TOKENS, "67108864 bytes"]),
    "alignment 0": ("llama", [("set", "general.alignment", U32, 0)], ["general.alignment is 0"]),
    "alignment 24": ("llama", [("set", "general.alignment", U32, 24)], ["general.alignment is 24", "power of two"]),
    "alignment of another type": (
        "llama",
        [("set", "general.alignment", STRING, "32")],
        ["general.alignment", "str"],
    ),
    "tensor without a name": ("llama", [("call", "output.weight", "")], ["name of tensor", "b''"]),
    "tensor with a long name": ("llama", [("call", "output.weight", "x" * 64)], ["name of tensor", "64 bytes"]),
    "tensor with a NUL": ("llama", [("call", "output.weight", "hex:610062")], ["name of tensor", r"b'a\x00b'"]),
    "two of a name": ("llama", [("call", "output.weight", "token_embd.weight")], ["token_embd.weight", "twice"]),
    "five dimensions": ("llama", [("dims", "output.weight", [1, 2, 3, 4, 5])], ["output.weight", "5 dimensions"]),
    "no elements": ("llama", [("dims", "output.weight", [64, 0])], ["output.weight", "0 elements along axis 1"]),
    "too many elements": ("llama", [("dims", "output.weight", [2**40, 2**40])], ["output.weight", "axis 1"]),
    "negative elements": ("llama", [("dims", "output.weight", [-1])], ["output.weight", "axis 0"]),
    "unknown tensor type": ("llama", [("type", "output.weight", 39 + 2**20)], ["output.weight", "type"]),
    "a removed tensor type": ("llama", [("type", "output.weight", 4)], ["output.weight", "type 4"]),
    "rows that fill no block": (
        "llama",
        [("dims", "output.weight", [33]), ("type", "output.weight", 8)],
        ["33", "32", "q8_0"],
    ),
    "offset elsewhere": ("llama", [("offset", "output.weight", 2**40)], ["output.weight", str(2**40), "expected"]),
    "not where it ought to be": ("llama", [("dims", "token_embd.weight", [64, 1])], ["is at", "expected"]),
    "longer than the file": ("llama", [("dims", "output.weight", [64, 2**30]), ("offset", "x", 0)], ["expected|left"]),
    # rotation by sections
    "no sections": ("llama", [("architecture", "paddleocr")], ["paddleocr.rope.dimension_sections", "must not be 0"]),
    "one section for all": (
        "llama",
        [("architecture", "qwen2vl"), ("set", "qwen2vl.rope.dimension_sections", U32, 0)],
        ["qwen2vl.rope.dimension_sections", "must not be 0"],
    ),
    "the fourth section": (
        "llama",
        [("architecture", "dflash"), ("set", "dflash.rope.dimension_sections", ARRAY, [I32, [0, 0, 0, 5]])],
        ["dflash.rope.dimension_sections", "must not be 0"],
    ),
    # tokenizers
    "a token twice": ("llama", [("item", TOKENS, 7, "<s>")], [TOKENS, "'<s>' twice", "token 7"]),
    "the same up to a NUL": ("llama", [("item", TOKENS, 7, "hex:3c733e0061")], [TOKENS, "'<s>' twice"]),
    "the name of an empty one": ("llama", [("item", TOKENS, 5, ""), ("item", TOKENS, 9, "[EMPTY_5]")], ["[EMPTY_5]"]),
    "no tokens": ("llama", [("resize", TOKENS, 0)], [TOKENS, "empty"]),
    "tokens that are numbers": ("llama", [("set", TOKENS, ARRAY, [U32, [1, 2]])], [TOKENS, "strings"]),
    "tokens that are one text": ("llama", [("set", TOKENS, STRING, "a")], [TOKENS, "str"]),
    "few scores": ("llama", [("resize", "tokenizer.ggml.scores", 5)], ["tokenizer.ggml.scores", "5", "395"]),
    "few types": ("llama", [("resize", "tokenizer.ggml.token_type", 5)], ["tokenizer.ggml.token_type", "5", "395"]),
    "scores of no array": ("llama", [("set", "tokenizer.ggml.scores", F32, 1.0)], ["tokenizer.ggml.scores", "f32"]),
    "merges of numbers": ("bpe", [("set", "tokenizer.ggml.merges", ARRAY, [U32, [1]])], ["tokenizer.ggml.merges"]),
    "a byte in a WordPiece": (
        "bert",
        [("item", "tokenizer.ggml.token_type", 9, 6)],
        ["token_type", "byte", "WordPiece"],
    ),
    "a long token in a trie": ("t5", [("item", TOKENS, 9, "x" * 5000)], [TOKENS, "5000 bytes", "2048"]),
    "a long token": ("llama", [("item", TOKENS, 9, "x" * 70_000)], [TOKENS, "70000 bytes", "65536"]),
    "a byte that no token is": ("rwkv", [("item", TOKENS, 117, "zzz")], [TOKENS, "byte 116"]),
    "an endless vocabulary": (
        "no-vocab",
        [("set", "llama.vocab_size", U32, 2**31)],
        ["llama.vocab_size", "2147483648"],
    ),
    # numbers
    **{
        f"{key} {value}": (base, [("set", key, U32, value)], [re.escape(key), f"is {value}"])
        for base, key, value in (
            ("llama", "llama.block_count", 0),
            ("llama", "llama.block_count", 513),
            ("llama", "llama.embedding_length", 0),
            ("llama", "llama.attention.head_count", 0),
            ("llama", "llama.attention.key_length", 0),
            ("llama", "llama.context_length", 2**31),
            ("llama", "llama.expert_count", 1025),
            ("llama", "llama.rope.dimension_count", 15),
            ("llama", "llama.rope.dimension_count", 32),
            ("llama", "llama.nextn_predict_layers", 2),
            ("llama", "llama.pooling_type", 9),
            ("gemma3", "gemma3.attention.sliding_window", 2**31),
            ("mamba", "mamba.ssm.time_step_rank", 0),
            ("mamba", "mamba.ssm.conv_kernel", 0),
            ("jamba", "jamba.ssm.state_size", 0),
            ("lfm2", "lfm2.shortconv.l_cache", 1),
            ("t5", "t5.decoder_block_count", 100_000),
            ("t5", "t5.attention.relative_buckets_count", 1),
        )
    },
    "NaN": (
        "llama",
        [("set", "llama.attention.layer_norm_rms_epsilon", F32, float("nan"))],
        ["layer_norm_rms_epsilon is nan"],
    ),
    "negative epsilon": (
        "llama",
        [("set", "llama.attention.layer_norm_rms_epsilon", F32, -1.0)],
        ["layer_norm_rms_epsilon is -1.0"],
    ),
    "infinite base": ("llama", [("set", "llama.rope.freq_base", F32, float("inf"))], ["llama.rope.freq_base is inf"]),
    "heads of one layer": (
        "lfm2",
        [("set", "lfm2.attention.head_count_kv", ARRAY, [I32, [2, -1, 0, 2]])],
        ["head_count_kv is -1"],
    ),
    # tensor types
    "norm in 16 bits": (
        "llama",
        [("type", "output_norm.weight", 1), ("settle",)],
        ["output_norm.weight", "f16", "f32"],
    ),
    "weight of integers": (
        "llama",
        [("type", "output.weight", 26), ("settle",)],
        ["output.weight", "i32", "multiplies"],
    ),
    "weight of doubles": (
        "llama",
        [("type", "output.weight", 28), ("settle",)],
        ["output.weight", "f64", "multiplies"],
    ),
    "weight within a product": ("llama", [("type", "output.weight", 9), ("settle",)], ["output.weight", "q8_1"]),
    "bias in 16 bits": ("bert", [("type", "blk.0.attn_q.bias", 1), ("settle",)], ["attn_q.bias", "f16"]),
    "convolution in 16 bits": ("mamba", [("type", "blk.0.ssm_conv1d.weight", 1), ("settle",)], ["ssm_conv1d", "f16"]),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("bases")
    return {name: write(folder / f"{name}.gguf").read_bytes() for name, write in WRITERS.items()}


def check(data: bytes, **params: Any) -> Any:
    return check_model(io.BytesIO(data), "it.gguf", **params)


@pytest.mark.parametrize("case", BAD)
def test_refused(files: dict[str, bytes], case: str) -> None:
    base, recipe, patterns = BAD[case]
    data = apply(files[base], recipe)
    assert data != files[base]
    with pytest.raises(llama_cy.ModelLoadError) as caught:
        check(data)
    assert caught.value.filename == "it.gguf"
    assert "cannot load the model 'it.gguf'" in str(caught.value)
    for pattern in patterns:
        assert pattern in str(caught.value) or re.search(pattern, str(caught.value)), caught.value


@pytest.mark.parametrize("base", WRITERS)
@pytest.mark.parametrize("start", [0, 4096])
def test_a_good_file_passes(files: dict[str, bytes], base: str, start: int) -> None:
    header = check(bytes(start) + files[base], start=start)
    layout = Layout.decode(files[base])
    assert list(header.values) == [key.decode() for key, _, _ in layout.values]
    assert list(header.tensors) == [tensor.name.decode() for tensor in layout.tensors]
    for tensor in layout.tensors:
        found = header.tensors[tensor.name.decode()]
        assert (found.dims, found.kind, found.offset) == ((*tensor.dims, 1, 1, 1)[:4], tensor.type, tensor.offset)
    assert files[base][header.data_start :] == layout.body
    assert header.values["general.architecture"] in (base, "llama")


def test_values_are_as_they_were_written(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "a.bool": True,
        "a.int": -5,
        "a.float": 0.5,
        "a.text": "é\n",
        "a.list": [1, 2, 3],
        "a.texts": ["x", "y"],
    }
    data = write_llama(tmp_path / "values.gguf", metadata=given).read_bytes()
    header = check(data)
    assert {key: header.values[key] for key in list(given)[:-1]} == dict(list(given.items())[:-1])
    assert header.values["a.texts"].n == 2


@pytest.mark.parametrize("name", [file.path.name for file in vocab_files()])
def test_the_tokenizers_of_many_models_pass(name: str) -> None:
    path = next(file.path for file in vocab_files() if file.path.name == name)
    with open(path, "rb") as file:
        header = check_model(file, name, vocab_only=True)
    with llama_cy.Model(path, vocab_only=True) as model:
        assert header.values[TOKENS].n == model.vocab.n_tokens


def test_overrides_are_checked(files: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "good.gguf"
    path.write_bytes(files["llama"])
    for value in (0, 2**32, 600):
        with pytest.raises(llama_cy.ModelLoadError, match=r"llama\.block_count is \d+, which is out of range"):
            llama_cy.Model(path, kv_overrides={"llama.block_count": value})
    with pytest.raises(llama_cy.ModelLoadError, match="rms_epsilon is inf"):
        llama_cy.Model(path, kv_overrides={"llama.attention.layer_norm_rms_epsilon": 1e300})
    llama_cy.Model(path, kv_overrides={"llama.rope.freq_base": 500.0}).close()


def test_only_the_vocabulary(files: dict[str, bytes]) -> None:
    data = apply(files["llama"], [("set", "llama.block_count", U32, 0), ("type", "output.weight", 26), ("settle",)])
    check(data, vocab_only=True)
    with pytest.raises(llama_cy.ModelLoadError, match="block_count"):
        check(data)


def test_hollow_files_take_no_memory(tmp_path: Path) -> None:
    """A file of holes may be as long as it likes."""
    path = tmp_path / "hollow.gguf"
    with open(path, "wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, 2**16, 2**16))
        file.truncate(2**40)
    tracemalloc.start()
    with open(path, "rb") as file, pytest.raises(llama_cy.ModelLoadError, match="metadata value 0"):
        check_model(file, "hollow.gguf")
    assert tracemalloc.get_traced_memory()[1] < 2**25
    tracemalloc.stop()


@given(st.data())
def test_any_bytes_are_refused_or_pass(files: dict[str, bytes], data: st.DataObject) -> None:
    base = files[data.draw(st.sampled_from(sorted(files)))]
    head = len(base) - len(Layout.decode(base).body)
    changes = st.lists(st.tuples(st.integers(0, head - 1), st.binary(min_size=1, max_size=9)), min_size=1, max_size=3)
    changed = bytearray(base)
    for at, new in data.draw(changes):
        changed[at : at + len(new)] = new
    try:
        check(bytes(changed))
    except llama_cy.ModelLoadError:
        return


def vendored(table: str) -> dict[str, str]:
    """Return a table of llama.cpp's architectures, by the name of the constant."""
    source = Path(__file__).parents[2] / "vendor" / "llama.cpp" / "src" / "llama-arch.cpp"
    text = source.read_text()
    start = text.index(f" {table} = {{")
    rows = re.findall(r"\{\s*(LLM_TENSOR_\w+),\s*(.*?)\s*\},", text[start : text.index("\n};", start)])
    assert len(rows) > 200
    return dict(rows)


def test_the_rules_know_every_tensor() -> None:
    """What llama.cpp does with a tensor says which types it may have."""
    names = vendored("LLM_TENSOR_NAMES")
    wrong = {}
    for constant, info in vendored("LLM_TENSOR_INFOS").items():
        operation = info.rpartition("GGML_OP_")[2].rstrip("}")
        name = names[constant].strip('"').replace("%d", "7")
        elementwise = bool(ELEMENTWISE.fullmatch(name))
        # It takes rows of these, to add them or to look further ones up.
        added = operation == "GET_ROWS" and re.search("token_types|_ape", name)
        looked_up = operation in ("GET_ROWS", "NONE") and IDS.fullmatch(name)
        if operation in ("MUL_MAT", "MUL_MAT_ID", "GET_ROWS", "IM2COL", "NONE") and not added:
            if elementwise:
                wrong[name] = operation
        elif not elementwise and not looked_up:
            wrong[name] = operation
    assert wrong == {}


@pytest.mark.parametrize("name", ["blk.0.ffn_gate_tid2eid.weight", "d2t", "masked_embd_ordering"])
def test_ids_may_be_integers(name: str) -> None:
    check_tensor(name, "i32", False, ValueError)
    with pytest.raises(ValueError, match="f64"):
        check_tensor(name, "f64", False, ValueError)
