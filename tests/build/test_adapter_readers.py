"""Where llama.cpp goes through the adapters of a model: what ``kernels/computation.h`` takes for granted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.audit.scan import SOURCE, _blanked, _functions

MODULES = {path.name: path.read_text() for path in sorted((Path(__file__).parents[2] / "llama_cy").glob("*.pyx"))}


def functions_with(pattern: str) -> set[str]:
    """Name the functions of llama.cpp's own sources in which something stands."""
    found = set()
    for path in sorted((SOURCE / "src").glob("*.cpp")):
        code = _blanked(path.read_text(errors="replace"))
        places = [match.start() for match in re.finditer(pattern, code)]
        if places:
            functions = _functions(code)
            for place in places:
                found |= {name for begin, end, name in functions if begin < place < end} or {f"{path.name} outside"}
    return found


@pytest.mark.parametrize(
    ("pattern", "functions"),
    [
        # Who reads or changes the set.
        (
            r"model(\.|->)loras\b",
            {"llama_context::graph_max_nodes", "llama_adapter_lora_init_impl", "llama_adapter_lora_free"},
        ),
        # Who may read it: all that computes, if it has to reserve, and does so before it computes.
        (r"(?<!::)\bgraph_max_nodes\(", {"llama_context::sched_reserve"}),
        (
            r"\bsched_reserve\(\)\s*;",
            {f"llama_context::{name}" for name in ("llama_context", "encode", "decode", "opt_init")},
        ),
        # After what it has to.
        (
            r"\bsched_need_reserve\s*=\s*true",
            {
                f"llama_context::{name}"
                for name in (
                    *("set_embeddings_layer_inp", "set_sampler", "set_adapters_lora", "set_adapter_cvec"),
                    "opt_init",
                )
            },
        ),
    ],
)
def test_llama_cpp_does_it_there_only(pattern: str, functions: set[str]) -> None:
    assert functions_with(pattern) == functions


@pytest.mark.parametrize(
    "name", ["llama_set_sampler", "llama_set_adapters_lora", "llama_set_adapter_cvec", "llama_opt_init"]
)
def test_we_know_it(name: str) -> None:
    """Each call of what makes the next computation read says so."""
    calls = 0
    for text in MODULES.values():
        lines = text.splitlines()
        for i, line in enumerate(lines):
            if f"{name}(context" in line:
                calls += 1
                assert any("computing.due = True" in before for before in lines[max(0, i - 6) : i]), (name, i + 1)
    assert calls


def test_nothing_else_does_it() -> None:
    assert not any(re.search(r"\bllama_set_embeddings_layer_inp\b", text) for text in MODULES.values())
    for name in ("llama_decode", "llama_encode", "llama_process"):
        assert not any(re.search(rf"(?<!`)\b{name}\(", text) for text in MODULES.values()), name
