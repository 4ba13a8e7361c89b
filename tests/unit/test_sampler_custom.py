"""Samplers of one's own: what they see and change, what they raise, and C's function tables."""

from __future__ import annotations

import ctypes
import gc
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

import llama_cy
from llama_cy import Candidates, Sampler, SamplerChain

ROW = np.array([1, 5, 3, 4, 2], dtype=np.float32)


@pytest.fixture
def context(demo: llama_cy.Model) -> Iterator[llama_cy.Context]:
    with demo.context(n_ctx=256, n_threads=1) as opened:
        yield opened


def best(candidates: Candidates) -> None:
    candidates.selected = int(np.argmax(candidates.logits))


class Recorder:
    """Ban what was accepted last, and count."""

    name = "recorder"

    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.resets = 0

    def apply(self, candidates: Candidates) -> None:
        candidates.logits[np.isin(candidates.ids, self.accepted[-1:])] = -np.inf

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def reset(self) -> None:
        self.resets += 1
        self.accepted.clear()


class TestCandidates:
    def test_of_a_row(self) -> None:
        candidates = Candidates(ROW)
        assert (len(candidates), candidates.selected, candidates.token, candidates.sorted) == (5, None, None, False)
        assert candidates.ids.tolist() == [0, 1, 2, 3, 4]
        candidates.logits[0] = 9
        assert candidates.data["logit"].tolist() == [9, 5, 3, 4, 2]

    def test_samplers_change_them(self) -> None:
        candidates = Candidates(ROW)
        with SamplerChain(Sampler.top_k(3), Sampler.temp(2), Sampler.greedy()) as chain:
            chain.apply(candidates)
        assert (candidates.ids.tolist(), candidates.logits.tolist()) == ([1, 3, 2], [2.5, 2, 1.5])
        assert (candidates.sorted, candidates.selected, candidates.token) == (True, 0, 1)
        assert repr(candidates) == "<Candidates, 3 tokens, token 1 selected>"

    def test_keep(self) -> None:
        candidates = Candidates(ROW)
        with Sampler.top_k(5) as sampler:
            sampler.apply(candidates)
        candidates.keep(candidates.logits > 2)
        assert (candidates.ids.tolist(), candidates.sorted) == ([1, 3, 2], True)
        candidates.keep(slice(2))
        assert (candidates.ids.tolist(), candidates.sorted) == ([1, 3], True)
        candidates.keep([1, 0])
        assert (candidates.ids.tolist(), candidates.sorted) == ([3, 1], False)
        with pytest.raises(ValueError, match="0 candidates would be left"):
            candidates.keep([])

    @pytest.mark.parametrize("row", [[], [[1.0]], 5, np.zeros((2, 2))])
    def test_no_row(self, row: Any) -> None:
        with pytest.raises(ValueError, match="one row"):
            Candidates(row)

    def test_no_numbers(self) -> None:
        with pytest.raises(TypeError, match="must be numbers"):
            Candidates(["a"])
        with Sampler.greedy() as sampler, pytest.raises(TypeError, match="must be Candidates"):
            sampler.apply(ROW)  # type: ignore[arg-type]


class TestEffect:
    """Samplers of llama.cpp against their formulas."""

    def left(self, sampler: Sampler, row: Any = ROW) -> Candidates:
        candidates = Candidates(row)
        with sampler:
            sampler.apply(candidates)
        return candidates

    def test_typical(self) -> None:
        p = np.exp(ROW) / np.exp(ROW).sum()
        shift = np.abs(-np.log(p) + (p * np.log(p)).sum())
        order = np.argsort(shift)
        n = int(np.searchsorted(np.cumsum(p[order]), 0.5)) + 1
        assert self.left(Sampler.typical(0.5)).ids.tolist() == order[:n].tolist()

    def test_temp_ext(self) -> None:
        p = np.exp(ROW) / np.exp(ROW).sum()
        entropy = -(p * np.log(p)).sum() / np.log(ROW.size)
        t = 0.5 + 2 * 0.5 * entropy**2
        found = self.left(Sampler.temp_ext(1, 0.5, 2))
        assert np.allclose(found.logits, np.sort(ROW)[::-1] / t, rtol=1e-5)

    def test_xtc(self) -> None:
        # Those of 0.23 and 0.64 are probable, and all but the last of them go.
        assert self.left(Sampler.xtc(1, 0.2, seed=1)).ids.tolist() == [3, 2, 4, 0]
        assert len(self.left(Sampler.xtc(1, 0.2, min_keep=5, seed=1))) == 5

    def test_top_n_sigma(self) -> None:
        bound = np.max(ROW) - 1.2 * ROW.std()
        assert (np.isfinite(self.left(Sampler.top_n_sigma(1.2)).logits) == (bound <= ROW)).all()

    def test_dry(self, demo: llama_cy.Model) -> None:
        a, b, c = 400, 500, 600
        with Sampler.dry(demo.vocab, 2, 3, 2, seq_breakers=[]) as sampler:
            for token in (a, b, c, a, b):
                sampler.accept(token)
            candidates = Candidates(np.zeros(demo.vocab.n_tokens, dtype=np.float32))
            sampler.apply(candidates)
        # One more would repeat three tokens, of which the two before it stand already.
        assert np.flatnonzero(candidates.logits).tolist() == [c]
        assert candidates.logits[c] == -2

    def test_infill(self, demo: llama_cy.Model) -> None:
        row = np.full(demo.vocab.n_tokens, -50, dtype=np.float32)
        assert demo.vocab.eos is not None
        row[[demo.vocab.eos, 400]] = 5
        with SamplerChain(Sampler.top_k(3), Sampler.infill(demo.vocab)) as chain:
            candidates = Candidates(row)
            chain.apply(candidates)
        assert candidates.ids.tolist() == [demo.vocab.eos]

    def test_mirostat_keeps_to_its_target(self) -> None:
        row = np.random.default_rng(1).normal(0, 3, 500).astype(np.float32)
        log2 = (row - np.log(np.exp(row.astype(np.float64)).sum())) / np.log(2)
        for make in (lambda tau: Sampler.mirostat(500, 1, tau), lambda tau: Sampler.mirostat_v2(1, tau)):
            surprise = [
                -np.mean([log2[make_one.sample_logits(row)] for _ in range(400)]) for make_one in map(make, (1, 4))
            ]
            assert surprise[0] < surprise[1] - 1

    def test_adaptive_p_keeps_to_its_target(self) -> None:
        row = np.log(np.array([0.5, 0.25, 0.125, 0.0625, 0.0625], dtype=np.float32))
        means = []
        for target in (0.1, 0.5):
            with Sampler.adaptive_p(target, seed=1) as sampler:
                means.append(np.mean([np.exp(row[sampler.sample_logits(row)]) for _ in range(300)]))
        assert means[0] < 0.2
        assert means[1] > 0.4


class TestPython:
    def test_function_selects(self, context: llama_cy.Context) -> None:
        want = context.complete("Once upon", Sampler.greedy(), max_tokens=9).tokens
        for sampler in (Sampler.init(best), SamplerChain(Sampler.top_k(5), Sampler.init(best))):
            assert context.complete("Once upon", sampler, max_tokens=9).tokens == want
            assert list(context.generate("Once upon", sampler, max_tokens=9)) == want
            assert "".join(context.stream("Once upon", sampler, max_tokens=9)) == context.vocab.detokenize(want)

    def test_object_sees_what_happens(self, context: llama_cy.Context) -> None:
        recorder = Recorder()
        chain = SamplerChain(Sampler.init(recorder), Sampler.greedy())
        assert chain.get(0).name == "recorder"
        done = context.complete("Once upon", chain, max_tokens=9, ignore_eog=True)
        assert (recorder.accepted, recorder.resets) == (done.tokens, 1)
        assert all(one != other for one, other in zip(done.tokens, done.tokens[1:], strict=False))

    def test_clone_is_deep_or_theirs(self) -> None:
        class Cloned(Recorder):
            def clone(self) -> Cloned:
                twin = Cloned()
                twin.accepted = [*self.accepted, -1]
                return twin

        for cls, want in ((Recorder, 1), (Cloned, 2)):
            target = cls()
            sampler = SamplerChain(Sampler.init(target), Sampler.greedy())
            sampler.accept(5)
            twin = sampler.clone()
            twin.accept(6)
            assert target.accepted == [5]
            other = SamplerChain(Sampler.init(cls()), Sampler.greedy())
            other.copy(sampler)
            found = weakref.ref(target)
            del target, sampler
            gc.collect()
            assert found() is None, want

    def test_kept_candidates_stay(self, context: llama_cy.Context) -> None:
        kept: list[Candidates] = []
        sampler = SamplerChain(Sampler.init(kept.append), Sampler.greedy())
        context.complete("Once upon", sampler, max_tokens=3)
        sampler.close()
        assert [len(candidates) for candidates in kept] == [context.n_vocab] * 3
        assert not np.array_equal(kept[0].logits, kept[1].logits)

    def test_shrinks_and_sorts(self) -> None:
        def three(candidates: Candidates) -> None:
            candidates.keep(np.argsort(-candidates.logits)[:3])
            candidates.sorted = True

        candidates = Candidates(ROW)
        with SamplerChain(Sampler.init(three), Sampler.top_k(2)) as chain:
            chain.apply(candidates)
        assert candidates.ids.tolist() == [1, 3]

    def test_many_rows(self) -> None:
        rows = np.random.default_rng(1).normal(size=(4, 900)).astype(np.float32)
        chains = [Sampler.init(best) for _ in range(4)]
        assert llama_cy.sample_rows(chains, rows, n_threads=4).tolist() == rows.argmax(1).tolist()

    def test_busy_meanwhile(self) -> None:
        found: list[type[Exception]] = []

        def again(candidates: Candidates) -> None:
            try:
                sampler.sample_logits(ROW)
            except llama_cy.ContextBusyError as error:
                found.append(type(error))
            best(candidates)

        sampler = Sampler.init(again)
        assert sampler.sample_logits(ROW) == 1
        assert found == [llama_cy.ContextBusyError]
        sampler.close()


def worst(candidates: Candidates) -> None:
    raise LookupError("nothing here")


class TestRaises:
    @pytest.mark.parametrize("use", ["generate", "stream", "complete"])
    def test_comes_out_of_the_loop(self, context: llama_cy.Context, use: str) -> None:
        target = Recorder()

        def sometimes(candidates: Candidates) -> None:
            if len(target.accepted) == 3:
                raise LookupError("nothing here")

        # What it draws must be what it would have drawn: nothing behind the one that raised has run.
        chain = SamplerChain(Sampler.init(target), Sampler.init(sometimes), Sampler.dist(4))
        loop = getattr(context, "stream" if use == "complete" else use)(
            "Once upon", chain, max_tokens=8, ignore_eog=True
        )
        parts: list[Any] = []
        run = loop.complete if use == "complete" else lambda: parts.extend(loop)
        with pytest.raises(LookupError, match="nothing here") as caught:
            run()
        assert "sometimes" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert (len(loop.tokens), loop.finish_reason) == (3, None)
        target.accepted.append(0)
        if use == "complete":
            assert loop.complete().text == context.vocab.detokenize(loop.tokens)
        else:
            parts += list(loop)
            assert ("".join(parts) if use == "stream" else parts) in (
                loop.tokens,
                context.vocab.detokenize(loop.tokens),
            )
        whole = SamplerChain(Sampler.init(Recorder()), Sampler.dist(4))
        assert len(loop.tokens) == 8
        assert loop.tokens[:3] == context.complete("Once upon", whole, max_tokens=3, ignore_eog=True).tokens

    def test_from_each_method(self) -> None:
        class Worst(Recorder):
            def fail(self, *_: Any) -> Any:
                raise LookupError("nothing here")

        uses: dict[str, Callable[[Sampler], object]] = {
            "apply": lambda sampler: sampler.sample_logits(ROW),
            "accept": lambda sampler: sampler.accept(1),
            "reset": lambda sampler: sampler.reset(),
            "clone": lambda sampler: sampler.clone(),
        }
        for name, use in uses.items():
            target = type("Bad", (Worst,), {name: Worst.fail})()
            with SamplerChain(Sampler.init(target), Sampler.greedy()) as chain:
                with pytest.raises(LookupError, match="nothing here"):
                    use(chain)
                # It is raised once.
                for other in uses.keys() - {name, "apply"}:
                    uses[other](chain)
        with pytest.raises(LookupError):
            llama_cy.sample_rows([Sampler.init(worst), Sampler.greedy()], np.stack([ROW, ROW]), n_threads=2)
        with pytest.raises(LookupError):
            Sampler.init(worst).apply(Candidates(ROW))

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_those_that_end_a_program(self, context: llama_cy.Context, error: type[BaseException]) -> None:
        def stop(_: Candidates) -> None:
            raise error

        with pytest.raises(error):
            context.complete("Once upon", SamplerChain(Sampler.init(stop), Sampler.greedy()), max_tokens=3)

    BAD: ClassVar[dict[str, tuple[Callable[[Candidates], None], type[Exception], str]]] = {
        "selected": (lambda c: setattr(c, "selected", 5), ValueError, "selected is 5"),
        "no index": (lambda c: setattr(c, "selected", "1"), TypeError, "selected must be an integer"),
        "nan": (lambda c: c.logits.__setitem__(1, np.nan), ValueError, "NaN or infinity"),
        "inf": (lambda c: c.logits.__setitem__(1, np.inf), ValueError, "NaN or infinity"),
        "id": (lambda c: c.ids.__setitem__(1, 5), ValueError, "out of range"),
        "negative": (lambda c: c.ids.__setitem__(1, -1), ValueError, "out of range"),
        "empty": (lambda c: setattr(c, "data", c.data[:0]), ValueError, "0 candidates"),
        "more": (lambda c: setattr(c, "data", np.repeat(c.data, 2)), ValueError, "10 candidates"),
        "dtype": (lambda c: setattr(c, "data", c.logits), TypeError, "not float32"),
        "no array": (lambda c: setattr(c, "data", None), TypeError, "NoneType"),
        "shape": (lambda c: setattr(c, "data", c.data.reshape(5, 1)), TypeError, "one row"),
        "sorted": (lambda c: setattr(c, "sorted", True), ValueError, "do not fall"),
    }

    @pytest.mark.parametrize("name", BAD)
    def test_bad_candidates(self, name: str) -> None:
        function, error, message = self.BAD[name]
        with Sampler.init(function) as sampler, pytest.raises(error, match=message):
            sampler.sample_logits(ROW)

    @pytest.mark.parametrize("target", [5, None, "apply", type("Bad", (), {"apply": 5})()])
    def test_no_sampler(self, target: Any) -> None:
        with pytest.raises(TypeError, match="must be callable"):
            Sampler.init(target)

    def test_bad_names(self) -> None:
        for name, error in ((5, TypeError), ("grammar", ValueError), ("a\0b", ValueError)):
            with pytest.raises(error):
                Sampler.init(type("Bad", (Recorder,), {"name": name})())
        with pytest.raises(TypeError, match="goes with a capsule"):
            Sampler.init(best, object())


class Data(ctypes.Structure):
    _fields_ = (("id", ctypes.c_int32), ("logit", ctypes.c_float), ("p", ctypes.c_float))


class Array(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.POINTER(Data)),
        ("size", ctypes.c_size_t),
        ("selected", ctypes.c_int64),
        ("sorted", ctypes.c_bool),
    )


APPLY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.POINTER(Array))


class Table(ctypes.Structure):
    """The head of llama_sampler_i; what follows is null."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("accept", ctypes.c_void_p),
        ("apply", APPLY),
        ("rest", ctypes.c_void_p * 9),
    )


def capsule(pointer: Any, name: bytes | None) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    return new(pointer, name, None)


NAME = b"llama_cy.llama_sampler_i"
CONTEXT = b"llama_cy.llama_sampler_context_t"


def select_last(_: int, array: Any) -> None:
    array.contents.selected = array.contents.size - 1


class TestTable:
    TABLE = Table(apply=APPLY(select_last))
    NUMBER = ctypes.c_int(5)

    def test_apply(self, context: llama_cy.Context) -> None:
        sampler = Sampler.init(capsule(ctypes.addressof(self.TABLE), NAME))
        assert (sampler.name, sampler.sample_logits(ROW)) == ("", 4)
        chain = SamplerChain(Sampler.top_k(2), sampler)
        twin = chain.clone()
        chain.close()
        assert twin.sample_logits(ROW) == 3
        assert len(context.complete("Once upon", twin, max_tokens=3).tokens) == 3

    def test_no_clone(self) -> None:
        table = capsule(ctypes.addressof(self.TABLE), NAME)
        with Sampler.init(table, capsule(ctypes.addressof(self.NUMBER), CONTEXT)) as sampler:
            assert sampler.sample_logits(ROW) == 4
            with pytest.raises(llama_cy.LlamaError, match="does not support cloning"):
                sampler.clone()
            with SamplerChain(Sampler.init(table)) as chain:
                chain.clone().close()

    def test_bad_capsules(self) -> None:
        pointer = ctypes.addressof(self.TABLE)
        for wrong in (capsule(pointer, b"other"), capsule(pointer, None)):
            with pytest.raises(TypeError, match=r"llama_cy\.llama_sampler_i"):
                Sampler.init(wrong)
        with pytest.raises(TypeError, match="llama_sampler_context_t"):
            Sampler.init(capsule(pointer, NAME), capsule(pointer, NAME))
        empty = Table()
        with pytest.raises(ValueError, match="no apply"):
            Sampler.init(capsule(ctypes.addressof(empty), NAME))
