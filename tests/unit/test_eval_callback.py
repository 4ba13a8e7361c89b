"""A function that sees every tensor: what it is given, how it ends a computation, and who keeps it alive."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from support.child import check_output, outcomes, run
from support.gemma_models import write_gemma3
from support.llama_models import write_llama
from support.oracle import relative_error
from support.precision import agree, offloaded, rounding
from support.recurrent_models import write_mamba

import llama_cy
from llama_cy import Tensor

TOKENS = [1, 5, 7, 11]


def watched(model: llama_cy.Model, function: Callable[[Tensor], object], chosen: Any = None, **params: Any) -> Any:
    return model.context(
        **{"n_ctx": 64, "n_threads": 1} | params, eval_callback=function, **({"eval_filter": chosen} if chosen else {})
    )


def one(seen: list[Tensor], name: str, op: str | None = None) -> Tensor:
    (found,) = [tensor for tensor in seen if tensor.name == name and op in (None, tensor.op)]
    return found


class TestTensor:
    @pytest.fixture
    def seen(self, tiny: llama_cy.Model) -> list[Tensor]:
        seen: list[Tensor] = []
        with watched(tiny, seen.append) as context:
            context.decode(TOKENS)
            self.logits = context.logits()
        return seen

    def test_describes_itself(self, seen: list[Tensor]) -> None:
        tensor = one(seen, "ffn_out-1", "MUL_MAT")
        assert tensor.type is llama_cy.GGMLType.F32
        assert tensor.dtype == np.float32
        assert tensor.sources[0] == "blk.1.ffn_down.weight"
        # In the last layer only the rows with outputs are left.
        assert tensor.shape == (1, 64)
        assert one(seen, "ffn_out-0", "MUL_MAT").shape == (4, 64)

    def test_all_have_data_of_their_shape(self, seen: list[Tensor]) -> None:
        assert len(seen) > 50
        for tensor in seen:
            assert (tensor.data.shape, tensor.data.dtype) == (tensor.shape, tensor.dtype), tensor.name

    def test_order_is_that_of_the_computation(self, seen: list[Tensor]) -> None:
        names = [tensor.name for tensor in seen]
        assert names[0] == "embd"
        assert names[-1] == "result_output"
        assert names.index("l_out-0") < names.index("l_out-1")

    def test_embeddings_are_rows_of_the_file(self, seen: list[Tensor], tiny_path: Path) -> None:
        weights = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(tiny_path).tensors}
        assert np.array_equal(one(seen, "embd").data, weights["token_embd.weight"][TOKENS])

    def test_a_product_is_that_of_numpy(self, seen: list[Tensor], tiny_path: Path) -> None:
        weights = {tensor.name: np.array(tensor.data) for tensor in GGUFReader(tiny_path).tensors}
        norm, gate = one(seen, "ffn_norm-0", "MUL").data, one(seen, "ffn_gate-0", "MUL_MAT").data
        assert relative_error(gate, norm @ weights["blk.0.ffn_gate.weight"].T) < rounding(1e-6)

    def test_last_is_the_logits(self, seen: list[Tensor]) -> None:
        assert (one(seen, "result_output").data == self.logits).all()

    def test_permuted_data_is_put_in_order(self, seen: list[Tensor]) -> None:
        straight = one(seen, "Qcur-0 (view)").data
        permuted = one(seen, "Qcur-0 (view) (permuted)").data
        assert straight.shape == (4, 4, 16)
        assert (permuted == straight.transpose(1, 0, 2)).all()
        assert permuted.flags.c_contiguous

    def test_data_is_a_copy(self, tiny: llama_cy.Model) -> None:
        def spoil(tensor: Tensor) -> None:
            tensor.data[:] = 7

        with watched(tiny, spoil) as context, tiny.context(n_ctx=64, n_threads=1) as other:
            context.decode(TOKENS)
            other.decode(TOKENS)
            # What is looked at is not fused with what follows.
            assert agree(context.logits(), other.logits())

    @pytest.mark.parametrize("cache", ["f16", "bf16", "q8_0", "q4_0"])
    def test_cache_types_are_read(self, tmp_path: Path, cache: str) -> None:
        # Keys as the cache keeps them against keys as computed: the distance is that of the type.
        seen: list[Tensor] = []
        path = write_llama(tmp_path / "wide.gguf", n_embd=128, n_head=4)
        with llama_cy.Model(path) as model, watched(model, seen.append, type_k=cache) as context:
            context.decode(TOKENS)
        kept = one(seen, "cache_k_l0 (view)", "VIEW")
        keys = one(seen, "Kcur-0", "ROPE").data
        assert kept.type.name == cache.upper()
        assert kept.dtype == (np.float16 if cache == "f16" else np.float32)
        error = relative_error(kept.data[:4].astype(np.float64), keys)
        assert 1e-7 < error < {"f16": 1e-3, "bf16": 1e-2, "q8_0": 1e-2, "q4_0": 0.2}[cache]


class TestFilter:
    @pytest.mark.parametrize(
        ("chosen", "names"),
        [
            ("l_out-*", ["l_out-0", "l_out-1"]),
            ("l_out-1", ["l_out-1"]),
            (["result_norm", "l_out-0"], ["l_out-0", "result_norm"]),
            (lambda tensor: tensor.op == "GET_ROWS" and "token_embd.weight" in tensor.sources, ["embd"]),
            ("nothing", []),
            ((), []),
        ],
    )
    def test_chooses(self, tiny: llama_cy.Model, chosen: Any, names: list[str]) -> None:
        seen: list[Tensor] = []
        with tiny.context(n_ctx=64, n_threads=1, eval_callback=seen.append, eval_filter=chosen) as context:
            context.decode(TOKENS)
        assert [tensor.name for tensor in seen] == names

    def test_sees_no_data(self, tiny: llama_cy.Model) -> None:
        asked: list[Tensor] = []
        with watched(tiny, print, asked.append) as context:
            context.decode(TOKENS)
        assert len(asked) > 50
        assert {tensor.data.size for tensor in asked} == {0}

    def test_changes_nothing_of_the_result(self, tiny: llama_cy.Model) -> None:
        rows = []
        for chosen in ("nothing", "ffn_out-0", "*"):
            with watched(tiny, lambda tensor: None, chosen) as context:
                context.decode(TOKENS)
                rows.append(context.logits())
        assert (rows[0] == rows[1]).all()
        assert (rows[0] == rows[2]).all()

    def test_what_it_raises_comes_out(self, tiny: llama_cy.Model) -> None:
        with watched(tiny, print, lambda tensor: 1 // 0) as context, pytest.raises(ZeroDivisionError):
            context.decode(TOKENS)

    @pytest.mark.parametrize(
        ("params", "error", "text"),
        [
            ({"eval_callback": 5}, TypeError, "callable, not int"),
            ({"eval_callback": "print"}, TypeError, "callable, not str"),
            ({"eval_callback": print, "eval_filter": 5}, TypeError, "iterable, not int"),
            ({"eval_callback": print, "eval_filter": [b"l_out-0"]}, TypeError, "not b'l_out-0'"),
            ({"eval_callback": print, "eval_filter": b"l_out"}, TypeError, "not bytes"),
            ({"eval_filter": "l_out-0"}, ValueError, "nothing to call"),
        ],
    )
    def test_bad_parameters(self, tiny: llama_cy.Model, params: Any, error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text):
            tiny.context(n_ctx=64, **params)


class Stop:
    """Says False, or raises, at the n-th tensor of a name."""

    def __init__(self, name: str, n: int = 1, error: BaseException | None = None, answer: object = False) -> None:
        self.name, self.left, self.error, self.answer = name, n, error, answer

    def __call__(self, tensor: Tensor) -> object:
        assert self.left > 0, "called again after the end"
        if tensor.name == self.name:
            self.left -= 1
            if self.left == 0:
                if self.error is not None:
                    raise self.error
                return self.answer
        return True


LAST = "result_output"


class TestEnd:
    @pytest.mark.parametrize("name", ["embd", "l_out-0", "result_norm"])
    @pytest.mark.parametrize("answer", [False, np.False_])
    def test_false_ends_a_decode(self, tiny: llama_cy.Model, name: str, answer: object) -> None:
        stop = Stop(name, answer=answer)
        with watched(tiny, stop) as context, tiny.context(n_ctx=64, n_threads=1) as other:
            with pytest.raises(llama_cy.DecodeAborted, match="ended by the eval callback"):
                context.decode(TOKENS)
            assert context.memory.seq_pos_max() == -1
            stop.left = 99
            context.decode(TOKENS)
            other.decode(TOKENS)
            assert (context.logits() == other.logits()).all()

    @pytest.mark.parametrize("answer", [None, True, 0, "", np.True_])
    def test_any_other_answer_goes_on(self, tiny: llama_cy.Model, answer: object) -> None:
        with watched(tiny, Stop("embd", answer=answer), "embd") as context:
            context.decode(TOKENS)
            assert context.memory.seq_pos_max() == 3

    def test_error_comes_out_with_its_traceback(self, tiny: llama_cy.Model) -> None:
        error = KeyError("mine")
        with watched(tiny, Stop("l_out-0", error=error)) as context:
            with pytest.raises(KeyError) as caught:
                context.decode(TOKENS)
            assert caught.value is error
            assert "raise self.error" in "".join(traceback.format_tb(error.__traceback__))
            assert context.memory.seq_pos_max() == -1

    @pytest.mark.parametrize("error", [None, KeyError("mine")])
    def test_at_the_very_last_tensor(self, tiny: llama_cy.Model, error: Exception | None) -> None:
        # Nothing is left to compute, so C calls the decode good; what it put in memory goes all the same.
        stop = Stop(LAST, error=error)
        with watched(tiny, stop) as context:
            with pytest.raises(KeyError if error else llama_cy.DecodeAborted):
                context.decode(TOKENS)
            stop.left = 99
            assert context.memory.seq_pos_max() == -1
            context.decode([3])
            assert context.memory.seq_pos_max() == 0

    def test_pieces_before_stay(self, tiny: llama_cy.Model) -> None:
        with watched(tiny, Stop("l_out-0", 3), n_batch=8) as context:
            with pytest.raises(llama_cy.DecodeAborted):
                context.decode([1] * 40)
            assert context.memory.seq_pos_max() == 15

    def test_of_a_batch(self, tiny: llama_cy.Model) -> None:
        stop = Stop("l_out-0", error=KeyError("mine"))
        batch = llama_cy.Batch(4)
        for pos, token in enumerate(TOKENS):
            batch.add(token, pos, logits=True)
        with watched(tiny, stop) as context:
            with pytest.raises(KeyError):
                context.decode(batch)
            stop.left = 99
            context.decode(batch)
            assert context.memory.seq_pos_max() == 3

    @pytest.mark.parametrize("name", ["l_out-0", LAST])
    def test_false_cancels_a_loop(self, tiny: llama_cy.Model, name: str) -> None:
        # The prompt is the first, so two tokens come out before the fourth, or three with it.
        with watched(tiny, Stop(name, 4)) as context:
            loop = context.generate([1, 2], max_tokens=20, ignore_eog=True)
            tokens = list(loop)
            assert loop.finish_reason == "cancelled"
            # A GPU computes to the end whatever is said.
            assert len(tokens) in ((3,) if name == LAST else (2, 3) if offloaded() else (2,))
            assert context.memory.seq_pos_max() == 1 + len(tokens)

    def test_false_cancels_a_prompt(self, tiny: llama_cy.Model) -> None:
        with watched(tiny, Stop("l_out-0")) as context:
            done = context.complete([1, 2], max_tokens=20)
            assert (done.text, done.finish_reason) == ("", "cancelled")

    @pytest.mark.parametrize("name", ["l_out-0", LAST])
    @pytest.mark.parametrize("how", ["generate", "stream", "complete"])
    def test_error_comes_out_of_a_loop(self, tiny: llama_cy.Model, name: str, how: str) -> None:
        stop = Stop(name, 4, error=KeyError("mine"))
        with watched(tiny, stop) as context:
            with pytest.raises(KeyError, match="mine"):
                list(getattr(context, how)([1, 2], max_tokens=20, ignore_eog=True))
            # What is held and what is known of it agree, so that a second prompt is right.
            stop.left = 99
            again = context.complete([1, 2], llama_cy.Sampler.greedy(), max_tokens=5, ignore_eog=True)
            with tiny.context(n_ctx=64, n_threads=1) as other:
                fresh = other.complete([1, 2], llama_cy.Sampler.greedy(), max_tokens=5, ignore_eog=True)
            assert fresh.tokens == again.tokens

    # A GPU does not ask on its way through a micro batch.
    @pytest.mark.cpu
    def test_cancel_from_inside(self, tiny: llama_cy.Model) -> None:
        with watched(tiny, lambda tensor: context.cancel(), "embd") as context:
            with pytest.raises(llama_cy.DecodeAborted):
                context.decode(TOKENS)
            assert context.memory.seq_pos_max() == -1

    @pytest.mark.parametrize("use", ["decode([1])", "close()", "logits()", "memory.clear()", "complete([1])"])
    def test_context_is_busy_inside(self, tiny: llama_cy.Model, use: str) -> None:
        with (
            watched(tiny, lambda tensor: eval(f"context.{use}", {"context": context}), "embd") as context,
            pytest.raises(llama_cy.ContextBusyError),
        ):
            context.decode(TOKENS)

    @pytest.mark.parametrize("write", [write_gemma3, write_mamba])
    def test_other_architectures(self, tmp_path: Path, write: Callable[[Path], Path]) -> None:
        stop = Stop("l_out-0")
        with llama_cy.Model(write(tmp_path / "model.gguf")) as model, watched(model, stop) as context:
            with pytest.raises(llama_cy.DecodeAborted):
                context.decode(TOKENS)
            stop.left = 99
            context.memory.clear()
            context.decode(TOKENS)
            with model.context(n_ctx=64, n_threads=1) as other:
                other.decode(TOKENS)
                assert agree(
                    context.logits(), other.logits(), kind="recurrent" if write is write_mamba else "attention"
                )


class TestLife:
    def test_context_keeps_the_function(self, tiny: llama_cy.Model) -> None:
        class Function:
            count = 0

            def __call__(self, tensor: Tensor) -> None:
                Function.count += 1

        function = Function()
        gone = weakref.ref(function)
        context = watched(tiny, function)
        del function
        gc.collect()
        context.decode(TOKENS)
        assert Function.count > 50
        context.close()
        gc.collect()
        assert gone() is None

    def test_a_cycle_through_the_function_is_collected(self, tiny: llama_cy.Model) -> None:
        before = llama_cy.live_objects()["context"]

        class Function:
            context: Any = None

            def __call__(self, tensor: Tensor) -> None:
                assert self.context is not None

        function = Function()
        function.context = watched(tiny, function)
        function.context.decode(TOKENS)
        del function
        gc.collect()
        assert llama_cy.live_objects()["context"] == before

    def test_threads_with_functions_of_their_own(self, tiny: llama_cy.Model) -> None:
        counts = [0] * 3

        def work(i: int) -> None:
            def count(tensor: Tensor) -> None:
                counts[i] += 1

            with watched(tiny, count, "l_out-*") as context:
                for _ in range(20):
                    context.decode([i])

        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [40] * 3

    @pytest.mark.parametrize("where", ["ask", "take"])
    def test_daemon_thread_in_the_function_at_exit(self, tiny_path: Path, where: str) -> None:
        source = """
        import sys, threading, time
        import llama_cy
        begun = threading.Event()
        def look(tensor):
            begun.set()
            time.sleep(0.0001)
            return True
        model = llama_cy.Model(sys.argv[1])
        params = {"ask": {"eval_callback": print, "eval_filter": lambda tensor: look(tensor) and False},
                  "take": {"eval_callback": look}}[sys.argv[2]]
        context = model.context(n_ctx=512, n_threads=2, **params)
        def work():
            while True:
                context.complete([1, 2], max_tokens=50, ignore_eog=True)
        threading.Thread(target=work, daemon=True).start()
        begun.wait()
        time.sleep(0.05)
        sys.exit(5)
        """
        child = run(source, tiny_path, where)
        assert (child.code, child.stdout, child.stderr) == (5, "", "")

    def test_ctrl_c_inside_the_function(self, tiny_path: Path) -> None:
        source = """
        import os, signal, sys
        import llama_cy
        signal.signal(signal.SIGINT, signal.default_int_handler)
        context = llama_cy.Model(sys.argv[1]).context(
            n_ctx=64, eval_callback=lambda tensor: os.kill(os.getpid(), signal.SIGINT), eval_filter="embd")
        try:
            context.decode([1, 2])
        except KeyboardInterrupt:
            print(context.memory.seq_pos_max())
        """
        assert check_output(source, tiny_path) == "-1\n"

    def test_watch_without_its_context_is_harmless(self, tiny_path: Path) -> None:
        setup = """
        import sys
        import llama_cy
        from llama_cy.eval_callback import EvalCallback, Watch
        model = llama_cy.Model(sys.argv[3])
        kept = EvalCallback(print, "nothing")
        context = model.context(n_ctx=64, eval_callback=kept)
        """
        cases = {
            "empty": "model.context(n_ctx=64, eval_callback=EvalCallback.__new__(EvalCallback)).decode([1])",
            "base": "model.context(n_ctx=64, eval_callback=Watch()).decode([1])",
            "shared": "model.context(n_ctx=64, eval_callback=kept)",
        }
        found = outcomes(setup, cases, tiny_path)
        assert found["empty"].raised[:1] == ("TypeError",)
        assert found["base"].raised == ()
        assert found["shared"].raised[:1] == ("ValueError",)
