"""``trusted=False``: a child process loads the file first, and whatever becomes of it is an exception here."""

from __future__ import annotations

import errno
import multiprocessing.spawn
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzz.operations import apply
from support.child import check_output
from support.encoder_models import write_bert, write_t5
from support.llama_models import write_llama
from support.recurrent_models import write_mamba

import llama_cy
from llama_cy import trial


@pytest.mark.parametrize("write", [write_llama, write_mamba, write_bert, write_t5])
def test_a_good_model_loads(tmp_path: Path, write: Any) -> None:
    path = write(tmp_path / "good.gguf")
    with llama_cy.Model(path, trusted=False, n_gpu_layers=0) as model, llama_cy.Model(path, n_gpu_layers=0) as same:
        assert model.desc == same.desc
        assert model.vocab.tokenize("once") == same.vocab.tokenize("once")


def test_only_its_vocabulary(tiny_path: Path) -> None:
    with llama_cy.Model(tiny_path, trusted=False, vocab_only=True) as model:
        assert model.vocab_only


# What the child does instead, and what is said of it.
ENDS = {
    "a signal": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
    "an abort with words": (
        "import os; os.write(2, b'GGML_ASSERT(a == b) failed\\n'); os.abort()",
        r"died of SIGABRT: GGML_ASSERT\(a == b\) failed",
    ),
    "an exit": ("import sys; sys.exit(7)", "ended with status 7"),
    "an end without a word": ("pass", None),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_of_the_child(tiny_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    source, words = ENDS[end]
    monkeypatch.setattr(trial, "BOOTSTRAP", source)
    if words is None:
        llama_cy.Model(tiny_path, trusted=False).close()
        return
    with pytest.raises(
        llama_cy.ModelLoadError, match=f"not trusted, and a child process that loads it {words}"
    ) as caught:
        llama_cy.Model(tiny_path, trusted=False)
    assert caught.value.filename == str(tiny_path)


@pytest.mark.parametrize("where", ["packed", "embedded", "within a trial"])
def test_a_program_that_is_no_python_is_not_started(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    started = tmp_path / "started"
    monkeypatch.setattr(trial, "BOOTSTRAP", f"open({str(started)!r}, 'w')")
    if where == "packed":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    elif where == "embedded":
        monkeypatch.setattr(multiprocessing.spawn, "get_executable", lambda: None)
    else:
        monkeypatch.setenv(trial.INSIDE, "1")
    with pytest.raises(llama_cy.ModelLoadError, match=r"is no Python .* multiprocessing.set_executable"):
        llama_cy.Model(tiny_path, trusted=False)
    assert not started.exists()


def test_a_packed_program_names_a_python(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = sys.executable
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "program"))
    monkeypatch.setattr(multiprocessing.spawn, "get_executable", lambda: python)
    llama_cy.Model(tiny_path, trusted=False).close()


def test_a_child_that_hangs(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "BOOTSTRAP", "import time; time.sleep(600)")
    monkeypatch.setattr(trial, "SECONDS", 0.5)
    with pytest.raises(llama_cy.ModelLoadError, match="was not done after"):
        llama_cy.Model(tiny_path, trusted=False)


def test_a_child_without_memory(tiny_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "MEMORY", 2**20)
    with pytest.raises(llama_cy.ModelLoadError, match="a child process that loads it"):
        llama_cy.Model(tiny_path, trusted=False)


def test_what_the_child_raised(tiny_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "arch.gguf"
    path.write_bytes(apply(tiny_path.read_bytes(), [("architecture", "nonsense")]))
    with pytest.raises(
        llama_cy.ModelLoadError, match=r"raised ModelLoadError: (.|\n)*unknown model architecture: 'nonsense'"
    ):
        llama_cy.Model(path, trusted=False)


def test_parameters_reach_the_child(tiny_path: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError, match=r"not trusted, and (.|\n)*n_expert"):
        llama_cy.Model(tiny_path, trusted=False, kv_overrides={"llama.expert_count": 7})
    llama_cy.Model(tiny_path, trusted=False, kv_overrides={"llama.rope.freq_base": 5.5, "x": "é", "y": True}).close()


def test_no_file_needs_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "BOOTSTRAP", "import os; os.abort()")
    with pytest.raises(llama_cy.ModelLoadError, match="No such file") as caught:
        llama_cy.Model(tmp_path / "missing.gguf", trusted=False)
    assert caught.value.errno == errno.ENOENT


@pytest.mark.parametrize(("value", "error"), [("no", TypeError), (2, ValueError), (None, TypeError)])
def test_trusted_is_yes_or_no(tiny_path: Path, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="trusted"):
        llama_cy.Model(tiny_path, trusted=value)


def test_the_time_and_memory_grow_with_all_files_of_a_model(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        (tmp_path / f"a-{number:05}-of-00003.gguf").write_bytes(bytes(number))
    assert trial._size(str(tmp_path / "a-00001-of-00003.gguf")) == 6
    assert trial._size(str(tmp_path / "a-00003-of-00003.gguf")) == 6


LIMITED = """
import resource, sys
import llama_cy
_, most = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30, 4 * 2**30))
llama_cy.Model(sys.argv[1], trusted=False).close()
print("loaded")
"""


# The driver of a GPU reserves more addresses than that.
@pytest.mark.cpu
def test_within_limits_that_were_there_before(tiny_path: Path) -> None:
    assert check_output(LIMITED, tiny_path) == "loaded\n"


QUIET = """
import sys
import llama_cy
llama_cy.Model(sys.argv[1], trusted=False)
for path in (sys.argv[1], sys.argv[2]):
    try:
        llama_cy.Model(path, trusted=False, kv_overrides={"llama.expert_count": 7})
    except llama_cy.ModelLoadError:
        print("refused")
"""


def test_nobody_hears_of_the_child(tiny_path: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(tiny_path.read_bytes()[:-1])
    assert check_output(QUIET, tiny_path, tmp_path / "bad.gguf") == "refused\n" * 2


def test_the_parts_of_a_model_are_looked_at(tmp_path: Path) -> None:
    def part(number: int, count: int, **changes: Any) -> Path:
        path = tmp_path / f"model-{number + 1:05}-of-{count:05}.gguf"
        data = write_llama(path).read_bytes()
        recipe = [("set", "split.no", 2, number), ("set", "split.count", 2, count), *changes.get("recipe", [])]
        path.write_bytes(apply(data, recipe))
        return path

    first = part(0, 2)
    with pytest.raises(llama_cy.ModelLoadError, match=r"00002-of-00002\.gguf' can't be read: No such file"):
        llama_cy.Model(first)
    part(1, 2, recipe=[("set", "split.no", 2, 5)])
    with pytest.raises(llama_cy.ModelLoadError, match=r"split\.no is 5; 1 is expected"):
        llama_cy.Model(first)
    part(1, 2, recipe=[("set", "split.no", 4, 1)])
    with pytest.raises(llama_cy.ModelLoadError, match=r"split\.no, a u16, is missing"):
        llama_cy.Model(first)
    part(1, 2, recipe=[("type", "output.weight", 26), ("settle",)])
    with pytest.raises(llama_cy.ModelLoadError, match=r"00002.*output\.weight is of type i32"):
        llama_cy.Model(first)
    (tmp_path / "model-00002-of-00002.gguf").write_bytes(b"GGUF")
    with pytest.raises(llama_cy.ModelLoadError, match="00002-of-00002"):
        llama_cy.Model(first)
    renamed = tmp_path / "other.gguf"
    renamed.write_bytes(first.read_bytes())
    with pytest.raises(llama_cy.ModelLoadError, match=r"split\.count is 2, and the file is not called"):
        llama_cy.Model(renamed)
