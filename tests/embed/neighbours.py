"""Run with the Python that has the neighbours: import them in this order, let each compute, then all at once.

Prints what each came to, as JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PROMPT, N_TOKENS, N_THREADS = "Once upon a time", 20, 2


def llama_cy(module: Any, path: str) -> Callable[[], str]:
    context = module.Model(path, n_gpu_layers=0).context(n_ctx=256, n_threads=N_THREADS)
    return lambda: context.complete(PROMPT, module.sampling(temperature=0), max_tokens=N_TOKENS).text


def llama_cpp(module: Any, path: str) -> Callable[[], str]:
    llama = module.Llama(path, n_ctx=256, n_threads=N_THREADS, verbose=False)
    return lambda: llama(PROMPT, max_tokens=N_TOKENS, temperature=0)["choices"][0]["text"]


def cyllama(module: Any, path: str) -> Callable[[], str]:
    low = importlib.import_module("cyllama.llama.llama_cpp")
    model = low.LlamaModel(path, low.LlamaModelParams(), verbose=False)
    params = low.LlamaContextParams()
    params.n_ctx, params.n_threads, params.n_threads_batch = 256, N_THREADS, N_THREADS
    context = low.LlamaContext(model, params, verbose=False)
    sampler = low.LlamaSampler(low.LlamaSamplerChainParams())
    sampler.add_greedy()
    vocab = model.get_vocab()

    def run() -> str:
        context.kv_cache_clear()
        tokens = vocab.tokenize(PROMPT, True, True)
        context.decode(low.llama_batch_get_one(tokens))
        found = []
        for position in range(len(tokens), len(tokens) + N_TOKENS):
            found.append(sampler.sample(context, -1))
            context.decode(low.llama_batch_get_one(found[-1:], position))
        return "".join(vocab.token_to_piece(token, 0, True) for token in found)

    return run


def xllamacpp(module: Any, path: str) -> Callable[[], str]:
    params = module.CommonParams()
    params.model.path, params.n_ctx, params.n_parallel, params.verbosity = path, 256, 1, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = N_THREADS
    server = module.Server(params)
    request = {"prompt": PROMPT, "max_tokens": N_TOKENS, "temperature": 0.0, "cache_prompt": False}

    def run() -> str:
        answers: list[Any] = []
        server.handle_completions(request, answers.append)
        return str(answers[0]["choices"][0]["text"])

    return run


def pywhispercpp(module: Any, path: str) -> Callable[[], str]:
    import numpy

    model = importlib.import_module("pywhispercpp.model").Model(
        str(Path(path).with_name("whisper.bin")), n_threads=N_THREADS, redirect_whispercpp_logs_to=None
    )
    sound = numpy.sin(numpy.arange(16_000, dtype=numpy.float32) / 20)
    settings = {"max_tokens": 4, "single_segment": True, "temperature_inc": 0.0, "print_progress": False}

    def run() -> str:
        (segment,) = model.transcribe(sound, extract_probability=True, **settings)
        return f"{segment.text} {segment.probability}"

    return run


def torch(module: Any, path: str) -> Callable[[], str]:
    numbers = module.arange(2**18, dtype=module.float64).reshape(512, 512)
    return lambda: str(float((numbers @ numbers.T).trace()))


def onnxruntime(module: Any, path: str) -> Callable[[], str]:
    return lambda: ",".join(sorted(module.get_available_providers()))


def main() -> None:
    names, path = sys.argv[1].split(","), sys.argv[2]
    modules = [importlib.import_module(name) for name in names]
    runs = [globals()[name](module, path) for name, module in zip(names, modules, strict=True)]
    texts = [[run() for run in runs] for _ in range(2)]
    with ThreadPoolExecutor(len(runs)) as pool:
        texts.append([future.result() for future in [pool.submit(run) for run in runs]])
    assert texts[0] == texts[1] == texts[2], texts
    print(json.dumps(dict(zip(names, texts[0], strict=True))))


if __name__ == "__main__":
    main()
