"""llama-cpp-python: ids by ``Llama.generate``, text by ``create_completion``."""

from __future__ import annotations

import argparse
import time

from llama_cpp import Llama

from benchmarks.peers.common import imported
from benchmarks.protocol import Run, arguments, digest, prompt_tokens, serve

clock = time.perf_counter


def load(given: argparse.Namespace, embedding: bool = False) -> Llama:
    """Load the model with the settings of the C loop."""
    return Llama(
        str(given.model), n_gpu_layers=given.n_gpu_layers, n_ctx=given.n_ctx, n_threads=given.threads,
        n_threads_batch=given.threads, n_batch=given.n_batch, n_ubatch=given.n_ubatch, verbose=False, seed=given.seed,
        flash_attn=given.flash_attn == "on", embedding=embedding,
    )  # fmt: skip


def generate(given: argparse.Namespace) -> Run:
    llama = load(given)
    prompt = prompt_tokens(llama.n_vocab(), given.prompt)
    temperature = 0.0 if given.chain == "greedy" else 0.8

    def run() -> tuple[float, int, int]:
        llama.reset()
        tokens: list[int] = []
        begin = 0.0
        for token in llama.generate(prompt, temp=temperature, repeat_penalty=1.0, reset=False):
            if not tokens:
                begin = clock()
            tokens.append(token)
            if len(tokens) > given.tokens:
                break
        return clock() - begin, given.tokens, digest(tokens[: given.tokens])

    return run


def stream(given: argparse.Namespace) -> Run:
    llama = load(given)
    prompt = prompt_tokens(llama.n_vocab(), given.prompt)
    temperature = 0.0 if given.chain == "greedy" else 0.8

    def run() -> tuple[float, int, int]:
        begin = 0.0
        for _ in llama.create_completion(
            prompt, max_tokens=given.tokens + 1, temperature=temperature, repeat_penalty=1.0, stream=True
        ):
            begin = begin or clock()
        return clock() - begin, given.tokens, 0

    return run


def embed(given: argparse.Namespace) -> Run:
    llama = load(given, embedding=True)
    texts = [llama.detokenize(prompt_tokens(llama.n_vocab(), given.prompt, number)).decode() for number in range(32)]

    def run() -> tuple[float, int, int]:
        begin = clock()
        llama.embed(texts)
        return clock() - begin, len(texts), 0

    return run


if __name__ == "__main__":
    ARGUMENTS = arguments()
    scenarios = {"generate": generate, "stream": stream, "embed": embed, "imported": imported}
    serve(scenarios[ARGUMENTS.scenario](ARGUMENTS))
