"""A model that drafts for another attends to the keys and values in that one's context."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.mtp_models import write_gemma4, write_gemma4_assistant, write_qwen35
from support.precision import assert_near

import llama_cy

N_EMBD, HEAD_DIM = 64, 16
EXACT: Any = {"n_ctx": 256, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled", "n_threads": 1}
PROMPT = [5, 17, 300, 2, 9]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gemma4")


@pytest.fixture(scope="module")
def target(folder: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(write_gemma4(folder / "target.gguf")) as model:
        yield model


@pytest.fixture(scope="module")
def assistant(folder: Path) -> Iterator[llama_cy.Model]:
    with llama_cy.Model(write_gemma4_assistant(folder / "assistant.gguf")) as model:
        yield model


def draft(context: llama_cy.Context, token: int, state: Any, pos: int) -> Any:
    with closing(llama_cy.BatchExt(context)) as batch:
        batch.set_pos(batch.add_token(0, token), pos)
        batch.set_embd_token(0, state)
        batch.set_output_logits(0, True)
        context.process(batch)
    return context.logits().copy()


STATE = np.random.default_rng(0).standard_normal(N_EMBD, dtype=np.float32)


def test_attends_to_the_other_memory(target: llama_cy.Model, assistant: llama_cy.Model) -> None:
    seen: dict[str, Any] = {}

    def keep(tensor: llama_cy.Tensor) -> None:
        seen[tensor.name] = np.array(tensor.data)

    names = ["Kcur_pos-0", "Kcur_pos-1", "Vcur_normed-0", "Vcur_normed-1"]
    with (
        target.context(**EXACT, eval_callback=keep, eval_filter=names) as other,
        assistant.context(
            ctx_type="mtp", ctx_other=other, n_threads=1, eval_callback=keep, eval_filter=["Qcur_pos-*", "kqv_out-*"]
        ) as context,
    ):
        other.decode(PROMPT)
        keys = dict(seen)
        assert (context.n_ctx, context.n_seq_max) == (other.n_ctx, other.n_seq_max)
        draft(context, 7, STATE, len(PROMPT))
        assert context.memory.seq_pos_max(0) == other.memory.seq_pos_max(0) == len(PROMPT) - 1
    for layer in (0, 1):
        q = seen[f"Qcur_pos-{layer}"].reshape(4, HEAD_DIM)
        k = keys[f"Kcur_pos-{layer}"].reshape(len(PROMPT), 2, HEAD_DIM)
        v = keys[f"Vcur_normed-{layer}"].reshape(len(PROMPT), 2, HEAD_DIM)
        expected = []
        for head in range(4):
            scores = k[:, head // 2] @ q[head]
            weights = np.exp(scores - scores.max())
            expected.append(weights / weights.sum() @ v[:, head // 2])
        assert_near(seen[f"kqv_out-{layer}"].reshape(4, HEAD_DIM), np.array(expected), rtol=1e-4, atol=1e-4)


def test_follows_what_the_other_decodes(target: llama_cy.Model, assistant: llama_cy.Model) -> None:
    with target.context(**EXACT) as other, assistant.context(ctx_type="mtp", ctx_other=other, n_threads=1) as context:
        found = []
        for prompt in (PROMPT, PROMPT[::-1], PROMPT):
            other.memory.clear()
            other.decode(prompt)
            found.append(draft(context, 7, STATE, len(PROMPT)))
            # Drafting leaves the memory as it is.
            assert np.array_equal(draft(context, 7, STATE, len(PROMPT)), found[-1])
        assert np.array_equal(found[0], found[2])
        assert not np.allclose(found[0], found[1], atol=0.01)


class TestLife:
    def test_closed_with_the_other(self, target: llama_cy.Model, assistant: llama_cy.Model) -> None:
        other = target.context(**EXACT)
        context = assistant.context(ctx_type="mtp", ctx_other=other)
        other.close()
        assert context.closed
        with pytest.raises(llama_cy.ClosedError):
            context.memory.seq_pos_max(0)

    @pytest.mark.parametrize("order", [("other", "context"), ("context", "other")])
    def test_dropped(self, target: llama_cy.Model, assistant: llama_cy.Model, order: tuple[str, str]) -> None:
        alive = {"other": target.context(**EXACT)}
        alive["context"] = assistant.context(ctx_type="mtp", ctx_other=alive["other"])
        alive["other"].decode(PROMPT)
        del alive[order[0]]
        gc.collect()
        if "context" in alive:
            draft(alive["context"], 7, STATE, len(PROMPT))
        else:
            alive["other"].decode([1])

    def test_one_at_a_time(self, target: llama_cy.Model, assistant: llama_cy.Model) -> None:
        within, leave = threading.Event(), threading.Event()

        def wait(tensor: llama_cy.Tensor) -> None:
            within.set()
            leave.wait(30)

        with target.context(**EXACT, eval_callback=wait, eval_filter="result_output") as other:
            context = assistant.context(ctx_type="mtp", ctx_other=other)
            thread = threading.Thread(target=other.decode, args=(PROMPT,))
            thread.start()
            try:
                assert within.wait(30)
                with pytest.raises(llama_cy.ContextBusyError):
                    draft(context, 7, STATE, len(PROMPT))
                with pytest.raises(llama_cy.ContextBusyError):
                    assistant.context(ctx_type="mtp", ctx_other=other)
            finally:
                leave.set()
                thread.join()
            draft(context, 7, STATE, len(PROMPT))


class TestRefused:
    def test_without(self, assistant: llama_cy.Model) -> None:
        with pytest.raises(llama_cy.ContextError, match="give the context of that one as ctx_other"):
            assistant.context(ctx_type="mtp")

    def test_what_needs_a_memory_of_its_own(self, target: llama_cy.Model, assistant: llama_cy.Model) -> None:
        with target.context(**EXACT) as other, assistant.context(ctx_type="mtp", ctx_other=other) as context:
            other.decode(PROMPT)
            for use in (
                context.memory.clear,
                lambda: context.memory.seq_rm(0),
                context.snapshot,
                context.state.get,
                lambda: context.state.save_session("/nowhere/session"),
            ):
                with pytest.raises(llama_cy.ContextError, match="memory is that of ctx_other"):
                    use()

    def test_types(self, target: llama_cy.Model, assistant: llama_cy.Model) -> None:
        with pytest.raises(TypeError, match="ctx_other must be a Context, not Model"):
            assistant.context(ctx_other=target)  # type: ignore[arg-type]

    def test_pairs(self, folder: Path, target: llama_cy.Model, assistant: llama_cy.Model) -> None:
        with target.context(**EXACT) as other:
            other.decode(PROMPT)
            with pytest.raises(llama_cy.ContextError, match="ctx_other holds tokens"):
                assistant.context(ctx_type="mtp", ctx_other=other)
            assert other.memory.seq_pos_max(0) == len(PROMPT) - 1
            other.memory.clear()
            with pytest.raises(llama_cy.ContextError, match="these models are gemma4 and gemma4"):
                target.context(ctx_other=other)
            with pytest.raises(llama_cy.ContextError, match="n_ctx is that of ctx_other"):
                assistant.context(ctx_type="mtp", ctx_other=other, n_ctx=64)
            with (
                assistant.context(ctx_type="mtp", ctx_other=other) as context,
                pytest.raises(llama_cy.ContextError, match="gemma4-assistant and gemma4-assistant"),
            ):
                assistant.context(ctx_type="mtp", ctx_other=context)
            for width, changes in (
                ("width 128", {"n_embd_out": 128}),
                ("layer 0 has heads", {"n_head_kv": 1}),
                ("layer 0 has heads", {"head_dim": 32}),
            ):
                path = write_gemma4_assistant(folder / "another.gguf", **changes)
                with (
                    llama_cy.Model(path) as another,
                    pytest.raises(llama_cy.ContextError, match=width),
                ):
                    another.context(ctx_type="mtp", ctx_other=other)
        with pytest.raises(llama_cy.ClosedError):
            assistant.context(ctx_type="mtp", ctx_other=other)
        with (
            target.context(n_ctx=64, flash_attn_type="auto") as other,
            pytest.raises(llama_cy.ContextError, match="lay"),
        ):
            assistant.context(ctx_type="mtp", ctx_other=other)
        with (
            llama_cy.Model(write_qwen35(folder / "qwen35.gguf")) as foreign,
            foreign.context(**EXACT) as other,
            pytest.raises(llama_cy.ContextError, match="gemma4-assistant and qwen35"),
        ):
            assistant.context(ctx_type="mtp", ctx_other=other)
