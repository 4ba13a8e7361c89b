"""Our loops beside others that go on from the same context, in turns of a token: ``python -m benchmarks.turns``.

The two of a pair find the machine as it was microseconds ago, so that a percent shows where runs differ by ten.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

import llama_cy
from benchmarks.contender import ROOT
from benchmarks.machine import describe
from benchmarks.models import model_path
from benchmarks.protocol import prompt_tokens

__all__ = ["Turns", "compare"]

# Nanoseconds, and the tokens that came meanwhile.
Turn = Callable[[], tuple[int, list[int]]]
Start = Callable[[llama_cy.Context, llama_cy.SamplerChain], Turn]
clock = time.perf_counter_ns

PROMPT = 32
# Tokens of a round, of both together.
ROUND = 384
# A call of complete() generates so many.
PIECE = 32
TARGET = 1.01


def generate(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Turn:
    loop = context.generate(None, chain, ignore_eog=True)

    def turn() -> tuple[int, list[int]]:
        begin = clock()
        token = next(loop)
        return clock() - begin, [token]

    return turn


def stream(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Turn:
    stream = context.stream(None, chain, ignore_eog=True)
    seen = 0

    def turn() -> tuple[int, list[int]]:
        nonlocal seen
        begin = clock()
        next(stream)
        end = clock()
        # More than one where a character has several.
        tokens = stream.tokens[seen:]
        seen += len(tokens)
        return end - begin, tokens

    return turn


def complete(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Turn:
    def turn() -> tuple[int, list[int]]:
        begin = clock()
        done = context.complete(None, chain, max_tokens=PIECE, ignore_eog=True)
        return clock() - begin, list(done.tokens)

    return turn


def unguarded(module: ModuleType) -> Start:
    def start(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Turn:
        loop = module.UnguardedLoop(context, chain)

        def turn() -> tuple[int, list[int]]:
            begin = clock()
            token = next(loop)
            return clock() - begin, [token]

        return turn

    return start


def c_loop(module: ModuleType, tokens: int, *, text: bool) -> Start:
    def start(context: llama_cy.Context, chain: llama_cy.SamplerChain) -> Turn:
        loop = module.CLoop(context, chain, text)
        return lambda: (loop.turn(tokens), loop.last(tokens))

    return start


@dataclass(frozen=True)
class Turns:
    """What the turns of two loops came to.

    Attributes
    ----------
    ours, other : float
        Microseconds a token, medians.
    ratio, low, high : float
        Of two turns of ours to the two of the other among them: the median, and the quartiles around it.
    """

    ours: float
    other: float
    ratio: float
    low: float
    high: float


def compare(model: llama_cy.Model, temperature: float, ours: Start, other: Start, rounds: int) -> Turns:
    """Let two loops take turns in generating the same text, and check that it is the one that ours gives alone."""
    both = (ours, other)
    times: dict[Start, list[float]] = {ours: [], other: []}
    ratios: list[float] = []
    prompt = prompt_tokens(model.vocab.n_tokens, PROMPT)
    chain = llama_cy.sampling(temperature=temperature, seed=1)
    n_ctx = PROMPT + ROUND + 8 * PIECE
    with model.context(n_ctx=n_ctx, n_threads=1, flash_attn_type="disabled") as context:
        expected = list(context.generate(prompt, chain, max_tokens=ROUND + 6 * PIECE, ignore_eog=True))
        for index in range(rounds):
            context.memory.clear()
            chain.reset()
            context.decode(prompt)
            loops = {start: start(context, chain) for start in both}
            given: list[int] = []
            # The first turn of each begins the loop.
            for start in both:
                given += loops[start]()[1]
            first = index % 2
            while len(given) < ROUND:
                # Each follows the other as often as itself, as whoever comes after itself finds a warmer machine.
                spent = {ours: 0.0, other: 0.0}
                for turn in (first, 1 - first, 1 - first, first):
                    nanoseconds, tokens = loops[both[turn]]()
                    spent[both[turn]] += nanoseconds / len(tokens) / 2e3
                    given += tokens
                first = 1 - first
                for start in both:
                    times[start].append(spent[start])
                ratios.append(spent[ours] / spent[other])
            if given != expected[: len(given)]:
                raise RuntimeError("the loops did not give the same tokens")
    low, ratio, high = statistics.quantiles(ratios, n=4)
    return Turns(statistics.median(times[ours]), statistics.median(times[other]), ratio, low, high)


def rows(module: ModuleType, path: Path) -> list[tuple[str, llama_cy.Model, str, Start, str, Start]]:
    """Return what is compared: the name of the model, the model, and both loops with their names."""
    bench, built_in, small = llama_cy.Model(model_path("tiny")), llama_cy.demo_model(), llama_cy.Model(path)
    ids, text = c_loop(module, 1, text=False), c_loop(module, 1, text=True)
    return [
        ("tiny", bench, "generate", generate, "C loop, ids", ids),
        ("tiny", bench, "stream", stream, "C loop, text", text),
        ("tiny", bench, "complete", complete, "C loop, text", c_loop(module, PIECE, text=True)),
        ("built-in", built_in, "stream", stream, "C loop, text", text),
        ("built-in", built_in, "generate", generate, "without guards", unguarded(module)),
        ("one layer of 64", small, "generate", generate, "without guards", unguarded(module)),
    ]


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of 384 tokens.")] = 25,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Print and write a table of all pairs."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.extension import build_extension, import_extension
    from support.llama_models import write_llama

    machine = describe(f"python -m benchmarks.turns {' '.join(sys.argv[1:])}")
    lines = ["# Loops in turns of a token", "", "| | |", "|---|---|", *(f"| {k} | {v} |" for k, v in machine.items())]
    lines += [
        "", "| model | chain | ours | beside | ours, µs / token | beside, µs / token | ratio | quartiles | to reach |",
        "|---|---|---|---|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        module = import_extension(build_extension(ROOT / "benchmarks" / "token_loops.pyx", Path(folder), "-O3"))
        for name, model, our_name, ours, other_name, other in rows(module, write_llama(Path(folder) / "small.gguf")):
            for chain, temperature in (("greedy", 0.0), ("usual", 0.8)):
                one = compare(model, temperature, ours, other, rounds)
                lines.append(
                    f"| {name} | {chain} | {our_name} | {other_name} | {one.ours:.2f} | {one.other:.2f} "
                    f"| {one.ratio:.4f} | {one.low:.3f} – {one.high:.3f} "
                    f"| ≤ {TARGET} {'✓' if one.ratio <= TARGET else '✗'} |"
                )
                print(lines[-1], flush=True)
    results = out or ROOT / "benchmarks" / "results" / "cpu"
    results.mkdir(parents=True, exist_ok=True)
    (results / "turns.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    typer.run(main)
