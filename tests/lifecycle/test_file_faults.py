"""What becomes of a model whose file is deleted, replaced or cut while it is in use."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import pytest
from support.child import run

USED = """
import os, sys
import numpy as np
import llama_cy

path, mode, fault = sys.argv[1:]
model = llama_cy.Model(path, n_gpu_layers=0, load_mode=mode)
if fault == "deleted":
    os.unlink(path)
elif fault == "replaced":
    with open(path + ".new", "wb") as file:
        file.write(b"something else")
    os.replace(path + ".new", path)
elif fault == "cut":
    os.truncate(path, 0)
context = model.context(n_ctx=64, n_threads=1)
context.decode([1, 2, 3])
print(context.logits(-1).tobytes().hex())
"""


def logits(path: Path, mode: str, fault: str, folder: Path, dies_of: signal.Signals | None = None) -> str:
    copy = folder / "copy.gguf"
    shutil.copyfile(path, copy)
    child = run(USED, copy, mode, fault, dies_of=dies_of)
    assert dies_of or (child.code, child.stderr) == (0, ""), child
    return child.stdout if child.code == 0 else str(child.code)


@pytest.mark.parametrize("mode", ["mmap", "none"])
@pytest.mark.parametrize("fault", ["deleted", "replaced"])
def test_a_path_that_leads_elsewhere_changes_nothing(tiny_path: Path, tmp_path: Path, mode: str, fault: str) -> None:
    assert logits(tiny_path, mode, fault, tmp_path) == logits(tiny_path, mode, "", tmp_path)


def test_a_file_that_was_read_may_be_cut(tiny_path: Path, tmp_path: Path) -> None:
    assert logits(tiny_path, "none", "cut", tmp_path) == logits(tiny_path, "none", "", tmp_path)


def test_a_mapped_file_must_not_be_cut(tiny_path: Path, tmp_path: Path) -> None:
    # docs/reliability.md says so: the system takes the pages away and sends SIGBUS to whoever reads them.
    assert logits(tiny_path, "mmap", "cut", tmp_path, signal.SIGBUS) == str(-signal.SIGBUS)
