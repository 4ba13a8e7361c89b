"""Another llama.cpp in the same process: neither notices the other."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

PROGRAM = """
import sys

def ours():
    import llama_cy
    with llama_cy.demo_model() as model, model.context(n_ctx=256, n_threads=1) as context:
        return context.complete("Once upon a time", llama_cy.sampling(temperature=0), max_tokens=20).text

def theirs():
    import llama_cy
    from llama_cpp import Llama
    llama = Llama(str(llama_cy.demo_model_path()), n_ctx=256, n_threads=1, verbose=False)
    text = llama("Once upon a time", max_tokens=20, temperature=0)["choices"][0]["text"]
    llama.close()
    return text

first, second = (ours, theirs) if sys.argv[1] == "ours" else (theirs, ours)
if sys.argv[1] != "ours":
    import llama_cpp
texts = [first(), second(), first()]
assert len(set(texts)) == 1, texts
print(texts[0])
"""


@pytest.mark.skipif(importlib.util.find_spec("llama_cpp") is None, reason="llama_cpp is not installed")
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_both_generate_in_either_order(first: str) -> None:
    child = subprocess.run([sys.executable, "-c", PROGRAM, first], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip()
