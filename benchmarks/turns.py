"""Our loops beside others that go on from the same context, in turns of a token: ``python -m benchmarks.turns``.

The two of a pair find the machine as it was microseconds ago, so that a percent shows where runs differ by ten.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated, NamedTuple

import typer

import llama_cy
from benchmarks.contender import ROOT
from benchmarks.machine import describe, head
from benchmarks.models import model_path
from benchmarks.protocol import prompt_tokens

__all__ = ["Turns", "compare", "take_turns"]

clock = time.perf_counter_ns

PROMPT = 32
# Tokens of a round, of both together.
ROUND = 384
# A call of complete() generates so many, and there are so many blocks of them in a round.
WHOLE = 128
RUNS = 2


class Loop(NamedTuple):
    """A loop that can be stopped after any turn."""

    turn: Callable[[], object]
    tokens: Callable[[], list[int]]


Start = Callable[[llama_cy.Context, llama_cy.SamplerChain], Loop]


def generate(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Loop:
    loop = context.generate(None, chain, ignore_eog=True)
    return Loop(loop.__next__, lambda: loop.tokens)


def stream(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Loop:
    stream = context.stream(None, chain, ignore_eog=True)
    return Loop(stream.__next__, lambda: stream.tokens)


def complete(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Loop:
    tokens: list[int] = []

    def turn() -> None:
        tokens.extend(context.complete(None, chain, max_tokens=WHOLE, ignore_eog=True).tokens)

    return Loop(turn, lambda: tokens)


def unguarded(module: ModuleType) -> Start:
    def start(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Loop:
        loop = module.UnguardedLoop(context, chain)
        return Loop(loop.__next__, lambda: loop.tokens)

    return start


def c_loop(module: ModuleType, tokens: int, *, text: bool) -> Start:
    def start(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Loop:
        loop = module.CLoop(context, chain, tokens, text)
        return Loop(loop.turn, lambda: loop.tokens)

    return start


@dataclass(frozen=True)
class Turns:
    """What the turns of two loops came to.

    Attributes
    ----------
    ours, other : float
        Microseconds a token, medians.
    ratio, low, high : float
        Of two turns of ours to the two of the other beside them: the median, and the quartiles around it.
    """

    ours: float
    other: float
    ratio: float
    low: float
    high: float


class Course:
    """A context in which loops take turns, and the tokens that came of it."""

    def __init__(self, context: llama_cy.Context, temperature: float, *, gpu: bool) -> None:
        self.context, self.gpu = context, gpu
        self.chain = llama_cy.sampling(temperature=temperature, seed=1)
        self.prompt = prompt_tokens(context.n_vocab, PROMPT)
        self.expected = list(context.generate(self.prompt, self.chain, max_tokens=ROUND + 8, ignore_eog=True))
        self.given: list[int] = []

    def rewind(self) -> None:
        """Go back to the end of the prompt."""
        self.context.memory.clear()
        self.chain.reset()
        self.context.decode(self.prompt)
        self.given.clear()

    def take(self, loop: Loop) -> float:
        """Return the microseconds that a token of the next turn takes."""
        before = len(loop.tokens())
        begin = clock()
        loop.turn()
        # A GPU is left to compute, and whoever comes next would wait for it.
        if self.gpu:
            self.context.synchronize()
        end = clock()
        # More than one where a character has several.
        new = loop.tokens()[before:]
        self.given += new
        return (end - begin) / len(new) / 1e3

    def check(self) -> None:
        """See that the loops gave what ours gives alone."""
        if self.given != self.expected[: len(self.given)]:
            raise RuntimeError("the loops did not give the same tokens")

    def in_turns(self, both: Sequence[Start], first: int) -> Iterator[list[float]]:
        """Generate one text, and yield what both took in each block of turns."""
        self.rewind()
        loops = [start(self.context, self.chain) for start in both]
        # The first turn of each begins the loop.
        for loop in loops:
            self.take(loop)
        while len(self.given) < ROUND:
            yield block(lambda who: self.take(loops[who]), first)
            first = 1 - first
        self.check()

    def at_once(self, both: Sequence[Start], first: int) -> Iterator[list[float]]:
        """Generate the text anew in each turn, and yield what both took in each block of turns."""

        def run(who: int) -> float:
            self.rewind()
            microseconds = self.take(both[who](self.context, self.chain))
            self.check()
            return microseconds

        for index in range(RUNS):
            yield block(run, (first + index) % 2)


def block(take: Callable[[int], float], first: int) -> list[float]:
    """Take two turns each; each follows the other as often as itself, and finds as warm a machine."""
    spent = [0.0, 0.0]
    for who in (first, 1 - first, 1 - first, first):
        spent[who] += take(who) / 2
    return spent


def compare(model: llama_cy.Model, temperature: float, pair: Pair, rounds: int, *, gpu: bool) -> Turns:
    """Let two loops take turns."""
    both = (pair.start, pair.other_start)
    with model.context(n_ctx=PROMPT + ROUND + 16, n_threads=1) as context:
        course = Course(context, temperature, gpu=gpu)
        turns = course.at_once if pair.at_once else course.in_turns
        blocks = [one for index in range(rounds) for one in turns(both, index % 2)]
    low, ratio, high = statistics.quantiles([one / two for one, two in blocks], n=4)
    ours, other = (statistics.median(times) for times in zip(*blocks, strict=True))
    return Turns(ours, other, ratio, low, high)


class Pair(NamedTuple):
    """What is compared, and what it is to reach."""

    model: str
    ours: str
    start: Start
    other: str
    other_start: Start
    target: float
    at_once: bool = False


def pairs_of(module: ModuleType, model: str, target: float) -> list[Pair]:
    """Compare with the loop in C."""
    text = c_loop(module, 1, text=True)
    return [
        Pair(model, "generate", generate, "C loop, ids", c_loop(module, 1, text=False), target),
        Pair(model, "stream", stream, "C loop, text", text, target),
        Pair(model, "complete", complete, "C loop, text", c_loop(module, WHOLE, text=True), target, at_once=True),
    ]


def choose(module: ModuleType, folder: Path, *, gpu: bool) -> tuple[dict[str, llama_cy.Model], list[Pair]]:
    """Return what is compared, and the models for it."""
    from support.llama_models import write_llama

    if gpu:
        return {"1.5B": llama_cy.Model(model_path("1.5B"), n_gpu_layers=-1)}, pairs_of(module, "1.5B", 1 / 1.15)
    small = llama_cy.Model(write_llama(folder / "small.gguf"))
    models = {"tiny": llama_cy.Model(model_path("tiny")), "built-in": llama_cy.demo_model(), "small": small}
    guards = [
        Pair(model, "generate", generate, "without guards", unguarded(module), 1.01) for model in ("built-in", "small")
    ]
    return models, [*pairs_of(module, "tiny", 1.01), *pairs_of(module, "built-in", 1.01), *guards]


def take_turns(rounds: int, results: Path, machine: dict[str, str], *, gpu: bool, quick: bool = False) -> Path:
    """Print a table of all pairs, and write it to ``turns.md``."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.extension import build_extension, import_extension

    rows = [
        "| model | chain | ours | beside | ours, µs / token | beside, µs / token | ratio | quartiles | to reach |",
        "|---|---|---|---|--:|--:|--:|--:|--:|",
    ]
    print("### In turns of a token", "", *rows, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        module = import_extension(build_extension(ROOT / "benchmarks" / "token_loops.pyx", Path(folder), "-O3"))
        models, pairs = choose(module, Path(folder), gpu=gpu)
        for pair in pairs:
            if quick and pair.model == "built-in":
                continue
            for chain, temperature in (("greedy", 0.0), ("usual", 0.8)):
                one = compare(models[pair.model], temperature, pair, rounds, gpu=gpu)
                rows.append(
                    f"| {pair.model} | {chain} | {pair.ours} | {pair.other} | {one.ours:.2f} | {one.other:.2f} "
                    f"| {one.ratio:.4f} | {one.low:.3f} – {one.high:.3f} "
                    f"| ≤ {pair.target:.3g} {'✓' if one.ratio <= pair.target else '✗'} |"
                )
                print(rows[-1], flush=True)
    results.mkdir(parents=True, exist_ok=True)
    path = results / "turns.md"
    path.write_text("\n".join([*head("Loops in turns of a token", machine), *rows, ""]))
    return path


def main(
    *,
    rounds: Annotated[int, typer.Option(help="Rounds of 384 tokens.")] = 25,
    gpu: Annotated[bool, typer.Option("--gpu", help="All layers on the GPU, with a larger model.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Compare our loops with others that go on from the same context."""
    machine = describe(f"python -m benchmarks.turns {' '.join(sys.argv[1:])}")
    print(take_turns(rounds, out or ROOT / "benchmarks" / "results" / ("gpu" if gpu else "cpu"), machine, gpu=gpu))


if __name__ == "__main__":
    typer.run(main)
