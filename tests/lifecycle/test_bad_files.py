"""Paths that lead to no model: one exception each, which says what is there, and the child lives."""

from __future__ import annotations

import errno
import os
import random
import struct
from pathlib import Path

import pytest
from support.child import Outcome, check_output, outcomes, run
from support.llama_models import write_llama

import llama_cy

SETUP = """
import sys
import llama_cy
folder = sys.argv[3]
"""
ERROR = ("ModelLoadError", "LlamaError", "RuntimeError", "OSError", "Exception", "BaseException")

# Name of the case to source and words of the message.
CASES = {
    "missing": ("llama_cy.Model(folder + '/missing.gguf')", ["missing.gguf", "No such file"]),
    "missing, as bytes": ("llama_cy.Model((folder + '/missing.gguf').encode())", ["missing.gguf", "No such file"]),
    "a directory": ("llama_cy.Model(folder)", ["Is a directory"]),
    "beneath a file": ("llama_cy.Model(folder + '/tiny.gguf/x')", ["Not a directory"]),
    "no name": ("llama_cy.Model('')", ["''", "No such file"]),
    "a long name": ("llama_cy.Model('x' * 5000)", ["File name too long"]),
    "empty": ("llama_cy.Model(folder + '/empty.gguf')", ["empty.gguf", "is empty"]),
    "text": ("llama_cy.Model(folder + '/text.gguf')", ["text.gguf", "b'Once'", "GGUF"]),
    "three bytes": ("llama_cy.Model(folder + '/three.gguf')", ["three.gguf", "b'GGU'"]),
    "a pipe": ("llama_cy.Model(folder + '/pipe')", ["pipe", "no regular file"]),
    "a device": ("llama_cy.Model('/dev/null')", ["/dev/null", "no regular file"]),
    "magic alone": ("llama_cy.Model(folder + '/magic.gguf')", ["magic.gguf"]),
    "version 99": ("llama_cy.Model(folder + '/version.gguf')", ["version.gguf", "99"]),
    "unknown architecture": ("llama_cy.Model(folder + '/arch.gguf')", ["nonsense", "llama.cpp"]),
    "no tensors": ("llama_cy.Model(folder + '/hollow.gguf')", ["hollow.gguf"]),
}
NOT_PATHS = {
    "a NUL": ("llama_cy.Model('a\\0b')", "ValueError", ["'a\\x00b'", "NUL"]),
    "a NUL in bytes": ("llama_cy.Model(b'a\\0b')", "ValueError", ["NUL"]),
    "a lone surrogate": ("llama_cy.Model('\\ud800')", "UnicodeEncodeError", ["surrogates"]),
    "None": ("llama_cy.Model(None)", "TypeError", ["NoneType"]),
    "a number": ("llama_cy.Model(1.5)", "TypeError", ["float"]),
    "no open descriptor": ("llama_cy.Model(987)", "OSError", ["descriptor", "987"]),
    "nothing": ("llama_cy.Model()", "TypeError", ["argument"]),
}


@pytest.fixture(scope="module")
def folder(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    good = tiny_path.read_bytes()
    (folder / "tiny.gguf").write_bytes(good)
    (folder / "empty.gguf").touch()
    (folder / "text.gguf").write_text("Once upon a time")
    (folder / "three.gguf").write_bytes(b"GGU")
    (folder / "magic.gguf").write_bytes(b"GGUF")
    (folder / "version.gguf").write_bytes(b"GGUF" + struct.pack("<I", 99) + good[8:])
    (folder / "hollow.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 0))
    os.mkfifo(folder / "pipe")
    name = b"general.architecture" + struct.pack("<IQ", 8, 5)
    assert name + b"llama" in good
    (folder / "arch.gguf").write_bytes(good.replace(name + b"llama", name[:-8] + struct.pack("<Q", 8) + b"nonsense", 1))
    return folder


@pytest.fixture(scope="module")
def came_to(folder: Path) -> dict[str, Outcome]:
    cases = {name: source for name, (source, *_) in (CASES | NOT_PATHS).items()}
    return outcomes(SETUP, cases, folder)


@pytest.mark.parametrize("case", CASES)
def test_load_fails(came_to: dict[str, Outcome], case: str) -> None:
    outcome = came_to[case]
    assert outcome.raised == ERROR, outcome
    for words in CASES[case][1]:
        assert words in outcome.text


@pytest.mark.parametrize("case", NOT_PATHS)
def test_no_path(came_to: dict[str, Outcome], case: str) -> None:
    _, error, texts = NOT_PATHS[case]
    assert came_to[case].raised[0] == error, came_to[case]
    for words in texts:
        assert words in came_to[case].text


def test_os_error_of_the_system(folder: Path) -> None:
    missing = str(folder / "missing.gguf")
    with pytest.raises(OSError, match=r"missing\.gguf") as caught:
        llama_cy.Model(missing)
    error = caught.value
    assert isinstance(error, llama_cy.ModelLoadError)
    assert (error.errno, error.filename, error.code) == (errno.ENOENT, missing, errno.ENOENT)
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_log_lines_in_the_message(folder: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError) as caught:
        llama_cy.Model(folder / "arch.gguf")
    assert caught.value.log
    for line in caught.value.log:
        assert line in str(caught.value)
    assert caught.value.__context__ is None


def test_unknown_architecture_names_this_build(folder: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError, match=llama_cy.version().llama_cpp[:9]):
        llama_cy.Model(folder / "arch.gguf")


def test_log_lines_are_of_this_failure(folder: Path) -> None:
    with pytest.raises(llama_cy.ModelLoadError):
        llama_cy.Model(folder / "arch.gguf")
    with pytest.raises(llama_cy.ModelLoadError) as caught:
        llama_cy.Model(folder / "hollow.gguf")
    assert caught.value.log
    assert not any("nonsense" in line for line in caught.value.log)


FORBIDDEN = """
import os, sys
import llama_cy
if os.geteuid() == 0:
    # Root may read everything.
    os.seteuid(65534)
try:
    llama_cy.Model(sys.argv[1])
except llama_cy.ModelLoadError as error:
    print(type(error.errno).__name__, error.strerror)
"""


def test_permission(tiny_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "secret.gguf"
    path.write_bytes(tiny_path.read_bytes())
    path.chmod(0)
    assert check_output(FORBIDDEN, path) == "int Permission denied\n"


CUTS = """
import sys
import llama_cy
path, lengths = sys.argv[1], sys.argv[2].split(",")
with open(path, "rb") as file:
    data = file.read()
for length in map(int, lengths):
    print(length, flush=True)
    with open(path, "wb") as file:
        file.write(data[:length])
    try:
        llama_cy.Model(path)
    except llama_cy.ModelLoadError as error:
        assert path in str(error), error
    else:
        raise AssertionError(length)
assert not any(llama_cy.live_objects().values())
"""


@pytest.mark.parametrize("weight_type", ["F32", "Q8_0"])
def test_cut_anywhere(tmp_path: Path, weight_type: str) -> None:
    path = write_llama(tmp_path / "cut.gguf", weight_type=weight_type)  # type: ignore[arg-type]
    size = path.stat().st_size
    draw = random.Random(weight_type)
    # Metadata and tensor list are a small part of the file, and the part that is parsed.
    lengths = [draw.randrange(4, size) for _ in range(10)] + [draw.randrange(4, 25_000) for _ in range(20)] + [size - 1]
    child = run(CUTS, path, ",".join(map(str, lengths)))
    assert (child.code, child.stderr) == (0, ""), child


def test_disk_errors_while_saving(tiny: llama_cy.Model, tmp_path: Path) -> None:
    for path in (tmp_path / "no" / "model.gguf", tmp_path):
        with pytest.raises(OSError, match=tmp_path.name):
            tiny.save(path)
    assert list(tmp_path.iterdir()) == []
    assert not list(tmp_path.parent.glob("*.part"))
