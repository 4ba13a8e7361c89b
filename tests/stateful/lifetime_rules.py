"""Models opened and closed, batches kept, things dropped and collected, and several threads at once."""

from __future__ import annotations

from hypothesis import strategies as st

import llama_cy

from .base import ANY, INDEX, Errors, step
from .context_rules import CLOSED, PARAMS
from .loop_rules import LoopRules
from .session import SHARED

__all__ = ["LifetimeRules"]

TABLES = ("contexts", "loops", "samplers", "batches", "models", "adapters", "pools", "states")
CALLS = (
    *(
        "{c}.decode([1, 2])",
        "{c}.memory.clear()",
        "{c}.logits()",
        "{c}.close()",
        "{c}.state.get()",
        "list({c}.generate([3]",
    ),
    *(
        "{c}.complete('a', max_tokens=3)",
        "{c}.memory.seq_rm(0, 1, 2)",
        "{c}.cancel()",
        "{s}.sample({c})",
        "{s}.clone()",
    ),
    *(
        "{s}.accept(3)",
        "{s}.close()",
        "{s}.reset()",
        "next({g})",
        "{g}.close()",
        "llama.vocab.tokenize('a b')",
        "{b}.add(1, 0)",
    ),
    *(
        "{c}.decode({b})",
        "{b}.clear()",
        "{b}.close()",
        "llama.context(n_ctx=64, n_threads=1)",
        "gc.collect()",
        "load('mamba')",
    ),
    *(
        "{c}.set_adapters(None)",
        "{c}.attach(Threadpool(1))",
        "{c}.detach()",
        "{c}.logits_view()",
        "repr({c})",
        "{c}.perf()",
    ),
)
CALLS_ = tuple(call + ", max_tokens=3))" if call.startswith("list(") else call for call in CALLS)


class LifetimeRules(LoopRules):
    """What begins and ends, and where."""

    @step(key=st.sampled_from(SHARED), options=st.sampled_from(("", "", ", vocab_only=True", ", load_mode='none'")))
    def open_model(self, key: str, options: str) -> None:
        if len(self.models) < 3:
            name = self.new("m")
            self.check(self.session.do(f"load({key!r}{options})", name))
            self.models[name] = key + options

    @step(i=INDEX, params=st.sampled_from(PARAMS))
    def make_context_of_model(self, i: int, params: str) -> None:
        name, key = self.pick(self.models, i)
        if len(self.contexts) >= 6:
            return
        if key is None:
            self.check(self.session.do(f"{name}.context({params})"), CLOSED)
        elif "vocab_only" in key:
            self.check(self.session.do(f"{name}.context({params})"), (llama_cy.ContextError,))
        else:
            self.open(name, key.partition(",")[0], params)

    @step(i=INDEX)
    def close_model(self, i: int) -> None:
        name, _ = self.pick(self.models, i)
        self.check(self.session.do(f"{name}.close()"))
        self.models[name] = None

    @step(
        i=INDEX,
        source=st.sampled_from(
            ("vocab", "metadata", "n_params", "context()", "desc", "load_adapter(folder + '/lora.gguf')")
        ),
    )
    def ask_closed_model(self, i: int, source: str) -> None:
        name, _ = self.pick({name: key for name, key in self.models.items() if key is None}, i)
        self.check(self.session.do(f"{name}.{source}"), CLOSED)

    @step(key=st.sampled_from(SHARED), text=st.text(max_size=12))
    def tokenize(self, key: str, text: str) -> None:
        source = f"{key}.vocab.tokenize({text!r}, add_special=False)"
        outcome = self.session.do(source)
        surrogate = any(0xD800 <= ord(character) < 0xE000 for character in text)
        if self.check(outcome, (UnicodeEncodeError,) if surrogate else ()) and key in ("llama", "demo"):
            joined = self.session.do(f"{key}.vocab.detokenize({outcome.value})").value
            assert joined in {text, f" {text}"} or not text, (self.session.lines[-1], joined, text)

    @step(n=st.sampled_from(("4", "1", "0", "-1", "2**31", "'4'")))
    def make_batch(self, n: str) -> None:
        name = self.new("b")
        if self.check(self.session.do(f"Batch({n})", name), () if n in ("4", "1") else (ValueError, TypeError)):
            self.batches[name] = []

    @step(i=INDEX, j=INDEX, token=st.integers(0, 100), logits=st.booleans())
    def add_to_batch(self, i: int, j: int, token: int, logits: bool) -> None:
        name, entries = self.pick(self.batches, i)
        context = self.contexts[list(self.contexts)[j % len(self.contexts)]] if self.contexts else None
        first = context.highest(0) + 1 if context is not None and context.sure else 0
        pos = first + len(entries or ())
        outcome = self.session.do(f"{name}.add({token}, {pos}, logits={logits})")
        must: Errors = CLOSED if entries is None else ()
        may: Errors = (ValueError,) if entries is not None and len(entries) in (1, 4) else ()
        if self.check(outcome, must, may) and entries is not None:
            assert outcome.value == len(entries)
            entries.append((token, pos, (0,), logits))

    @step(i=INDEX, j=INDEX)
    def decode_kept_batch(self, i: int, j: int) -> None:
        name, entries = self.pick(self.batches, i)
        where, context = self.pick(self.contexts, j)
        if context.kind in ("encoder", "both"):
            return
        outcome = self.session.do(f"{where}.decode({name})")
        if entries is None:
            self.check(outcome, (*CLOSED, BufferError))
            if not self.blocked(context):
                context.cancelled = False
            return
        first = context.highest(0) + 1
        right = [entry[1] for entry in entries] == list(range(first, first + len(entries))) and entries
        if right or not context.sure or not context.exact or self.blocked(context):
            if not right and not self.blocked(context):
                self.check(outcome, may=(llama_cy.LlamaError, ValueError))
                context.doubt()
                return
            self.judge_batch(where, context, entries, outcome)
        elif not context.positions(0) and entries and len({e[1] for e in entries}) == len(entries):
            # An empty sequence may begin anywhere.
            self.check(outcome, may=(llama_cy.InvalidBatchError,))
            context.doubt()
        else:
            self.check(outcome, (llama_cy.InvalidBatchError,))
            context.owner, context.cancelled = "?", False

    @step(i=INDEX, method=st.sampled_from(("clear", "close")))
    def empty_batch(self, i: int, method: str) -> None:
        name, entries = self.pick(self.batches, i)
        if self.check(self.session.do(f"{name}.{method}()"), CLOSED if entries is None and method == "clear" else ()):
            self.batches[name] = [] if method == "clear" else None

    @step(kind=st.sampled_from(TABLES), i=INDEX, how=st.sampled_from(("del", "lose", "collect")))  # fmt: skip
    def drop(self, kind: str, i: int, how: str) -> None:
        table = getattr(self, kind)
        named = {name: thing for name, thing in table.items() if name in self.session.names}
        name, thing = self.pick(named, i)
        if kind == "contexts":
            if any(loop.context == name for loop in self.loops.values()) or thing.views:
                return
        elif kind == "samplers":
            # Others know it by another name, or hold it.
            if thing.inside or thing.members or sum(other is thing for other in table.values()) > 1:
                return
            if any(loop.sampler == name for loop in self.loops.values()):
                return
        if how == "lose":
            self.session.do(f"lose({name})")
        self.session.forget(name)
        del table[name]
        if kind == "contexts":
            for pool, user in self.pools.items():
                if user == name:
                    self.pools[pool] = "?"
        if how == "collect":
            self.session.do("gc.collect()")

    @step(calls=st.lists(st.tuples(st.sampled_from(CALLS_), INDEX), min_size=2, max_size=4))
    def at_once(self, calls: list[tuple[str, int]]) -> None:
        """Several threads do anything with the same things; all that is known afterwards is what can't have changed."""
        sources = []
        for call, i in calls:
            found = {
                "c": self.named(self.contexts, i),
                "s": self.named(self.samplers, i),
                "g": self.named(self.loops, i),
                "b": self.named(self.batches, i),
            }
            if all(found[letter] or f"{{{letter}}}" not in call for letter in found):
                sources.append(call.format(**found))
        if not sources:
            return
        outcome = self.session.do(f"at_once({', '.join(f'lambda: {source}' for source in sources)})")
        self.check(outcome)
        for value in outcome.value:
            if isinstance(value, BaseException):
                assert isinstance(value, (*ANY, StopIteration)), f"{self.session.lines[-1]}: {value!r}"
        del outcome, value
        self.look_again()

    def look_again(self) -> None:
        """Learn from the things themselves what is closed, and doubt the rest."""
        names = self.session.names
        for name, context in self.contexts.items():
            context.closed = names[name].closed
            if not context.closed:
                context.doubt()
                context.cancelled = True
                context.adapted = True
        for name, sampler in self.samplers.items():
            if name in names and names[name].closed and not sampler.inside:
                self.close_sampler(name)
        for name, loop in self.loops.items():
            reason = names[name].finish_reason
            loop.over |= reason is not None
            loop.vague = not loop.over
        for name in self.batches:
            self.batches[name] = None if names[name].closed else []
            if self.batches[name] is not None:
                self.session.do(f"{name}.clear()")
