"""What a grammar takes for a row of 128,000 logits, ours and in llama.cpp: ``python -m benchmarks.grammars``.

Both go through the same text, and take turns at each token of it.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

import llama_cy
from benchmarks.contender import ROOT
from benchmarks.machine import describe, head

__all__ = ["take_steps"]


def take_steps(module: ModuleType, vocab: llama_cy.Vocab, grammar: str, n_steps: int) -> Iterator[tuple[int, int]]:
    """Yield the nanoseconds of ours and of llama.cpp's sampler for each row along a text at random."""
    theirs = module.LlamaGrammar(vocab, grammar.encode())
    draw = random.Random(0)
    with llama_cy.Sampler.grammar(vocab, grammar) as ours:
        for step in range(n_steps):
            if step % 2:
                other = theirs.nanoseconds()
                yield module.nanoseconds(ours, len(vocab)), other
            else:
                own = module.nanoseconds(ours, len(vocab))
                yield own, theirs.nanoseconds()
            on = [token for token in theirs.allowed(range(len(vocab))) if not vocab.is_eog(token)]
            if not on:
                ours.reset()
                theirs.reset()
                continue
            token = draw.choice(on)
            ours.accept(token)
            theirs.accept(token)


def main(
    *,
    steps: Annotated[int, typer.Option(help="Tokens of each text.")] = 40,
    out: Annotated[Path | None, typer.Option(help="Folder for the results.")] = None,
) -> None:
    """Compare the two on llama.cpp's example grammars, with the vocabulary of Llama 3."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.extension import build_extension, import_extension
    from support.vocab_files import vocab_files

    from vendor.fetch import source_dir

    machine = describe(" ".join(["python -m benchmarks.grammars", *sys.argv[1:]]))
    (path,) = [file.path for file in vocab_files() if file.name == "llama-bpe"]
    rows = [
        "| grammar | ours, ms | llama.cpp, ms | ratio | quartiles | ours at worst, ms |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    print(*rows, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder, llama_cy.Model(path, vocab_only=True) as model:
        source = ROOT / "tests" / "conformance" / "llama_grammar.pyx"
        module = import_extension(build_extension(source, Path(folder), "-O2"))
        for grammar in sorted((source_dir({}) / "grammars").glob("*.gbnf")):
            times = [*take_steps(module, model.vocab, grammar.read_text(encoding="utf-8"), steps)]
            own, other = ([one / 1e6 for one in column] for column in zip(*times, strict=True))
            low, ratio, high = statistics.quantiles([a / b for a, b in times], n=4)
            rows.append(
                f"| {grammar.stem} | {statistics.median(own):.2f} | {statistics.median(other):.2f} | {ratio:.3f} "
                f"| {low:.3f} – {high:.3f} | {max(own):.2f} |"
            )
            print(rows[-1], flush=True)
    results = out or ROOT / "benchmarks" / "results" / "cpu"
    results.mkdir(parents=True, exist_ok=True)
    (results / "grammars.md").write_text("\n".join([*head("Grammars", machine), *rows, ""]))


if __name__ == "__main__":
    typer.run(main)
