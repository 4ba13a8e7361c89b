"""What is measured: groups of rows, each compared with the first of its group."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.contender import ROOT, Contender

Given: TypeAlias = dict[str, Any]

__all__ = ["Group", "Limits", "Row", "Settings", "make_plan"]

PEERS = {
    "llama_cpp_python": "llama_cpp",
    "cyllama": "cyllama",
    "xllamacpp": "xllamacpp",
}


@dataclass(frozen=True)
class Row:
    """One contender of a group."""

    name: str
    contender: Contender
    peer: str = ""
    # The ratio to the base that is to be reached: at most, or at least for a speed-up.
    target: float | None = None


@dataclass(frozen=True)
class Group:
    """Rows that do the same; the first is the base of the ratios."""

    name: str
    model: str
    rows: tuple[Row, ...]
    # What one of the things counted is.
    unit: str = "token"


@dataclass(frozen=True)
class Limits:
    """llama.cpp's own benchmark programs, where there are any."""

    bench: Path | None = None
    batched_bench: Path | None = None


@dataclass(frozen=True)
class Settings:
    """Where and how to measure."""

    loop: Path
    models: dict[str, Path]
    peer_pythons: dict[str, Path] = field(default_factory=dict)
    gpu: bool = False
    threads: int = 1
    row_threads: int = 2
    openmp_loop: Path | None = None

    @property
    def common(self) -> Given:
        """Arguments that every contender gets."""
        return {
            "threads": self.threads,
            # What a context does unless told otherwise.
            "flash-attn": "auto" if self.gpu else "off",
            "n-gpu-layers": -1 if self.gpu else 0,
        }

    def c(self, mode: str, model: str = "", **given: Any) -> Contender:
        """Return a loop in C."""
        return Contender([str(self.loop), *self.flags(model, mode=mode, **given)])

    def ours(self, scenario: str, model: str = "", **given: Any) -> Contender:
        """Return one of our paths."""
        return Contender(
            [sys.executable, "-m", "benchmarks.ours", *self.flags(model, scenario=scenario, **given)],
        )

    def peer(self, name: str, scenario: str, model: str, **given: Any) -> Contender:
        """Return a path of another binding."""
        flags = self.flags(model, scenario=scenario, **given)
        command = [str(self.peer_pythons[name]), "-m", f"benchmarks.peers.{name}", *flags]
        return Contender(command, {"PYTHONPATH": str(ROOT)})

    def flags(self, model: str, **given: Any) -> list[str]:
        """Spell arguments."""
        path = {"model": self.models.get(model, model)} if model else {}
        merged = {**self.common, **path, **{name.replace("_", "-"): value for name, value in given.items()}}
        return [part for name, value in merged.items() for part in (f"--{name}", str(value))]


def loops(settings: Settings, model: str, chain: str, tokens: int, target: float, *, peers: bool) -> Group:
    """Compare whole loops, from the first token after the prompt to the last."""
    given: Given = {"chain": chain, "tokens": tokens, "prompt": 32, "n_ctx": 32 + tokens + 8}
    rows = [
        Row("C loop, ids", settings.c("ids", model, **given)),
        Row("C loop, text", settings.c("text", model, **given)),
        Row("generate", settings.ours("generate", model, **given), target=target),
        Row("stream", settings.ours("stream", model, **given), target=target),
        Row("complete", settings.ours("complete", model, **given), target=target),
        Row("C loop, no sampling", settings.c("none", model, **given)),
    ]
    if chain == "greedy":
        rows.append(Row("C loop, vectorised argmax", settings.c("argmax", model, **given)))
    if settings.gpu:
        rows += [
            Row("C loop, ids, sampled on the backend", settings.c("ids", model, backend=1, **given)),
            Row("stream, sampled on the backend", settings.ours("stream", model, backend=1, **given), target=target),
        ]
    rows.append(Row("C loop, ids, no thread pool", settings.c("ids", model, pool=0, **given)))
    if settings.openmp_loop is not None:
        openmp = replace(settings, loop=settings.openmp_loop).c("ids", model, pool=0, **given)
        rows.append(Row("C loop, ids, OpenMP build", openmp))
    if peers:
        rows += peer_rows(settings, model, given)
    return Group(f"{model}, {chain}", model, tuple(rows))


def peer_rows(settings: Settings, model: str, given: Given) -> list[Row]:
    """Return rows of the bindings that are installed."""
    paths = {
        "llama_cpp_python": ("generate", "stream"),
        "cyllama": ("generate", "stream"),
        "xllamacpp": ("stream",),
    }
    return [
        Row(f"{name.replace('_', '-')}, {path}", settings.peer(name, path, model, **given), peer=name)
        for name, scenarios in paths.items()
        if name in settings.peer_pythons
        for path in scenarios
    ]


def sampling(settings: Settings, chain: str, target: float) -> Group:
    """Compare sampling alone, on rows that are too many for the caches of a core."""
    given: Given = {"chain": chain, "rows": 64}
    rows = (
        Row("llama.cpp's chain", settings.c("sampling", **given)),
        Row("sample_logits", settings.ours("sampling", **given), target=target),
    )
    return Group(f"sampling alone, 128k, {chain}", "", rows, "row")


def many_rows(settings: Settings) -> Group:
    """Compare 64 rows at once."""
    given: Given = {"chain": "usual", "rows": 64}
    rows = [
        Row("llama.cpp's chain, one by one", settings.c("sampling", **given)),
        Row("sample_rows, 1 thread", settings.ours("sample_rows", row_threads=1, **given), target=1 / 5),
        Row("sample_rows, 2 threads", settings.ours("sample_rows", row_threads=2, **given), target=1 / 8),
    ]
    if settings.row_threads > 2:
        name = f"sample_rows, {settings.row_threads} threads"
        rows.append(Row(name, settings.ours("sample_rows", row_threads=settings.row_threads, **given)))
    return Group("64 rows at once, 128k, usual", "", tuple(rows), "row")


def growth(settings: Settings, tokens: int = 4000) -> Group:
    """Compare a long stream with a short one, and the same in C."""
    rows = []
    for count in (100, tokens):
        given: Given = {"tokens": count, "n_ctx": tokens + 64}
        rows += [
            Row(f"C loop, text, {count} tokens", settings.c("text", "tiny", **given)),
            Row(f"stream, {count} tokens", settings.ours("stream", "tiny", **given)),
        ]
    return Group("long streams", "tiny", tuple(rows))


def run_ahead(settings: Settings, model: str, tokens: int) -> Group:
    """Compare with a consumer that takes as long as the decode."""
    given: Given = {"tokens": tokens, "n_ctx": tokens + 64}
    rows = (
        Row("stream, consumer that takes no time", settings.ours("stream", model, **given)),
        Row("stream, slow consumer", settings.ours("slow_consumer", model, **given)),
        Row("stream, slow consumer, run_ahead=4", settings.ours("slow_consumer", model, ahead=4, **given), target=1.2),
    )
    return Group(f"run ahead, {model}", model, rows)


def prefill(settings: Settings, model: str) -> Group:
    """Compare the decode of 512 tokens at once, and of a short prompt up to its first text."""
    given: Given = {"prompt": 512, "n_ctx": 512}
    rows = (
        Row("C, llama_decode", settings.c("prefill", model, **given)),
        Row("Context.decode", settings.ours("prefill", model, **given), target=1 / 0.98),
    )
    return Group(f"prefill of 512, {model}", model, rows)


def first(settings: Settings, model: str) -> Group:
    """Compare the time to the first text; ours has decoded the token by then."""
    given: Given = {"prompt": 32, "n_ctx": 64}
    rows = (
        Row("C, prompt and one sample", settings.c("first", model, **given)),
        Row("stream, first text", settings.ours("first", model, **given)),
    )
    return Group(f"first token, {model}", model, rows, "prompt")


def load(settings: Settings, model: str) -> Group:
    """Compare loading a model."""
    rows = (Row("C, load", settings.c("load", model)), Row("Model()", settings.ours("load", model)))
    return Group(f"load, {model}", model, rows, "load")


def imports(settings: Settings) -> Group:
    """Compare starting Python and importing a module."""
    rows = [
        Row("import numpy", settings.ours("imported", "numpy")),
        Row("import llama_cy", settings.ours("imported", "llama_cy")),
    ]
    for name in settings.peer_pythons:
        rows.append(Row(f"import {PEERS[name]}", settings.peer(name, "imported", PEERS[name]), peer=name))
    return Group("import", "", tuple(rows), "import")


def embeddings(settings: Settings, model: str) -> Group:
    """Compare 32 texts in one call with one call each."""
    rows = [
        Row("Embedder, one by one", settings.ours("embed", model, rows=1)),
        Row("Embedder, all at once", settings.ours("embed", model)),
    ]
    if "llama_cpp_python" in settings.peer_pythons:
        peer = settings.peer("llama_cpp_python", "embed", model)
        rows.append(Row("llama-cpp-python, all at once", peer, peer="llama_cpp_python"))
    return Group(f"embeddings, {model}", model, tuple(rows), "text")


def batched(settings: Settings, model: str, sequences: int, tokens: int) -> Group:
    """Compare many sequences in each decode."""
    prompt = 16
    given: Given = {
        "sequences": sequences, "chain": "usual", "tokens": tokens, "prompt": prompt,
        "n_ctx": sequences * (prompt + tokens + 8),
    }  # fmt: skip
    rows = (
        Row("C loop, llama.cpp's chain one by one", settings.c("ids", model, **given)),
        Row("decode and sample_rows", settings.ours("batched", model, row_threads=0, **given)),
        Row("C loop, no sampling", settings.c("none", model, **given)),
    )
    return Group(f"{sequences} sequences, {model}, usual", model, rows)


def make_plan(settings: Settings, quick: bool) -> list[Group]:
    """Return the groups to measure."""
    peers = bool(settings.peer_pythons)
    plan = []
    if settings.gpu:
        for model in ("1.5B",) if quick else ("0.5B", "1.5B"):
            plan += [
                loops(settings, model, "greedy", 128, 1 / 1.15, peers=peers),
                loops(settings, model, "usual", 128, 1 / 1.15, peers=peers),
                prefill(settings, model),
                batched(settings, model, 128, 32),
                first(settings, model),
                run_ahead(settings, model, 128),
            ]
        plan += [sampling(settings, "greedy", 1 / 4), sampling(settings, "usual", 1 / 3), many_rows(settings)]
        return plan
    plan += [
        loops(settings, "tiny", "greedy", 384, 1.01, peers=peers),
        loops(settings, "tiny", "usual", 384, 1.01, peers=False),
        loops(settings, "128k", "greedy", 64, 0.93, peers=peers),
        loops(settings, "128k", "usual", 64, 0.93, peers=False),
        sampling(settings, "greedy", 1 / 4),
        sampling(settings, "usual", 1 / 3),
        many_rows(settings),
        growth(settings, 1000 if quick else 4000),
        run_ahead(settings, "tiny", 256),
        prefill(settings, "tiny"),
        first(settings, "tiny"),
        load(settings, "128k"),
        imports(settings),
        embeddings(settings, "tiny"),
    ]
    if not quick:
        plan += [
            loops(settings, "32k", "greedy", 128, 1.01, peers=peers),
            loops(settings, "32k", "usual", 128, 1.01, peers=False),
            batched(settings, "128k", 64, 16),
            loops(settings, "0.5B", "greedy", 16, 1.01, peers=peers),
            loops(settings, "0.5B", "usual", 16, 1.01, peers=False),
            prefill(settings, "0.5B"),
            load(settings, "0.5B"),
        ]
    return plan
