"""Logits against a NumPy forward pass, and against themselves however the tokens are split into batches."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.oracle import LlamaOracle, relative_error
from support.precision import rounding
from support.recurrent_models import write_jamba, write_lfm2, write_mamba
from support.vocabulary import spm

import llama_cy

N_VOCAB = spm().n_tokens
MAX_TOKENS = 48

# Flash attention rounds keys and values to F16 whatever the cache holds, so exact means without it.
EXACT: dict[str, Any] = {"type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"}
DEFAULT: dict[str, Any] = {}

# Largest relative error of a row on the CPU; support/precision.py says what a GPU is allowed. That of another
# token, position or sequence has one near 1.4.
#
# F32: unit roundoff u = 2^-24 = 6e-8. About ten operations follow one another in a layer, and a dot product of n
#   terms adds some sqrt(n) u, n <= 160 here: sqrt(4 * 10) * sqrt(160) u = 5e-6 for four layers. Largest seen in
#   196 random models: 4e-6.
# F16 weights, or keys and values: activations are rounded to F16 on the way into the product, u = 2^-11 = 5e-4, some
#   four times a layer: sqrt(17) u = 2e-3. Largest seen in 375 models: 5e-3.
# Q8_0 weights: llama.cpp rounds activations to 8 bits by blocks of 32 on the way into the product. A block of normal
#   numbers peaks near 2.1 sigma, so a step is 2.1/127 sigma and its error 1/sqrt(12) of that, 0.5 %, four times a
#   layer and once more: 2 % over the whole, with rows up to 11 % seen in 354 models.
TOLERANCE = {"F32": 5e-5, "F16": 2e-2, "Q8_0": 0.3}

RECURRENT = ("mamba", "jamba", "lfm2")
WRITERS = {
    "llama": write_llama,
    "llama-tied": lambda path: write_llama(path, tied=True),
    # All experts: with fewer, the rounding of a GPU may choose another one.
    "llama-moe": lambda path: write_llama(path, n_expert=4, n_expert_used=4),
    "gemma3": write_gemma3,
    "mamba": write_mamba,
    "jamba": write_jamba,
    "lfm2": write_lfm2,
}
# gemma3 looks its GELU up in a table of F16 values, so the last bit of an input can move an output by an F16 step.
SPLIT_TOLERANCE = {
    name: rounding(TOLERANCE["F16" if name == "gemma3" else "F32"], "recurrent" if name in RECURRENT else "attention")
    for name in WRITERS
}

seeds = st.integers(0, 2**32 - 1)
prompts = st.lists(st.integers(0, N_VOCAB - 1), min_size=1, max_size=MAX_TOKENS)


@st.composite
def sizes(draw: st.DrawFn, row: int = 2) -> dict[str, Any]:
    """Draw sizes of a llama model; rows of all its weights are multiples of ``row``."""
    n_head_kv = draw(st.integers(1, 3))
    head_dim = draw(st.sampled_from([16, 32, 48, 64] if row <= 16 else [32, 64]))
    return {
        "n_layer": draw(st.integers(1, 4)),
        "n_embd": draw(st.integers(max(1, 32 // row), 128 // row)) * row,
        "n_head": n_head_kv * draw(st.integers(1, 3)),
        "n_head_kv": n_head_kv,
        "head_dim": head_dim,
        "n_ff": draw(st.integers(max(1, 32 // row), 160 // row)) * row,
        "rope_freq_base": draw(st.sampled_from([100.0, 1e4, 5e5, 1e6])),
        "tied": draw(st.booleans()),
        "seed": draw(seeds),
    }


@contextmanager
def model_file(**arguments: Any) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield write_llama(Path(directory) / "model.gguf", **arguments)


def batch_logits(context: llama_cy.Context, entries: list[tuple[int, int, int]]) -> NDArray[np.float32]:
    """Decode (token, position, sequence) entries in one batch; return a row of logits for each."""
    batch = llama_cy.Batch(len(entries))
    for token, pos, seq_id in entries:
        batch.add(token, pos, seq_ids=(seq_id,), logits=True)
    context.decode(batch)
    return np.stack([context.logits(i) for i in range(len(entries))])


def prompt_logits(context: llama_cy.Context, tokens: list[int], pos: int = 0) -> NDArray[np.float32]:
    """Decode one sequence, from this position on, in one batch."""
    return batch_logits(context, [(token, pos + i, 0) for i, token in enumerate(tokens)])


def check_against_oracle(path: Path, tokens: list[int], tolerance: float, **params: Any) -> None:
    want = LlamaOracle(path).logits(tokens)
    with (
        llama_cy.Model(path) as model,
        model.context(n_ctx=256, n_batch=64, n_threads=1, **params) as context,
    ):
        got = prompt_logits(context, tokens)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    assert relative_error(got, want) < rounding(tolerance)


@given(size=sizes(), tokens=prompts)
def test_f32_logits_match_numpy(size: dict[str, Any], tokens: list[int]) -> None:
    with model_file(**size) as path:
        check_against_oracle(path, tokens, TOLERANCE["F32"], **EXACT)


@given(size=sizes(), tokens=prompts)
def test_f32_logits_with_f16_cache_match_numpy(size: dict[str, Any], tokens: list[int]) -> None:
    with model_file(**size) as path:
        check_against_oracle(path, tokens, TOLERANCE["F16"], **DEFAULT)


@given(size=sizes(), tokens=prompts)
def test_f16_logits_match_numpy(size: dict[str, Any], tokens: list[int]) -> None:
    with model_file(weight_type="F16", **size) as path:
        check_against_oracle(path, tokens, TOLERANCE["F16"], **DEFAULT)


@given(size=sizes(row=32), tokens=prompts)
def test_q8_0_logits_match_numpy(size: dict[str, Any], tokens: list[int]) -> None:
    with model_file(weight_type="Q8_0", **size) as path:
        check_against_oracle(path, tokens, TOLERANCE["Q8_0"], **EXACT)


# Elsewhere rounding chooses another expert too often.
@pytest.mark.cpu
@given(size=sizes(), n_expert=st.integers(2, 5), n_expert_used=st.integers(1, 3), tokens=prompts)
def test_mixture_of_experts_logits_match_numpy(
    size: dict[str, Any], n_expert: int, n_expert_used: int, tokens: list[int]
) -> None:
    assume(n_expert_used <= n_expert)
    with model_file(n_expert=n_expert, n_expert_used=n_expert_used, **size) as path:
        oracle = LlamaOracle(path)
        oracle.logits(tokens)
        assume(oracle.router_margin > 1e-4)  # closer than this, rounding may choose another expert
        check_against_oracle(path, tokens, TOLERANCE["F32"], **EXACT)


@given(size=sizes(), tokens=prompts)
def test_plain_list_gives_the_last_row(size: dict[str, Any], tokens: list[int]) -> None:
    with model_file(**size) as path:
        want = LlamaOracle(path).logits(tokens)[-1]
        with llama_cy.Model(path) as model, model.context(n_ctx=256, n_threads=1, **EXACT) as context:
            context.decode(tokens)
            assert relative_error(context.logits(-1), want) < rounding(TOLERANCE["F32"])


@pytest.fixture(scope="module", params=WRITERS)
def arch(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def context(arch: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[llama_cy.Context]:
    write: Callable[[Path], Path] = WRITERS[arch]
    path = write(tmp_path_factory.mktemp(arch) / "model.gguf")
    params: dict[str, Any] = {"n_ctx": 1024, "n_batch": 256, "n_seq_max": 4, "n_threads": 1, **EXACT}
    with llama_cy.Model(path) as model, model.context(**params) as opened:
        yield opened


@given(tokens=prompts, chunk=st.integers(1, 17))
def test_chunks_equal_one_shot(arch: str, context: llama_cy.Context, tokens: list[int], chunk: int) -> None:
    context.memory.clear()
    want = prompt_logits(context, tokens)
    context.memory.clear()
    got = [prompt_logits(context, tokens[pos : pos + chunk], pos) for pos in range(0, len(tokens), chunk)]
    assert relative_error(np.concatenate(got), want) < SPLIT_TOLERANCE[arch]
    assert context.memory.seq_pos_max(0) == len(tokens) - 1


@given(tokens=prompts)
def test_token_by_token_equals_one_shot(arch: str, context: llama_cy.Context, tokens: list[int]) -> None:
    context.memory.clear()
    want = prompt_logits(context, tokens)
    context.memory.clear()
    for pos, token in enumerate(tokens):
        context.decode([token])
        assert relative_error(context.logits(-1), want[pos]) < SPLIT_TOLERANCE[arch]


@given(sequences=st.lists(prompts, min_size=2, max_size=4), order=st.randoms(use_true_random=False))
def test_interleaved_sequences_equal_each_alone(
    arch: str, context: llama_cy.Context, sequences: list[list[int]], order: Any
) -> None:
    want = []
    for tokens in sequences:
        context.memory.clear()
        want.append(prompt_logits(context, tokens))

    # positions of one sequence must not fall, so what is shuffled is whose turn it is
    turns = [seq_id for seq_id, tokens in enumerate(sequences) for _ in tokens]
    order.shuffle(turns)
    entries, length = [], [0] * len(sequences)
    for seq_id in turns:
        entries.append((sequences[seq_id][length[seq_id]], length[seq_id], seq_id))
        length[seq_id] += 1

    context.memory.clear()
    rows = batch_logits(context, entries)
    for seq_id, expected in enumerate(want):
        got = rows[[turn == seq_id for turn in turns]]
        assert relative_error(got, expected) < SPLIT_TOLERANCE[arch]
