"""xllamacpp: text from its server, in the process, by a callback."""

from __future__ import annotations

import argparse
import time
from typing import Any

import xllamacpp

from benchmarks.peers.common import imported, prompt_text
from benchmarks.protocol import Run, arguments, serve

clock = time.perf_counter


def stream(given: argparse.Namespace) -> Run:
    params = xllamacpp.CommonParams()
    params.model.path = str(given.model)
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = given.n_ctx, given.n_batch, given.n_ubatch, 1
    params.n_gpu_layers = given.n_gpu_layers
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.verbosity = -1
    server = xllamacpp.Server(params)
    request = {
        "prompt": prompt_text(given.prompt // 2), "max_tokens": given.tokens + 1, "stream": True, "ignore_eos": True,
        "temperature": 0.0 if given.chain == "greedy" else 0.8, "seed": given.seed, "cache_prompt": False,
        "samplers": ["top_k", "top_p", "min_p", "temperature"], "top_k": 40, "top_p": 0.95, "min_p": 0.05,
    }  # fmt: skip

    def run() -> tuple[float, int, int]:
        times: list[float] = []

        def take(chunk: Any) -> bool:
            times.append(clock())
            return False

        server.handle_completions(request, take)
        # The last chunk has the finish reason and no token.
        return times[-2] - times[0], max(1, len(times) - 2), 0

    return run


if __name__ == "__main__":
    ARGUMENTS = arguments()
    serve({"stream": stream, "imported": imported}[ARGUMENTS.scenario](ARGUMENTS))
