"""The example applications, built as strangers build them: here, and from a wheel in an environment of its own."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from support.llama_models import write_llama

import llama_cy
from llama_cy.numpy_llama import NumpyLlama

ROOT = Path(__file__).resolve().parents[2]
APPS = ROOT / "examples" / "apps"


@dataclass
class Environment:
    """A Python with llama_cy and the tools to build against it."""

    python: Path
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str | Path, cwd: Path) -> str:
        # Tools such as cmake lie beside the Python that runs the tests.
        path = os.pathsep.join([str(self.python.parent), str(Path(sys.executable).parent), os.environ["PATH"]])
        settings = {"PATH": path, "CMAKE_GENERATOR": "Ninja", "CFLAGS": "-O0", "PYTHONNOUSERSITE": "1"}
        done = subprocess.run(
            [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False, timeout=280,
            env=os.environ | settings | dict(self.environ),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout


def build_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "-w", str(folder), str(ROOT)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module", params=["here", pytest.param("wheel", marks=[pytest.mark.wheels, pytest.mark.network])])
def environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Give the environment of the tests, or make one of the wheel and what its dependencies name."""
    if request.param == "here":
        return Environment(Path(sys.executable))
    folder = tmp_path_factory.mktemp("clean")
    wheel = build_wheel(folder / "dist")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    made = Environment(folder / "venv" / "bin" / "python")
    made.run(made.python, "-m", "pip", "install", "-q", wheel, "setuptools>=77", "Cython>=3.1", cwd=folder)
    where = made.run(made.python, "-c", "import llama_cy; print(llama_cy.__file__)", cwd=folder)
    assert where.startswith(str(folder))
    return made


@pytest.fixture(scope="module")
def beam_search(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Build the Cython package and install it beside a copy of what it was built from."""
    folder = tmp_path_factory.mktemp("beam")
    shutil.copytree(APPS / "beam_search", folder / "source")
    install = ["-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", "--target", str(folder / "site")]
    environment.run(environment.python, "-W", "ignore", *install, ".", cwd=folder / "source")
    return Environment(environment.python, {"PYTHONPATH": str(folder / "site")})


SEARCH = """
import json, sys
import llama_cy
from beam_search import beam_search

path, prompt, n_beams, max_tokens = sys.argv[1], *map(json.loads, sys.argv[2:])
model = llama_cy.Model(path, n_gpu_layers=0)
context = model.context(n_ctx=256, n_seq_max=2 * n_beams, kv_unified=True, n_threads=1, type_k="f32", type_v="f32",
                        flash_attn_type="disabled")
beams = beam_search(context, prompt, n_beams, max_tokens)
again = beam_search(context, prompt, n_beams, max_tokens)
assert beams == again
# The context is ours again afterwards, and takes nothing for granted.
greedy = list(context.generate(prompt, llama_cy.sampling(temperature=0), max_tokens=max_tokens))
refused = 0
for wrong in ({"n_beams": 0}, {"n_beams": n_beams + 1}, {"max_tokens": 0}, {"max_tokens": 10**6}):
    try:
        beam_search(context, prompt, **{"n_beams": n_beams, "max_tokens": max_tokens, **wrong})
    except ValueError:
        refused += 1
context.close()
model.close()
assert not any(llama_cy.live_objects()[kind] for kind in ("model", "context", "sampler"))
print(json.dumps({"beams": beams, "greedy": greedy, "refused": refused}))
"""


def search_in_numpy(path: Path, prompt: list[int], n_beams: int, max_tokens: int, ends: set[int]) -> list[list[int]]:
    """Do the same search without a context: all beams from the start, each time."""
    model = NumpyLlama(path)
    beams: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[tuple[list[int], float]] = []
    for _ in range(max_tokens):
        found = []
        for tokens, score in beams:
            row = model.logits(prompt + tokens)[-1]
            row = row - row.max()
            row = row - np.log(np.exp(row).sum())
            found += [(tokens, token, score + float(row[token])) for token in range(len(row))]
        found.sort(key=lambda item: -item[2])
        beams = []
        for tokens, token, score in found[: 2 * n_beams]:
            if len(beams) == n_beams:
                break
            if token in ends:
                ended.append((tokens, score))
            else:
                beams.append(([*tokens, token], score))
        if len(ended) >= n_beams:
            break
    best = sorted(ended + beams, key=lambda item: -item[1])
    return [tokens for tokens, _ in best[:n_beams]]


@pytest.mark.slow
def test_the_search_finds_what_numpy_finds(beam_search: Environment, tmp_path: Path) -> None:
    for seed, n_beams in ((1, 1), (2, 3), (3, 4)):
        path = write_llama(tmp_path / f"{seed}.gguf", seed=seed)
        prompt, arguments = [5, 6, 7], [json.dumps([5, 6, 7]), str(n_beams), "8"]
        told = json.loads(beam_search.run(beam_search.python, "-c", SEARCH, path, *arguments, cwd=tmp_path))
        with llama_cy.Model(path, vocab_only=True) as model:
            ends = {token for token in range(model.vocab.n_tokens) if model.vocab.is_eog(token)}
        found = [tokens for tokens, _, _ in told["beams"]]
        assert found == search_in_numpy(path, prompt, n_beams, 8, ends)
        scores = [score for _, score, _ in told["beams"]]
        assert scores == sorted(scores, reverse=True)
        assert told["refused"] == 4
        if n_beams == 1:
            assert found[0] == told["greedy"]


@pytest.fixture(scope="module")
def story_server(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the C++ program."""
    folder = tmp_path_factory.mktemp("server")
    python = f"-DPython_EXECUTABLE={environment.python}"
    environment.run(
        "cmake", "-S", APPS / "story_server", "-B", folder, python, "-DPython_FIND_VIRTUALENV=FIRST", cwd=folder
    )
    environment.run("cmake", "--build", folder, cwd=folder)
    return folder / "story_server"


@pytest.mark.slow
def test_threads_of_cpp_and_a_script_share_a_model(
    story_server: Path, environment: Environment, tmp_path: Path
) -> None:
    output = environment.run(
        story_server, llama_cy.demo_model_path(), APPS / "story_server" / "script.py", cwd=tmp_path
    )
    lines = output.splitlines()
    # The weights went last, once.
    assert lines[-1] == "the model is freed"
    told = {side: [line for line in output.split("\n") if line.startswith(side)] for side in ("C++: ", "Python: ")}
    assert len(told["C++: "]) == 2
    stories = {side: [line.removeprefix(side) for line in found] for side, found in told.items()}
    assert stories["C++: "] == stories["Python: "]
    assert len(" ".join(stories["C++: "]).split()) > 30


@pytest.mark.slow
def test_a_script_that_fails_ends_the_program_well(story_server: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("context = model.context(n_ctx=64, n_threads=1)\ncycle = [context]\ncycle.append(cycle)\n1 / 0\n")
    done = subprocess.run(
        [story_server, llama_cy.demo_model_path(), script], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert done.stdout.count("the model is freed") == 1


def blocks(language: str, page: str = "README.md", title: str = "Embed it") -> list[str]:
    """Return the blocks of a language in a section of a page."""
    sections = re.split(r"^## ", (ROOT / page).read_text(), flags=re.MULTILINE)
    (found,) = [part for part in sections if part.startswith(f"{title}\n")]
    return re.findall(rf"^```{language}\n(.*?)^```", found, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.slow
def test_the_readme_works_when_pasted(environment: Environment, tmp_path: Path) -> None:
    (cython,), (setup,), (cpp,), (build, use) = blocks("cython"), blocks("python"), blocks("cpp"), blocks("console")
    assert max(len(code.strip().splitlines()) for code in (cython, cpp)) <= 16
    for name, text in (("mine.pyx", cython), ("setup.py", setup), ("host.cpp", cpp)):
        (tmp_path / name).write_text(text)
    output = []
    for command in (build + use).splitlines():
        assert command.startswith("$ ")
        line = command.removeprefix("$ ").replace("python3-config", "$PYTHON_CONFIG").replace("model.gguf", "$MODEL")
        values = {"MODEL": str(llama_cy.demo_model_path()), "PYTHON_CONFIG": config_of(sys.executable)}
        shell = Environment(environment.python, {**environment.environ, **values})
        output.append(shell.run("bash", "-c", line, cwd=tmp_path))
    assert output[1].split()[0].isdigit()
    assert "llama" in output[-1]


@pytest.mark.slow
def test_meson_builds_it_too(environment: Environment, tmp_path: Path) -> None:
    place = ("docs/embed.md", "Built with meson")
    (cython,), (meson,), (commands,) = blocks("cython"), blocks("meson", *place), blocks("console", *place)
    (tmp_path / "mine.pyx").write_text(cython)
    (tmp_path / "meson.build").write_text(meson)
    for command in commands.splitlines():
        told = environment.run("bash", "-c", command.removeprefix("$ "), cwd=tmp_path)
    assert told == "0 left\n"
    (built,) = (tmp_path / "build").glob("mine.*.so")
    needed = subprocess.run(["readelf", "-d", built], capture_output=True, text=True, check=True).stdout
    assert "NEEDED" in needed
    assert "llama" not in needed


def config_of(python: str) -> str:
    """Return the python-config script of the Python that an environment was made of."""
    base = Path(getattr(sys, "_base_executable", python)).resolve()
    return str(base.with_name(f"python{sys.version_info.major}.{sys.version_info.minor}-config"))
