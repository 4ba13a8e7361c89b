"""What the guards cost: the token loop beside one that looks at nothing: ``python -m benchmarks.guards``.

Both run in one process, in turns. CPU time of the one thread is measured, which other programs on the machine disturb
less than a clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import llama_cy

__all__ = ["compare", "main"]

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"


def compare(
    model: llama_cy.Model, chain: llama_cy.Sampler, unguarded: Callable[..., Iterable[int]], rounds: int, tokens: int
) -> tuple[float, float]:
    """Time both loops in turns.

    Returns
    -------
    tuple of float
        Microseconds of a token with the guards and without them: medians over the rounds.
    """
    prompt = model.vocab.tokenize("Once upon a time")
    times: dict[str, list[float]] = {"guarded": [], "unguarded": []}
    with model.context(n_ctx=tokens + 64, n_threads=1) as context:
        loops: dict[str, Callable[[], Iterable[int]]] = {
            "guarded": lambda: context.generate(None, chain, max_tokens=tokens, ignore_eog=True),
            "unguarded": lambda: unguarded(context, chain, tokens),
        }
        given: list[Any] = []
        for index in range(rounds + 2):
            # Who is first changes, as the second finds a warmer machine.
            for name in list(loops)[:: 1 if index % 2 else -1]:
                context.memory.clear()
                chain.reset()
                context.decode(prompt)
                begin = time.thread_time()
                given.append(list(loops[name]()))
                seconds = time.thread_time() - begin
                # The first rounds warm up.
                if index >= 2:
                    times[name].append(seconds / tokens * 1e6)
        if any(one != given[0] or len(one) != tokens for one in given):
            raise RuntimeError("the two loops did not give the same tokens")
    return statistics.median(times["guarded"]), statistics.median(times["unguarded"])


def main() -> int:
    """Print the two times and their ratio, for the smallest models there are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.guards", description=__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--tokens", type=int, default=200)
    options = parser.parse_args()
    sys.path.insert(0, str(TESTS))
    from support.extension import build_extension, import_extension
    from support.llama_models import write_llama

    with tempfile.TemporaryDirectory() as folder:
        module = import_extension(build_extension(HERE / "unguarded.pyx", Path(folder), "-O3"))
        path = write_llama(Path(folder) / "tiny.gguf")
        models = {"one layer of 64 for 395 tokens": llama_cy.Model(path), "the built-in model": llama_cy.demo_model()}
        print("| model | chain | with guards, µs | without, µs | ratio |\n|---|---|---|---|---|")
        for name, model in models.items():
            for kind, temperature in (("greedy", 0.0), ("usual", 0.8)):
                chain = llama_cy.sampling(temperature=temperature, seed=1)
                with_guards, without = compare(model, chain, module.UnguardedLoop, options.rounds, options.tokens)
                ratio = with_guards / without
                print(f"| {name} | {kind} | {with_guards:.2f} | {without:.2f} | {ratio:.4f} |", flush=True)
            model.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
