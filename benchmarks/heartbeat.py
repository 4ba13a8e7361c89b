"""How long a Python thread waits while another one is in a call: ``python -m benchmarks.heartbeat``.

A thread sleeps for a millisecond, again and again, and notes by how much it was late. The first row shows what the
machine itself does to it.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

import llama_cy

from .models import model_path

PAUSE = 0.001


class Heart:
    """A thread that notes, in seconds, by how much each of its beats was late."""

    def __init__(self) -> None:
        self.late: list[float] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def _beat(self) -> None:
        before = time.perf_counter()
        while not self._end.is_set():
            time.sleep(PAUSE)
            now = time.perf_counter()
            self.late.append(now - before - PAUSE)
            before = now

    def __enter__(self) -> Heart:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def works(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what to do under the heartbeat, by name."""
    path = model_path("128k")
    model = llama_cy.Model(path, n_gpu_layers=0)
    plain = llama_cy.Model(path, n_gpu_layers=0, use_extra_bufts=False)
    context = model.context(n_ctx=4096, n_threads=1)
    prompt = list(range(300, 2300))
    text = "once upon a time " * 2_000
    ids = model.vocab.tokenize(text)
    states = model.context(n_ctx=4096, n_threads=1)
    states.decode(prompt)
    saved = states.state.get()
    usual = llama_cy.sampling(seed=1)
    schema: dict[str, Any] = {"type": "object", "properties": {f"k{i}": {"type": "string"} for i in range(50)}}

    def ids_of_a_loop() -> None:
        for _ in context.generate(prompt[:16], usual, max_tokens=300, ignore_eog=True):
            pass

    def text_of_a_stream() -> None:
        for _ in context.stream(prompt[:16], usual, max_tokens=300, ignore_eog=True):
            pass

    def read_a_prompt() -> None:
        context.memory.clear()
        context.decode(prompt)

    return {
        "nothing": lambda: time.sleep(1.0),
        "load": lambda: llama_cy.Model(path, n_gpu_layers=0).close(),
        "context": lambda: model.context(n_ctx=2**16, n_threads=1).close(),
        "prompt": read_a_prompt,
        "generate": ids_of_a_loop,
        "stream": text_of_a_stream,
        "complete": lambda: context.complete(prompt[:16], usual, max_tokens=300, ignore_eog=True),
        "tokenize": lambda: model.vocab.tokenize(text),
        "detokenize": lambda: model.vocab.detokenize(ids),
        "state get": states.state.get,
        "state set": lambda: states.state.set(saved),
        "logprobs": lambda: context.logprobs(prompt[:200]),
        "embed": lambda: model.embed([prompt[:200]] * 8),
        "save": lambda: plain.save(folder / "saved.gguf"),
        "quantize": lambda: llama_cy.quantize(path, folder / "small.gguf", "Q4_0", allow_requantize=True, n_threads=1),
        "grammar": lambda: llama_cy.Sampler.grammar(model.vocab, llama_cy.json_schema_to_grammar(json.dumps(schema))),
    }


def main(rounds: int = 5) -> None:
    """Print for each work by how many milliseconds the heartbeat was late, as a rule and at most."""
    print(f"{'work':12} {'seconds':>8} {'beats':>6} {'median':>7} {'longest':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for name, work in works(Path(folder)).items():
            work()
            with Heart() as heart:
                started = time.perf_counter()
                for _ in range(rounds if name != "nothing" else 1):
                    work()
                seconds = time.perf_counter() - started
            late = sorted(1e3 * one for one in heart.late)
            print(f"{name:12} {seconds:8.2f} {len(late):6} {late[len(late) // 2]:7.2f} {late[-1]:8.2f}")


if __name__ == "__main__":
    typer.run(main)
