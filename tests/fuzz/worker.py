"""Run mutants one after another, saying which before it begins and what came of it after."""

from __future__ import annotations

import json
import random
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cy

from . import bases, exercise
from .draw import draw_bytes, draw_recipe
from .gguf_layout import Layout
from .grammars import GRAMMARS, draw_text
from .operations import Operation, Recipe, apply

__all__ = ["TARGETS", "Mutant", "make_mutant"]

# Far more than a mutant of a file below 1 MB has a use for, and less than the machine has.
ADDRESS_SPACE = 8 * 2**30
RESIDENT = 2**30


class Mutant:
    """A base and what to do to it."""

    def __init__(self, base: str, recipe: Recipe) -> None:
        self.base, self.recipe = base, recipe


def make_mutant(target: str, seed: int, folder: Path) -> Mutant:
    """Draw the mutant of a seed."""
    draw = random.Random(f"{target}:{seed}")
    names = TARGETS[target].bases
    base = draw.choice(names)
    data = TARGETS[target].read(folder, base)
    if target == "grammar":
        return Mutant(base, [draw_text(draw, data) for _ in range(draw.choice((1, 1, 2, 4)))])
    if target == "state":
        recipe: list[Operation] = [
            draw_bytes(draw, len(data), min(len(data), 512)) for _ in range(draw.choice((1, 2, 4)))
        ]
        if draw.random() < 0.8:
            recipe.append(("resign",))
        return Mutant(base, recipe)
    return Mutant(base, draw_recipe(draw, Layout.decode(data), len(data)))


class Target:
    """What the mutants of one kind are made of and what is done with them."""

    bases: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def read(folder: Path, base: str) -> bytes:
        return (folder / f"{base}.gguf").read_bytes()

    def write(self, mutant: Mutant) -> Path:
        path = self.folder / "mutant.gguf"
        path.unlink(missing_ok=True)
        path.write_bytes(apply(self.read(self.folder, mutant.base), mutant.recipe))
        return path

    def run(self, mutant: Mutant, n_threads: int) -> None:
        raise NotImplementedError


class ModelTarget(Target):
    bases = tuple(bases.MODELS)
    trusted = True

    def run(self, mutant: Mutant, n_threads: int) -> None:
        exercise.exercise_model(self.write(mutant), self.trusted, n_threads)


class UntrustedTarget(ModelTarget):
    trusted = False


class AdapterTarget(Target):
    bases = tuple(bases.ADAPTERS)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = llama_cy.Model(folder / f"{bases.ADAPTED}.gguf", n_gpu_layers=0)

    def run(self, mutant: Mutant, n_threads: int) -> None:
        exercise.exercise_adapter(self.write(mutant), self.model, n_threads)


class StateTarget(Target):
    bases = ("llama", "gemma3", "mamba", "jamba", "lfm2", "t5")

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.contexts: dict[str, llama_cy.Context] = {}

    @staticmethod
    def read(folder: Path, base: str) -> bytes:
        path = folder / f"{base}.state"
        if not path.exists():
            with context_for(folder, base) as context:
                context.decode([1, 2, 3, 4, 5])
                path.write_bytes(context.state.get())
        return path.read_bytes()

    def run(self, mutant: Mutant, n_threads: int) -> None:
        context = self.contexts.get(mutant.base)
        if context is None or context.closed:
            context = self.contexts[mutant.base] = context_for(self.folder, mutant.base)
        data = apply(self.read(self.folder, mutant.base), mutant.recipe)
        if mutant.recipe and mutant.recipe[-1][0] == "resign":
            data = exercise.resigned(data)
        exercise.exercise_state(data, context)


class GrammarTarget(Target):
    bases = tuple(GRAMMARS)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.model = llama_cy.Model(folder / "llama.gguf", vocab_only=True)

    @staticmethod
    def read(folder: Path, base: str) -> bytes:
        return GRAMMARS[base].encode()

    def run(self, mutant: Mutant, n_threads: int) -> None:
        data = apply(self.read(self.folder, mutant.base), mutant.recipe)
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            text = data.decode("utf-8", "replace")
        exercise.exercise_grammar(text, self.model, len(data))


def context_for(folder: Path, base: str) -> llama_cy.Context:
    """Make a context that computes with two sequences."""
    model = llama_cy.Model(folder / f"{base}.gguf", n_gpu_layers=0)
    context = model.context(n_ctx=64, n_batch=32, n_seq_max=2, n_threads=1, kv_unified=True)
    if model.has_encoder:
        context.encode([1, 2, 3])
    return context


TARGETS: dict[str, type[Target]] = {
    "model": ModelTarget,
    "untrusted": UntrustedTarget,
    "adapter": AdapterTarget,
    "state": StateTarget,
    "grammar": GrammarTarget,
}


def outcome_of(run: Callable[[], None]) -> dict[str, Any]:
    """Run one mutant and tell what came of it."""
    try:
        run()
    except exercise.REFUSALS as error:
        text = str(error)
        return {"outcome": "refused", "error": type(error).__name__, "text": text[:600]}
    except BaseException as error:
        return {"outcome": "unexpected", "error": type(error).__name__, "text": str(error)[:600]}
    return {"outcome": "used"}


def resident() -> int:
    """Return the most bytes that were in memory since the interpreter started."""
    status = Path("/proc/self/status")
    if status.exists():
        # The maximum of getrusage() includes what the process held that this one was forked from.
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Run the mutants that stdin lists: a seed, or a base and a recipe, a line."""
    target_name, folder = sys.argv[1], Path(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target = TARGETS[target_name](folder)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps({"begin": order}), flush=True)
        mutant = Mutant(*order) if isinstance(order, list) else make_mutant(target_name, order, folder)
        n_threads = 2 if isinstance(order, int) and order % 8 == 0 else 1
        result = outcome_of(lambda mutant=mutant, n_threads=n_threads: target.run(mutant, n_threads))  # type: ignore[misc]
        if resident() > RESIDENT:
            result = {"outcome": "unexpected", "error": "memory", "text": f"{resident()} bytes"}
        print(json.dumps({"end": order} | result), flush=True)
        if result["outcome"] == "unexpected":
            # What it left behind might be blamed on the next one.
            return


if __name__ == "__main__":
    main()
