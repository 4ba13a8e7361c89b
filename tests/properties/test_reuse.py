"""A second prompt decodes only what changed, and nothing tells it from a fresh run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.precision import rounding

import llama_cy

N_CTX = 128
# A batch of another size rounds otherwise; what was kept wrongly would differ by about 1.
TOLERANCE = 1e-2

prompts = st.lists(st.integers(0, 255), min_size=1, max_size=40)


@st.composite
def edits(draw: st.DrawFn) -> list[list[int]]:
    """Draw prompts of which each is an edit of the one before: cut, changed in the middle, gone on with."""
    every = [draw(prompts)]
    for _ in range(draw(st.integers(1, 4))):
        last = every[-1]
        at = draw(st.integers(0, len(last)))
        every.append((last[:at] + draw(st.lists(st.integers(0, 255), max_size=20)) + last[at + 2 :])[:60] or [7])
    return every


@pytest.mark.parametrize("kind", ["spm", "gemma3", "mamba", "jamba", "lfm2"])
@given(turns=edits(), lengths=st.lists(st.integers(0, 12), min_size=5, max_size=5))
def test_logits_are_those_of_a_fresh_run(
    models: dict[str, llama_cy.Model], kind: str, turns: list[list[int]], lengths: list[int]
) -> None:
    model = models[kind]
    # Half precision would round the same tokens differently from batch to batch.
    options: dict[str, Any] = {
        "n_ctx": N_CTX, "n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled"
    }  # fmt: skip
    with model.context(**options) as kept, model.context(**options) as fresh:
        held: list[int] = []
        for prompt, length in zip(turns, lengths, strict=False):
            loop = kept.generate(prompt, llama_cy.sampling(temperature=0), max_tokens=length, ignore_eog=True)
            generated = list(loop)
            assert loop.reused <= len(prompt)
            assert held[: loop.reused] == prompt[: loop.reused]
            if loop.reused < len(held) and loop.reused:
                assert kind in ("spm", "gemma3")
            held = prompt + generated
            fresh.memory.clear()
            fresh.decode(held)
            want, got = fresh.logits(), kept.logits()
            allowed = rounding(TOLERANCE, "recurrent" if kind in ("mamba", "jamba", "lfm2") else "attention")
            assert np.abs(want - got).max() <= allowed * np.abs(want).max()


@pytest.mark.parametrize("kind", ["spm", "gemma3", "mamba", "jamba"])
@given(turns=edits(), lengths=st.lists(st.integers(0, 12), min_size=5, max_size=5))
def test_exact_reuse_gives_the_very_bits(
    models: dict[str, llama_cy.Model], kind: str, turns: list[list[int]], lengths: list[int]
) -> None:
    options: dict[str, Any] = {"n_ctx": N_CTX, "n_ubatch": 8, "n_threads": 1}
    with models[kind].context(**options) as kept, models[kind].context(**options) as fresh:
        for prompt, length in zip(turns, lengths, strict=False):
            chain = llama_cy.sampling(temperature=0)
            got = kept.complete(prompt, chain, max_tokens=length, ignore_eog=True, reuse="exact")
            want = fresh.complete(prompt, chain, max_tokens=length, ignore_eog=True, reuse=False)
            assert got.reused % 8 == 0 or got.reused == len(prompt)
            assert got.tokens == want.tokens
            assert kept.logits().tobytes() == fresh.logits().tobytes()


def test_exact_reuse_keeps_whole_micro_batches(models: dict[str, llama_cy.Model]) -> None:
    with models["spm"].context(n_ctx=N_CTX, n_ubatch=8) as context:
        prompt = list(range(30))
        context.complete(prompt, max_tokens=3)
        assert context.complete([*prompt[:25], 99, 98], max_tokens=3, reuse="exact").reused == 24
        assert context.complete([*prompt[:8]], max_tokens=3, reuse="exact").reused == 0


@pytest.mark.parametrize("kind", ["spm", "gemma3", "mamba", "jamba", "lfm2"])
@given(prompt=prompts, lengths=st.lists(st.integers(0, 12), min_size=1, max_size=4), seed=st.integers(0, 2**32 - 2))
def test_a_prompt_repeats_bit_for_bit(
    models: dict[str, llama_cy.Model], kind: str, prompt: list[int], lengths: list[int], seed: int
) -> None:
    with models[kind].context(n_ctx=N_CTX, n_ubatch=8, n_threads=1) as context, llama_cy.sampling(seed=seed) as chain:
        first = context.complete(prompt, chain, max_tokens=12, ignore_eog=True, logprobs=3)
        for length in [*lengths, 12]:
            again = context.complete(prompt, chain, max_tokens=length, ignore_eog=True, logprobs=3)
            if kind in ("spm", "gemma3"):
                assert again.reused == len(prompt)
            assert again.tokens == first.tokens[:length]
            assert first.logprobs is not None
            assert again.logprobs == first.logprobs[:length]


@given(prompt=prompts)
def test_logits_are_shown_again(models: dict[str, llama_cy.Model], prompt: list[int]) -> None:
    with models["spm"].context(n_ctx=N_CTX, n_threads=1) as context:
        context.complete(prompt, max_tokens=0)
        want = context.logits().tobytes()
        context.complete(prompt, max_tokens=3, ignore_eog=True)
        done = context.complete(prompt, max_tokens=0)
        assert done.reused == len(prompt)
        assert context.logits().tobytes() == context.logits_all().tobytes() == context.logits_view().tobytes() == want
        with pytest.raises(ValueError, match="row 1 has no logits"):
            context.logits(1)
        context.decode([1])
        assert context.logits().tobytes() != want


def common(first: list[int], second: list[int]) -> int:
    same = 0
    while same < min(len(first), len(second) - 1) and first[same] == second[same]:
        same += 1
    return same


@given(turns=edits())
def test_attention_keeps_all_it_can(models: dict[str, llama_cy.Model], turns: list[list[int]]) -> None:
    with models["spm"].context(n_ctx=N_CTX, n_threads=1) as context:
        held: list[int] = []
        last: list[int] = []
        for prompt in turns:
            done = context.complete(prompt, llama_cy.sampling(temperature=0), max_tokens=5, ignore_eog=True)
            assert done.reused == (len(prompt) if prompt == last else common(held, prompt))
            assert done.timings.prompt_tokens == len(prompt) - done.reused
            held, last = prompt + done.tokens, prompt


@pytest.mark.parametrize("kind", ["mamba", "jamba"])
def test_a_recurrent_memory_goes_on_and_never_back(models: dict[str, llama_cy.Model], kind: str) -> None:
    with models[kind].context(n_ctx=N_CTX, n_threads=1) as context:
        first = context.complete([1, 2, 3], llama_cy.sampling(temperature=0), max_tokens=4, ignore_eog=True)
        longer = [1, 2, 3, *first.tokens, 9, 8]
        second = context.complete(longer, llama_cy.sampling(temperature=0), max_tokens=4, ignore_eog=True)
        assert second.reused == 7
        third = context.complete([1, 2, 3, 4], llama_cy.sampling(temperature=0), max_tokens=4, ignore_eog=True)
        assert third.reused == 0


class TestWhatMakesItForget:
    PROMPT = (1, 2, 3, 4, 5, 6)

    def reused(self, context: llama_cy.Context) -> int:
        return context.complete([*self.PROMPT, 7], max_tokens=0).reused

    def test_nothing(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            context.decode(self.PROMPT[:2])
            context.decode(self.PROMPT[2:])
            assert self.reused(context) == 6

    def test_when_told_to(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            context.decode(self.PROMPT)
            assert context.complete([*self.PROMPT, 7], max_tokens=0, reuse=False).reused == 0

    def test_a_change_behind_the_same_prompt(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            assert [self.reused(context) for _ in range(3)] == [0, 7, 7]
            context.memory.seq_rm(0, 3, 4)
            assert [self.reused(context) for _ in range(2)] == [0, 7]
            context.complete([9], max_tokens=0)
            assert [self.reused(context) for _ in range(2)] == [0, 7]

    def test_embeddings_are_computed_again(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, embeddings=True) as context:
            assert [self.reused(context) for _ in range(2)] == [0, 6]
            assert context.embeddings().any()

    def test_what_c_did(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            assert [self.reused(context) for _ in range(2)] == [0, 7]
            llama_cy.to_capsule(context)
            with pytest.raises(ValueError, match="has no logits"):
                context.logits()
            assert self.reused(context) == 0

    def test_a_change_of_the_memory(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_seq_max=2, kv_unified=True) as context:
            context.decode(self.PROMPT)
            context.memory.seq_rm(0, 3, 4)
            assert self.reused(context) == 0

    def test_a_batch(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            context.decode(self.PROMPT)
            batch = llama_cy.Batch(1)
            batch.add(9, 6, logits=True)
            context.decode(batch)
            assert self.reused(context) == 0

    def test_a_restored_state(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64) as context:
            context.decode([9, 9, 9])
            blob = context.state.get()
            context.memory.clear()
            context.decode(self.PROMPT)
            context.state.set(blob)
            assert self.reused(context) == 0
