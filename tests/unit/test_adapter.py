"""LoRA adapters: what they do to the logits, and who keeps them alive."""

from __future__ import annotations

import gc
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.child import check_output
from support.llama_models import write_llama
from support.lora import Pairs, random_lora, write_lora
from support.oracle import LlamaOracle, relative_error
from support.precision import rounding
from support.vocabulary import spm

import llama_cy

N_VOCAB = spm().n_tokens
TOKENS = [1, 5, 7, 11, 2]
# As in conformance/test_logits.py, where exact means F32 throughout.
EXACT: dict[str, Any] = {
    "n_ctx": 64, "n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn_type": "disabled",
}  # fmt: skip
TOLERANCE = rounding(5e-5)

SHAPES: dict[str, tuple[int, ...]] = {
    "blk.0.attn_q.weight": (64, 64),
    "blk.0.attn_v.weight": (32, 64),
    "blk.1.ffn_down.weight": (64, 96),
    "output.weight": (N_VOCAB, 64),
}
FIRST = random_lora(SHAPES, rank=2, seed=1)
SECOND = random_lora({name: SHAPES[name] for name in ("blk.0.attn_q.weight", "output.weight")}, rank=5, seed=2)


@pytest.fixture
def adapter(tiny: llama_cy.Model, tmp_path: Path) -> Iterator[llama_cy.LoraAdapter]:
    with tiny.load_adapter(write_lora(tmp_path / "first.gguf", FIRST, alpha=8)) as adapter:
        yield adapter


def merged(path: Path, *changes: tuple[Pairs, float]) -> NDArray[np.float64]:
    """Return the oracle's last row for weights that the pairs were added to."""
    oracle = LlamaOracle(path)
    for pairs, scale in changes:
        for name, (a, b) in pairs.items():
            oracle.add(name, scale * (b.astype(np.float64) @ a))
    row: NDArray[np.float64] = oracle.logits(TOKENS)[-1]
    return row


def row_of(context: llama_cy.Context) -> NDArray[np.float32]:
    context.memory.clear()
    context.decode(TOKENS)
    return context.logits()


class TestEffect:
    @pytest.mark.parametrize("alpha", [None, 8, -1.5])
    @pytest.mark.parametrize("scale", [1.0, 0.25, -2.0])
    def test_is_that_of_merged_weights(
        self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path, alpha: float | None, scale: float
    ) -> None:
        factor = 1 if alpha is None else alpha / 2
        path = write_lora(tmp_path / "lora.gguf", FIRST, alpha=alpha)
        with tiny.load_adapter(path) as adapter, tiny.context(**EXACT) as context:
            plain = row_of(context)
            context.set_adapters({adapter: scale})
            want = merged(tiny_path, (FIRST, scale * factor))
            assert relative_error(row_of(context), want) < TOLERANCE
            assert relative_error(plain, want) > 0.01
            context.set_adapters(None)
            assert np.array_equal(row_of(context), plain)

    def test_of_two_at_once(self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path) -> None:
        first = tiny.load_adapter(write_lora(tmp_path / "first.gguf", FIRST, alpha=2))
        second = llama_cy.LoraAdapter(tiny, write_lora(tmp_path / "second.gguf", SECOND))
        with tiny.context(**EXACT) as context:
            for pairs in ([(first, 0.5), (second, -1)], {second: -1.0, first: 0.5}):
                context.set_adapters(pairs)
                assert context.adapters == {first: 0.5, second: -1.0}
                want = merged(tiny_path, (FIRST, 0.5), (SECOND, -1))
                assert relative_error(row_of(context), want) < TOLERANCE
            # One after the other, without a decode in between, and a scale of its own for one given alone.
            context.set_adapters([first])
            context.set_adapters([second])
            assert context.adapters == {second: 1.0}
            assert relative_error(row_of(context), merged(tiny_path, (SECOND, 1))) < TOLERANCE
            context.set_adapters({first: 0})
            assert relative_error(row_of(context), merged(tiny_path)) < TOLERANCE

    @pytest.mark.parametrize("rank", [1, 3])
    def test_on_the_embedding_as_we_write_it(
        self, tiny: llama_cy.Model, tiny_path: Path, tmp_path: Path, rank: int
    ) -> None:
        pairs = random_lora({"token_embd.weight": (N_VOCAB, 64), **SHAPES}, rank=rank, seed=3)
        llama_cy.write_lora(tmp_path / "lora.gguf", tiny, pairs, alpha=2.0 * rank, metadata={"general.name": "x"})
        assert [path.name for path in tmp_path.iterdir()] == ["lora.gguf"]
        with tiny.load_adapter(tmp_path / "lora.gguf") as adapter, tiny.context(**EXACT) as context:
            context.set_adapters([adapter])
            assert relative_error(row_of(context), merged(tiny_path, (pairs, 2))) < TOLERANCE
            assert adapter.metadata["general.name"] == "x"

    def test_on_experts(self, tmp_path: Path) -> None:
        path = write_llama(tmp_path / "moe.gguf", n_expert=4, seed=4)
        pairs = random_lora({"blk.0.ffn_up_exps.weight": (4, 96, 64), "blk.1.ffn_down_exps.weight": (4, 64, 96)})
        with llama_cy.Model(path, n_gpu_layers=0) as model, model.context(**EXACT) as context:
            llama_cy.write_lora(tmp_path / "lora.gguf", model, pairs)
            adapter = model.load_adapter(tmp_path / "lora.gguf")
            context.set_adapters([adapter])
            want = merged(path, (pairs, 1))
            assert relative_error(row_of(context), want) < TOLERANCE
            assert relative_error(merged(path), want) > 0.01

    def test_is_forgotten_by_prefix_reuse(self, tiny: llama_cy.Model, adapter: llama_cy.LoraAdapter) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context:
            greedy = llama_cy.Sampler.greedy()
            texts = []
            for adapters in (None, [adapter], None, [adapter]):
                context.set_adapters(adapters)
                done = context.complete(TOKENS, greedy, max_tokens=12)
                assert done.reused == 0
                texts.append(done.tokens)
            assert texts[0] == texts[2] != texts[1] == texts[3]

    def test_on_the_demo_model(self, demo: llama_cy.Model, tmp_path: Path) -> None:
        # Rank 1: what the last layer makes of this prompt turns into a push towards one word.
        seen: dict[str, NDArray[Any]] = {}
        (wanted,) = demo.vocab.tokenize(" duck", add_special=False)
        prompt = "Once upon a time, there was a little"

        def note(tensor: llama_cy.Tensor) -> None:
            seen[tensor.name] = tensor.data[-1]

        last = demo.n_layer - 1
        with demo.context(n_ctx=64, eval_callback=note) as context:
            context.decode(demo.vocab.tokenize(prompt))
            inside, hidden = seen[f"ffn_swiglu-{last}"], seen[f"l_out-{last}"]
            context.memory.clear()
            context.decode([wanted])
            direction = seen["embd"]
        a = inside[None] / (inside @ inside)
        b = direction[:, None] * (np.linalg.norm(hidden) / np.linalg.norm(direction))
        llama_cy.write_lora(tmp_path / "duck.gguf", demo, {f"blk.{last}.ffn_down.weight": (a, b)})
        with demo.load_adapter(tmp_path / "duck.gguf") as adapter, demo.context(n_ctx=64) as context:
            greedy = llama_cy.Sampler.greedy()
            texts = []
            for scale in (0, 1, 0):
                context.set_adapters({adapter: scale})
                texts.append(context.complete(prompt, greedy, max_tokens=8).text)
            assert texts[0] == texts[2]
            assert not texts[0].startswith(" duck")
            assert texts[1].startswith(" duck")
            assert len(texts[1]) > len(" duck")
            greedy.close()


class TestFacts:
    def test_metadata(self, tiny: llama_cy.Model, tmp_path: Path) -> None:
        extra = {"general.description": "d" * 1000 + "é", "k" * 300: "long key", "n": 5, "none": ""}
        path = write_lora(tmp_path / "lora.gguf", FIRST, alpha=16, metadata=extra)
        with tiny.load_adapter(path) as adapter:
            want = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}
            want |= {"adapter.lora.alpha": "16.000000"} | {key: str(value) for key, value in extra.items()}
            assert adapter.metadata == want
            for key, value in want.items():
                assert adapter.meta_val_str(key) == value
            assert adapter.meta_val_str("absent") is None
            assert adapter.meta_val_str("general.type\0") is None
            with pytest.raises(TypeError, match="key must be str, not int"):
                adapter.meta_val_str(5)  # type: ignore[arg-type]

    @pytest.mark.parametrize("tokens", [[], [7], [3, 1, 2]])
    def test_alora(self, tiny: llama_cy.Model, tmp_path: Path, tokens: list[int]) -> None:
        extra = {"adapter.alora.invocation_tokens": tokens} if tokens else {}
        with tiny.load_adapter(write_lora(tmp_path / "lora.gguf", FIRST, metadata=extra)) as adapter:
            assert adapter.alora_invocation_tokens == tuple(tokens)

    def test_names(self, tiny: llama_cy.Model, adapter: llama_cy.LoraAdapter) -> None:
        assert adapter.model is tiny
        assert adapter.path.endswith("first.gguf")
        assert repr(adapter) == f"<LoraAdapter {adapter.path!r}>"
        assert adapter
        assert not adapter.closed
        adapter.close()
        assert repr(adapter).endswith("closed>")
        assert not adapter

    def test_counts(self, tiny: llama_cy.Model, tmp_path: Path) -> None:
        before = llama_cy.live_objects()["adapter"]
        adapter = tiny.load_adapter(write_lora(tmp_path / "lora.gguf", FIRST))
        assert llama_cy.live_objects()["adapter"] == before + 1
        adapter.close()
        assert llama_cy.live_objects()["adapter"] == before


class TestSources:
    """The same adapter, however it is handed over."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_lora(tmp_path / "lora.gguf", FIRST, alpha=8)

    def check(self, tiny: llama_cy.Model, tiny_path: Path, source: Any) -> llama_cy.LoraAdapter:
        adapter = tiny.load_adapter(source)
        with tiny.context(**EXACT) as context:
            context.set_adapters([adapter])
            assert relative_error(row_of(context), merged(tiny_path, (FIRST, 4))) < TOLERANCE
        return adapter

    def test_paths(self, tiny: llama_cy.Model, tiny_path: Path, path: Path) -> None:
        for source in (path, str(path), os.fsencode(path)):
            assert self.check(tiny, tiny_path, source).path == str(path)

    def test_open_file(self, tiny: llama_cy.Model, tiny_path: Path, path: Path) -> None:
        with path.open("rb") as file:
            assert self.check(tiny, tiny_path, file).path == str(path)
            assert file.read(4) == b"GGUF"

    def test_descriptor(self, tiny: llama_cy.Model, tiny_path: Path, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            self.check(tiny, tiny_path, fd)
            assert os.lseek(fd, 0, os.SEEK_CUR) == 0
        finally:
            os.close(fd)

    def test_within_a_file(self, tiny: llama_cy.Model, tiny_path: Path, path: Path, tmp_path: Path) -> None:
        (tmp_path / "archive").write_bytes(b"x" * 1001 + path.read_bytes())
        with (tmp_path / "archive").open("rb") as file:
            file.read(1001)
            self.check(tiny, tiny_path, file)
            assert file.read(4) == b"GGUF"

    def test_in_memory(self, tiny: llama_cy.Model, tiny_path: Path, path: Path) -> None:
        self.check(tiny, tiny_path, io.BytesIO(path.read_bytes()))

    def test_what_is_none(self, tiny: llama_cy.Model, path: Path) -> None:
        nothing: list[Any] = [None, 1.5, [], True]
        for source in nothing:
            with pytest.raises(TypeError, match="path, an open file or a descriptor"):
                tiny.load_adapter(source)
        with pytest.raises(TypeError, match="binary mode"):
            tiny.load_adapter(io.StringIO("GGUF"))  # type: ignore[arg-type]
        with pytest.raises(OSError, match="descriptor"):
            tiny.load_adapter(-1)
        with path.open("rb") as file:
            file.seek(1)
            with pytest.raises(llama_cy.ModelLoadError, match="starts with"):
                tiny.load_adapter(file)


class TestSetting:
    def test_what_is_refused(self, tiny: llama_cy.Model, tiny_path: Path, adapter: llama_cy.LoraAdapter) -> None:
        with tiny.context(**EXACT) as context:
            context.set_adapters({adapter: 0.5})
            want = row_of(context)
            cases: list[tuple[Any, type[Exception], str]] = [
                ({adapter: float("nan")}, ValueError, "scale is nan"),
                ({adapter: float("inf")}, ValueError, "scale is inf"),
                ({adapter: 1e39}, ValueError, "out of range"),
                ({adapter: "1"}, TypeError, "must be a number"),
                ([(adapter, 1), (adapter, 2)], ValueError, "twice"),
                ([adapter, adapter], ValueError, "twice"),
                ([None], TypeError, "LoraAdapter"),
                ([(adapter, 1, 2)], TypeError, "pairs"),
                ("adapter", TypeError, "not str"),
                (adapter, TypeError, "iterable of pairs"),
                (5, TypeError, "not int"),
            ]
            for adapters, error, match in cases:
                with pytest.raises(error, match=match):
                    context.set_adapters(adapters)
            with llama_cy.Model(tiny_path) as other:
                foreign = other.load_adapter(adapter.path)
            with pytest.raises(ValueError, match="another model"):
                context.set_adapters([adapter, foreign])
            closed = tiny.load_adapter(adapter.path)
            closed.close()
            with pytest.raises(llama_cy.ClosedError, match="adapter is closed"):
                context.set_adapters([closed])
            assert context.adapters == {adapter: 0.5}
            assert np.array_equal(row_of(context), want)

    def test_model_with_the_vocabulary_alone(self, tiny_path: Path, adapter: llama_cy.LoraAdapter) -> None:
        with llama_cy.Model(tiny_path, vocab_only=True) as model, pytest.raises(ValueError, match="vocab_only"):
            model.load_adapter(adapter.path)

    def test_loop_under_way_notices(self, tiny: llama_cy.Model, adapter: llama_cy.LoraAdapter) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context:
            loop = context.generate(TOKENS, max_tokens=5, ignore_eog=True)
            next(loop)
            context.set_adapters([adapter])
            with pytest.raises(llama_cy.LlamaError, match="used by something else"):
                next(loop)
            loop.close()


class TestLife:
    def test_context_keeps_it(self, tiny_path: Path, tmp_path: Path) -> None:
        model = llama_cy.Model(tiny_path)
        adapter = model.load_adapter(write_lora(tmp_path / "lora.gguf", FIRST))
        context = model.context(**EXACT)
        context.set_adapters([adapter])
        adapter.close()
        model.close()
        del adapter, model
        gc.collect()
        assert relative_error(row_of(context), merged(tiny_path, (FIRST, 1))) < TOLERANCE
        before = llama_cy.live_objects()["adapter"]
        context.set_adapters(None)
        assert llama_cy.live_objects()["adapter"] == before - 1
        assert relative_error(row_of(context), merged(tiny_path)) < TOLERANCE
        context.close()

    def test_it_keeps_the_weights(self, tiny_path: Path, tmp_path: Path) -> None:
        model = llama_cy.Model(tiny_path)
        adapter = model.load_adapter(write_lora(tmp_path / "lora.gguf", FIRST))
        model.close()
        assert adapter.meta_val_str("adapter.type") == "lora"
        count = llama_cy.live_objects()["model"]
        adapter.close()
        del model, adapter
        assert llama_cy.live_objects()["model"] == count - 1

    def test_load_and_free_in_threads(self, tiny: llama_cy.Model, adapter: llama_cy.LoraAdapter) -> None:
        path, errors = adapter.path, []

        def work() -> None:
            try:
                for _ in range(20):
                    tiny.load_adapter(path).close()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    def test_exit_with_all_alive(self, tiny_path: Path, adapter: llama_cy.LoraAdapter) -> None:
        source = """
        import sys
        import llama_cy
        model = llama_cy.Model(sys.argv[1])
        adapter = model.load_adapter(sys.argv[2])
        context = model.context(n_ctx=64, n_threads=1)
        context.set_adapters({adapter: 0.5})
        context.decode([1, 2])
        kept = [adapter, context, model]
        print("done")
        """
        assert check_output(source, tiny_path, adapter.path) == "done\n"
