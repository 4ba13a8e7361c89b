"""cyllama: ids by its low-level classes, text by ``LLM`` with its own number of threads, which it lets nobody set."""

from __future__ import annotations

import argparse
import time

from cyllama import LLM, GenerationConfig
from cyllama.llama import llama_cpp as low

from benchmarks.peers.common import imported, prompt_text
from benchmarks.protocol import Run, arguments, digest, prompt_tokens, serve

clock = time.perf_counter
FLASH = {"auto": -1, "off": 0, "on": 1}


def generate(given: argparse.Namespace) -> Run:
    model_params = low.LlamaModelParams()
    model_params.n_gpu_layers = given.n_gpu_layers
    model = low.LlamaModel(str(given.model), model_params, verbose=False)
    params = low.LlamaContextParams()
    params.n_ctx, params.n_batch, params.n_ubatch = given.n_ctx, given.n_batch, given.n_ubatch
    params.n_threads = params.n_threads_batch = given.threads
    params.flash_attn_type = FLASH[given.flash_attn]
    context = low.LlamaContext(model, params, verbose=False)
    sampler = low.LlamaSampler(low.LlamaSamplerChainParams())
    if given.chain == "greedy":
        sampler.add_greedy()
    else:
        sampler.add_top_k(40)
        sampler.add_top_p(0.95, 1)
        sampler.add_min_p(0.05, 1)
        sampler.add_temp(0.8)
        sampler.add_dist(given.seed)
    prompt = prompt_tokens(model.get_vocab().n_vocab, given.prompt)

    def run() -> tuple[float, int, int]:
        context.kv_cache_clear()
        sampler.reset()
        context.decode(low.llama_batch_get_one(prompt))
        tokens = []
        begin = clock()
        for position in range(given.prompt, given.prompt + given.tokens):
            token = sampler.sample(context, -1)
            tokens.append(token)
            context.decode(low.llama_batch_get_one([token], position))
        return clock() - begin, len(tokens), digest(tokens)

    return run


def stream(given: argparse.Namespace) -> Run:
    config = GenerationConfig(
        max_tokens=given.tokens + 1, temperature=0.0 if given.chain == "greedy" else 0.8, repeat_penalty=1.0,
        n_gpu_layers=given.n_gpu_layers, n_ctx=given.n_ctx, n_batch=given.n_batch, seed=given.seed,
    )  # fmt: skip
    llm = LLM(str(given.model), config=config)
    prompt = prompt_text(given.prompt // 2)

    def run() -> tuple[float, int, int]:
        begin, count = 0.0, 0
        for _ in llm(prompt, stream=True):
            if not count:
                begin = clock()
            count += 1
        return clock() - begin, max(1, count - 1), 0

    return run


if __name__ == "__main__":
    ARGUMENTS = arguments()
    serve({"generate": generate, "stream": stream, "imported": imported}[ARGUMENTS.scenario](ARGUMENTS))
