"""Our side of each comparison, in a process of its own."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import llama_cy
from benchmarks.protocol import Run, arguments, digest, prompt_tokens, serve

Scenario = Callable[[argparse.Namespace], Run]
clock = time.perf_counter


def chain_of(given: argparse.Namespace, number: int = 0) -> llama_cy.SamplerChain:
    """Build the same chain as the C loop."""
    return llama_cy.sampling(temperature=0 if given.chain == "greedy" else 0.8, seed=given.seed + number)


def model_of(given: argparse.Namespace) -> llama_cy.Model:
    """Load the model."""
    return llama_cy.Model(given.model, n_gpu_layers=given.n_gpu_layers)


def context_of(given: argparse.Namespace, model: llama_cy.Model, **more: Any) -> llama_cy.Context:
    """Make a context with the settings of the C loop."""
    names = ("n_ctx", "n_batch", "n_ubatch", "poll")
    params: dict[str, Any] = {name: getattr(given, name) for name in names}
    flash = {"on": "enabled", "off": "disabled"}.get(given.flash_attn, "auto")
    return model.context(**{**params, "n_threads": given.threads, "flash_attn_type": flash, **more})


def loop(given: argparse.Namespace, consume: Callable[[llama_cy.Context, Any, int], list[int]]) -> Run:
    """Time what comes after the prompt, with the tokens consumed in some way."""
    context = context_of(given, model_of(given))
    chain = chain_of(given)
    prompt = prompt_tokens(context.n_vocab, given.prompt)

    def run() -> tuple[float, int, int]:
        context.memory.clear()
        if given.backend:
            # A chain is the context's while it samples there.
            context.set_sampler(0, None)
            chain.reset()
            context.set_sampler(0, chain)
        else:
            chain.reset()
        context.decode(prompt)
        # As the C loop does: a GPU may still be computing.
        context.synchronize()
        begin = clock()
        tokens = consume(context, chain, given.tokens)
        context.synchronize()
        return clock() - begin, len(tokens), digest(tokens)

    return run


def generate(given: argparse.Namespace) -> Run:
    return loop(
        given,
        lambda context, chain, n: list(
            context.generate(None, chain, max_tokens=n, ignore_eog=True, run_ahead=given.ahead)
        ),
    )


def stream(given: argparse.Namespace) -> Run:
    def consume(context: llama_cy.Context, chain: Any, n: int) -> list[int]:
        stream = context.stream(None, chain, max_tokens=n, ignore_eog=True, run_ahead=given.ahead)
        for _ in stream:
            pass
        return stream.tokens

    return loop(given, consume)


def complete(given: argparse.Namespace) -> Run:
    def consume(context: llama_cy.Context, chain: Any, n: int) -> list[int]:
        return list(context.complete(None, chain, max_tokens=n, ignore_eog=True).tokens)

    return loop(given, consume)


def slow_consumer(given: argparse.Namespace) -> Run:
    """Stream to a consumer that works on each piece for as long as a decode takes."""
    one = stream(given)
    one()
    seconds, count, _ = one()
    pause = seconds / count

    def consume(context: llama_cy.Context, chain: Any, n: int) -> list[int]:
        stream = context.stream(None, chain, max_tokens=n, ignore_eog=True, run_ahead=given.ahead)
        for _ in stream:
            end = clock() + pause
            while clock() < end:
                pass
        return stream.tokens

    return loop(given, consume)


def batched(given: argparse.Namespace) -> Run:
    """Many sequences in one decode, each with its own chain."""
    context = context_of(given, model_of(given), n_seq_max=given.sequences)
    chains = [chain_of(given, number) for number in range(given.sequences)]
    n, n_vocab = given.sequences, context.n_vocab
    prompts = [prompt_tokens(n_vocab, given.prompt, sequence) for sequence in range(n)]

    def run() -> tuple[float, int, int]:
        context.memory.clear()
        for chain in chains:
            chain.reset()
        prompt = llama_cy.Batch.from_arrays(
            np.array(prompts).T.ravel(), np.repeat(np.arange(given.prompt), n), np.tile(np.arange(n), given.prompt),
            np.repeat(np.arange(given.prompt) == given.prompt - 1, n),
        )  # fmt: skip
        context.decode(prompt)
        sequences = np.arange(n)
        begin = clock()
        for step in range(given.tokens):
            tokens = llama_cy.sample_rows(chains, context, n_threads=given.row_threads or None)
            positions = np.full(n, given.prompt + step)
            context.decode(llama_cy.Batch.from_arrays(tokens, positions, sequences, np.ones(n, bool)))
        context.synchronize()
        return clock() - begin, given.tokens * n, 0

    return run


def random_rows(given: argparse.Namespace) -> np.ndarray[Any, np.dtype[np.float32]]:
    return 3 * np.random.default_rng(1).standard_normal((given.rows, given.vocab), dtype=np.float32)


def sampling(given: argparse.Namespace) -> Run:
    """Rows of logits one after another."""
    rows = random_rows(given)
    chains = [chain_of(given, number) for number in range(given.rows)]

    def run() -> tuple[float, int, int]:
        begin = clock()
        for chain, row in zip(chains, rows, strict=True):
            chain.sample_logits(row)
        return clock() - begin, given.rows, 0

    return run


def sample_rows(given: argparse.Namespace) -> Run:
    """Rows of logits all at once."""
    rows = random_rows(given)
    chains = [chain_of(given, number) for number in range(given.rows)]

    def run() -> tuple[float, int, int]:
        begin = clock()
        llama_cy.sample_rows(chains, rows, n_threads=given.row_threads)
        return clock() - begin, given.rows, 0

    return run


def prefill(given: argparse.Namespace) -> Run:
    context = context_of(given, model_of(given))
    prompt = prompt_tokens(context.n_vocab, given.prompt)

    def run() -> tuple[float, int, int]:
        context.memory.clear()
        begin = clock()
        context.decode(prompt)
        context.synchronize()
        return clock() - begin, len(prompt), 0

    return run


def first(given: argparse.Namespace) -> Run:
    """The time from a prompt of tokens to the first text."""
    context = context_of(given, model_of(given))
    chain = chain_of(given)
    prompt = prompt_tokens(context.n_vocab, given.prompt)

    def run() -> tuple[float, int, int]:
        context.memory.clear()
        begin = clock()
        with context.stream(prompt, chain, max_tokens=1, ignore_eog=True) as stream:
            next(stream)
            seconds = clock() - begin
        return seconds, 1, 0

    return run


def load(given: argparse.Namespace) -> Run:
    def run() -> tuple[float, int, int]:
        begin = clock()
        model = model_of(given)
        seconds = clock() - begin
        model.close()
        return seconds, 1, 0

    return run


def imported(given: argparse.Namespace) -> Run:
    """Start Python and import the module that `model` names."""

    def run() -> tuple[float, int, int]:
        begin = clock()
        subprocess.run([sys.executable, "-c", f"import {given.model}"], check=True)
        return clock() - begin, 1, 0

    return run


def embed(given: argparse.Namespace) -> Run:
    """Embed many texts with one call, or with `rows` of 1 one by one."""
    model = model_of(given)
    texts = [[*prompt_tokens(model.vocab.n_tokens, given.prompt, number)] for number in range(32)]
    embedder = llama_cy.Embedder(model, pooling_type="mean", n_threads=given.threads)

    def run() -> tuple[float, int, int]:
        begin = clock()
        if given.rows == 1:
            for text in texts:
                embedder.embed([text])
        else:
            embedder.embed(texts)
        return clock() - begin, len(texts), 0

    return run


SCENARIOS: dict[str, Scenario] = {
    one.__name__: one
    for one in (
        generate, stream, complete, slow_consumer, batched, sampling, sample_rows, prefill, first, load, imported, embed
    )
}  # fmt: skip

if __name__ == "__main__":
    ARGUMENTS = arguments()
    serve(SCENARIOS[ARGUMENTS.scenario](ARGUMENTS))
