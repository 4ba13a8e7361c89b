"""A build with LLAMA_CY_DEBUG=1 notices a downstream that frees what Python owns; the objects live on."""

from __future__ import annotations

import os
import re
import shutil
import signal
from pathlib import Path

import pytest
from support import cross
from support.child import Child, run
from support.downstream import ROOT, compile_extension

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(1800)]
HERE = Path(__file__).parent
MODULES = ("_llama", "lifetime")


@pytest.fixture(scope="module")
def debug(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out the package with the two modules that keep the books built anew, around the libraries that are there."""
    folder = tmp_path_factory.mktemp("debug")
    shutil.copytree(ROOT / "llama_cy", folder / "llama_cy")
    environ = os.environ | {"LLAMA_CY_DEBUG": "1", "CROSS_MODULES": " ".join(MODULES)}
    built = cross.build(ROOT, "", folder / "built", environ)
    assert set(built) == set(MODULES)
    for path in built.values():
        shutil.copy(path, folder / "llama_cy" / path.name)
    compile_extension(HERE / "wrong_free.cpp", folder)
    return folder


def child(folder: Path, source: str, *arguments: str | Path, dies_of: signal.Signals | None = None) -> Child:
    """Run a program that has the debug build and the downstream."""
    setup = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import llama_cy, wrong_free; from llama_cy import to_capsule"
    )
    return run(f"{setup}\n{source}", folder, *arguments, dies_of=dies_of)


REFUSED = """
assert "LLAMA_CY_DEBUG=1" in llama_cy.version().build_options, llama_cy.version()
model = llama_cy.Model(sys.argv[1])
context = model.context(n_ctx=64, n_threads=1)
chain = llama_cy.sampling(temperature=0)

def tried(free, thing):
    try:
        free(to_capsule(thing))
    except RuntimeError as error:
        print(error)

tried(wrong_free.free_model, model)
tried(wrong_free.free_context, context)
tried(wrong_free.free_sampler, chain)
# Nothing happened to them.
print(len(list(context.generate([1, 2], chain, max_tokens=4, ignore_eog=True))))
context.close(), model.close(), chain.close()
"""


def test_what_python_owns_is_not_freed(debug: Path, tiny_path: Path) -> None:
    done = child(debug, REFUSED, tiny_path)
    assert (done.code, done.stderr) == (0, "")
    *told, count = done.stdout.splitlines()
    assert count == "4"
    names = ("llama_model_free", "llama_free", "llama_sampler_free")
    for line, name, owner in zip(told, names, ("Model", "Context", "Sampler"), strict=True):
        assert re.match(
            rf"{name}\(0x[0-9a-f]+\) was called by \S*wrong_free\S+\.so on what a living {owner} of", line
        ), line
        assert "let go of the capsule" in line


BORROWED = """
capsule = wrong_free.make_model(sys.argv[1])
first, second = llama_cy.from_capsule(capsule), llama_cy.from_capsule(capsule)
for model in (first, second):
    try:
        wrong_free.free_model(capsule)
    except RuntimeError as error:
        print(error)
    model.close()
wrong_free.free_own(capsule)
wrong_free.free_model(capsule)
print("freed")
"""


def test_what_c_owns_is_freed_when_nobody_in_python_uses_it(debug: Path, tiny_path: Path) -> None:
    done = child(debug, BORROWED, tiny_path)
    assert (done.code, done.stderr) == (0, "")
    *told, last = done.stdout.splitlines()
    assert len(told) == 2
    assert all("a living Model" in line for line in told)
    assert last == "freed"


UNCAUGHT = """
with llama_cy.Model(sys.argv[1]) as model:
    wrong_free.free_without_catch(to_capsule(model.context(n_ctx=64)))
"""


def test_where_nobody_catches_it_the_last_words_say_it(debug: Path, tiny_path: Path) -> None:
    done = child(debug, UNCAUGHT, tiny_path, dies_of=signal.SIGABRT)
    assert done.code == -signal.SIGABRT
    assert re.search(r"llama_cy: .*llama_free\(0x[0-9a-f]+\) was called by \S*wrong_free", done.stderr), done.stderr
    assert 'File "<string>"' in done.stderr
