"""Everything public has a docstring of one shape, and what it says about parameters and llama.cpp is so."""

from __future__ import annotations

import ast
import fnmatch
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import llama_cy
from tools.surface import Documented, public, sections

PACKAGE = Path(llama_cy.__file__).parent
MIRROR = "\n".join(path.read_text() for path in sorted(Path(llama_cy.get_include()).glob("*.pxd")))
DECLARED = set(re.findall(r"\b(?:llama|ggml|gguf)_\w+", MIRROR))
FUNCTIONS = set(re.findall(r"\b((?:llama|ggml|gguf)_\w+)\(", MIRROR))

# In this order.
SECTIONS = (
    "Parameters",
    "Attributes",
    "Returns",
    "Yields",
    "Raises",
    "Warns",
    "See Also",
    "Notes",
    "References",
    "Examples",
)

# A public name with one of these in front is a function of llama.h, if there is such a function.
PREFIXES = {
    "Model": ("llama_model_",),
    "Vocab": ("llama_vocab_", "llama_vocab_get_", "llama_"),
    "Batch": ("llama_batch_",),
    "Context": ("llama_", "llama_get_"),
    "LoraAdapter": ("llama_adapter_",),
    "Memory": ("llama_memory_",),
    "State": ("llama_state_",),
    "Sampler": ("llama_sampler_", "llama_sampler_init_", "llama_sampler_get_"),
    "SamplerChain": ("llama_sampler_chain_", "llama_sampler_"),
}


def is_field(value: object) -> bool:
    """Tell whether a member is data without a docstring of its own."""
    if isinstance(value, (ModuleType, property, staticmethod, classmethod)) or callable(value):
        return False
    return not (inspect.isgetsetdescriptor(value) and value.__doc__)


PUBLIC = {item.name: item for item in public()}
FIELDS = [item for item in PUBLIC.values() if is_field(item.value)]
DESCRIBED = [item for item in PUBLIC.values() if not is_field(item.value)]
Rule = Callable[[Documented], Iterator[str]]


def entries(section: str) -> set[str]:
    """Return the names that a Parameters or Attributes section lists, those of `a, b : type` one by one."""
    lines = [line.partition(" : ")[0] for line in section.splitlines() if line and not line.startswith(" ")]
    return {name.strip(" *") for line in lines for name in line.split(",")}


def constructor(cls: type) -> ast.arguments | None:
    """Return the arguments that the stub of a compiled class gives its constructor."""
    stub = ast.parse((PACKAGE / f"{cls.__module__.rpartition('.')[2]}.pyi").read_text())
    body = next(node.body for node in stub.body if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    methods = {node.name: node.args for node in body if isinstance(node, ast.FunctionDef)}
    return methods.get("__new__", methods.get("__init__"))


def parameters(value: Any) -> set[str]:
    """Return the names of the parameters that a class or function takes."""
    if isinstance(value, type) and not inspect.getsourcefile(value):
        arguments = constructor(value) or ast.arguments([], [], None, [], [], None, [])
        named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        return {argument.arg for argument in named if argument} - {"cls", "self"}
    function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
    return set(inspect.signature(function).parameters) - {"self", "cls"} if callable(function) else set()


def has_a_summary(item: Documented) -> Iterator[str]:
    if not item.summary:
        yield "there is no docstring"
    elif "\n" in item.summary:
        yield "the summary is longer than one line"
    elif not re.fullmatch(r"([A-Z`]|llama\.cpp|ggml).*\.", item.summary):
        yield "the summary is no sentence: a capital letter in front, a period behind"


def says_what_to_do(item: Documented) -> Iterator[str]:
    if inspect.isdatadescriptor(item.value) or isinstance(item.value, (type, ModuleType)):
        return
    first = item.summary.split()[0] if item.summary else ""
    if re.fullmatch(r"\w+[^s]s|An?|The|This", first):
        yield f"the summary begins with {first!r}, not with an imperative"


def sections_are_known(item: Documented) -> Iterator[str]:
    found = list(sections(item.doc))
    if found != [name for name in SECTIONS if name in found]:
        yield f"the sections are {found}; known, in this order, are {SECTIONS}"
    for heading, underline in re.findall(r"^(\S.*)\n(-{3,})$", item.doc, flags=re.MULTILINE):
        if len(heading) != len(underline):
            yield f"{heading} and its underline differ in length"
    for heading in {f"{name}:" for name in SECTIONS} & set(item.doc.splitlines()):
        yield f"{heading} is not underlined"


def parameters_exist(item: Documented) -> Iterator[str]:
    text = sections(item.doc).get("Parameters")
    if text is None:
        return
    listed, taken = entries(text), parameters(item.value)
    catch_all = {"params", "options"} & listed
    if listed - catch_all - taken:
        yield f"documented but not taken: {sorted(listed - catch_all - taken)}"
    if not catch_all and taken - listed:
        yield f"taken but not documented: {sorted(taken - listed)}"


def names_of_llama_cpp_exist(item: Documented) -> Iterator[str]:
    for name in re.findall(r"``((?:llama|ggml|gguf)_(?!cy)[\w*]+)``", item.doc):
        if not fnmatch.filter(DECLARED, name):
            yield f"no header declares {name}"
    for name in re.findall(r"Wraps ``([^`]+)``", item.doc):
        if not fnmatch.filter(FUNCTIONS, name):
            yield f"no header has a function {name}"


def wrappers_say_what_they_wrap(item: Documented) -> Iterator[str]:
    class_name, _, own_name = item.name.rpartition(".")
    same = [f"{prefix}{own_name}" for prefix in PREFIXES.get(class_name, ()) if f"{prefix}{own_name}" in FUNCTIONS]
    said = re.findall(r"``(\w+)``", item.doc)
    # `logits` may wrap `llama_get_logits_ith`.
    if same and not any(name.startswith(tuple(same)) for name in said):
        yield f"say Wraps ``{same[0]}``."


def is_described_by_its_class(item: Documented) -> Iterator[str]:
    class_name, _, own_name = item.name.rpartition(".")
    for base in getattr(llama_cy, class_name).__mro__ if class_name else ():
        found = sections(inspect.getdoc(base) or "")
        if own_name in entries(found.get("Attributes", "")) | entries(found.get("Parameters", "")):
            return
    yield "it has no docstring, and its class describes it in no Attributes section"


def test_there_is_something_to_look_at() -> None:
    assert {"Model", "Model.n_embd", "Sampler.top_k", "sampling", "log.flush", "Context.close"} <= PUBLIC.keys()
    assert {"llama_decode", "llama_memory_seq_rm", "ggml_threadpool_new"} <= FUNCTIONS


def complaints(rule: Rule, items: list[Documented]) -> list[str]:
    assert items
    return [f"{item.name}: {complaint}" for item in items for complaint in rule(item)]


RULES = (
    has_a_summary,
    says_what_to_do,
    sections_are_known,
    parameters_exist,
    names_of_llama_cpp_exist,
    wrappers_say_what_they_wrap,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_docstrings(rule: Rule) -> None:
    assert complaints(rule, DESCRIBED) == []


def test_fields_are_described() -> None:
    assert complaints(is_described_by_its_class, FIELDS) == []
