"""Load a model that nobody trusts in a child process first: what ends the child is an exception here."""

from __future__ import annotations

import json
import multiprocessing.spawn
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import LlamaError, ModelLoadError
from .gguf_header import load_failure

if TYPE_CHECKING:
    from .model import Model
if sys.platform != "win32":
    import resource

BOOTSTRAP = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from llama_cy.trial import main; main()"
# The child may take so long, and so much memory beside the file's own; more for a larger file.
SECONDS = 60.0
SECONDS_PER_GIB = 30.0
MEMORY = 8 * 2**30
# A driver reserves more addresses than the child may have, and a file is as bad on any device.
NO_DEVICES = dict.fromkeys(("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GGML_VK_VISIBLE_DEVICES"), "")
# In the environment of the child, which tries no other model.
INSIDE = "LLAMA_CY_TRIAL"
# Status of a child that could not load it, and lives.
REFUSED = 3
TEXT = "Hello, world! 1234\n\tIt's naïve: 日本語 🙂 <|end|></s>"
PARTS = re.compile(r"(.*)-\d{5}-of-(\d{5})\.gguf", re.DOTALL)


def _size(path: str | list[str]) -> int:
    """Return the bytes of a model, of all its files if there are several."""
    if isinstance(path, list):
        return sum(os.stat(part).st_size for part in path)
    match = PARTS.fullmatch(path)
    parts = [f"{match[1]}-{i + 1:05}-of-{match[2]}.gguf" for i in range(int(match[2]))] if match else [path]
    return sum(os.stat(part).st_size for part in parts if Path(part).exists())


def try_in_child(path: str | list[str], params: dict[str, Any]) -> None:
    """Load a model and use it a little in a child process, on the CPU.

    Parameters
    ----------
    path : str or list of str
        The file, or all the files in their order.
    params : dict
        Keyword arguments of :class:`Model`, as JSON has them.

    Raises
    ------
    ModelLoadError
        What the child raised; or it died, took too long or too much memory.
    """
    size = _size(path)
    order = {"path": path, "params": params, "memory": MEMORY + 3 * size}
    seconds = SECONDS + SECONDS_PER_GIB * size / 2**30
    executable = os.fsdecode(multiprocessing.spawn.get_executable() or "")
    # A packed program would start itself, and so on.
    own = bool(getattr(sys, "frozen", False)) and executable == sys.executable
    if not executable or own or INSIDE in os.environ:
        raise _failure(
            path,
            f"{executable or 'nothing'} is no Python that a child process could try it in; "
            "multiprocessing.set_executable(path) names one that has llama_cy",
        )
    command = [executable, "-c", BOOTSTRAP, json.dumps(sys.path)]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONFAULTHANDLER"}
    try:
        child = subprocess.run(
            command, input=json.dumps(order), capture_output=True, text=True, errors="replace", timeout=seconds,
            check=False,
            env=environ | NO_DEVICES | {"GGML_NO_BACKTRACE": "1", "PYTHONIOENCODING": "utf-8", INSIDE: "1"},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise _failure(path, f"a child process that loads it was not done after {seconds:.0f} s") from None
    if child.returncode == 0:
        return
    if child.returncode == REFUSED:
        told = json.loads(child.stdout)
        raise _failure(path, f"a child process that loads it raised {told['error']}: {told['text']}")
    raise _failure(path, f"a child process that loads it {_end_of(child)}")


def _failure(path: str | list[str], reason: str) -> ModelLoadError:
    return load_failure("model", str(path), f"it is not trusted, and {reason}")


def _end_of(child: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in child.stderr.splitlines() if line.strip()]
    if child.returncode < 0:
        # llama.cpp's words come first, and Python's traceback behind them.
        return f"died of {signal.Signals(-child.returncode).name}" + "".join(f": {line[:500]}" for line in lines[:1])
    return f"ended with status {child.returncode}" + "".join(f": {line[:500]}" for line in lines[-1:])


def _use(path: str | list[str], params: dict[str, Any]) -> None:
    """Do once what a program does with a model."""
    from .model import Model

    with Model(path, n_gpu_layers=0, **params) as model:
        vocab = model.vocab
        # What it refuses to do is no harm; a death would be.
        for add_special in (True, False):
            with suppress(LlamaError, ValueError):
                vocab.detokenize(vocab.tokenize(TEXT, add_special=add_special))
        with suppress(LlamaError, ValueError):
            for token in range(min(vocab.n_tokens, 1000)):
                vocab.token_to_piece(token)
        if not model.vocab_only:
            for embeddings in (False, True):
                with suppress(LlamaError, ValueError):
                    _compute(model, embeddings)


def _compute(model: Model, embeddings: bool) -> None:
    tokens = [token % model.vocab.n_tokens for token in range(1, 9)]
    with model.context(n_ctx=256, n_batch=64, embeddings=embeddings, n_threads=2) as context:
        if model.has_encoder:
            context.encode(tokens)
        if model.has_decoder:
            context.decode(tokens)
            context.decode(tokens[:1])


def _limit(memory: int) -> None:
    """Bound the memory of this process, and leave no core of it; where the bound is lower already it stays.

    On Windows nothing is bound.
    """
    if sys.platform == "win32":
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY:
        memory = min(memory, most)
    resource.setrlimit(resource.RLIMIT_AS, (memory, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    """Do what stdin orders, in the child."""
    order = json.loads(sys.stdin.read())
    _limit(order["memory"])
    try:
        _use(order["path"], order["params"])
    except BaseException as error:
        print(json.dumps({"error": type(error).__name__, "text": str(error)}), flush=True)
        # The exit runs nothing of a library that may be in any state.
        os._exit(REFUSED)
    os._exit(0)
