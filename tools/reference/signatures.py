"""Signatures as the stubs have them, read with griffe; the compiled modules know no types."""

from __future__ import annotations

import functools
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[2]
WIDTH = 100


@functools.cache
def package() -> griffe.Module:
    found = griffe.load("llama_cy", search_paths=[ROOT], allow_inspection=False)
    assert isinstance(found, griffe.Module)
    return found


def find(name: str) -> griffe.Object | None:
    """Find what a public name like ``Context.decode`` is in the stubs; in a base class, if it is inherited."""
    found: griffe.Object = package()
    for part in name.split("."):
        classes = [found]
        while part not in classes[0].members:
            bases = [base for cls in classes if isinstance(cls, griffe.Class) for base in cls.resolved_bases]
            if not bases:
                return None
            classes = [base for base in bases if part in base.members] or bases
        member = classes[0].members[part]
        target = member.final_target if isinstance(member, griffe.Alias) else member
        found = target
    return found


def annotation(value: str | griffe.Expr | None, scope: griffe.Object) -> str:
    """Spell a type, private aliases written out."""
    text = "" if value is None else str(value)
    for part in value.iterate(flat=True) if isinstance(value, griffe.Expr) else ():
        if isinstance(part, griffe.ExprName) and part.name.startswith("_"):
            alias = scope.module.members[part.name]
            target = alias.final_target if isinstance(alias, griffe.Alias) else alias
            assert isinstance(target, griffe.Attribute)
            text = text.replace(part.name, str(target.value))
    return text


def parameter(value: griffe.Parameter, scope: griffe.Object) -> str:
    star = {
        griffe.ParameterKind.var_positional: "*",
        griffe.ParameterKind.var_keyword: "**",
    }.get(value.kind or griffe.ParameterKind.positional_or_keyword, "")
    typed = f": {annotation(value.annotation, scope)}" if value.annotation is not None else ""
    if star or value.default is None:
        return f"{star}{value.name}{typed}"
    return f"{star}{value.name}{typed}{' = ' if typed else '='}{value.default}"


def parameters(function: griffe.Function) -> list[str]:
    """Spell the parameters, with the lone star and slash, but without `self`."""
    given = [value for value in function.parameters if value.name not in ("self", "cls")]
    spelled = []
    starred = False
    for i, value in enumerate(given):
        if value.kind is griffe.ParameterKind.keyword_only and not starred:
            spelled.append("*")
        starred |= value.kind in (griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional)
        spelled.append(parameter(value, function))
        after = given[i + 1].kind if i + 1 < len(given) else None
        if value.kind is griffe.ParameterKind.positional_only and after is not griffe.ParameterKind.positional_only:
            spelled.append("/")
    return spelled


def call(name: str, function: griffe.Function | None, returns: bool) -> str:
    """Spell a definition; a long one takes a line for each parameter."""
    given = parameters(function) if function else []
    result = f" -> {annotation(function.returns, function)}" if function and returns and function.returns else ""
    line = f"{name}({', '.join(given)}){result}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {text}," for text in given), f"){result}"])


def signature(name: str) -> str | None:
    """Spell how a public name is used, as Python; None where the stubs say nothing."""
    found, own = find(name), name.rpartition(".")[2]
    if isinstance(found, griffe.Class):
        maker = find(f"{name}.__new__") or find(f"{name}.__init__")
        if maker is None or "Never" in str([value.annotation for value in getattr(maker, "parameters", ())]):
            return f"class {own}"
        assert isinstance(maker, griffe.Function)
        return call(f"class {own}", maker, returns=False)
    if isinstance(found, griffe.Function):
        static = "staticmethod" in found.labels
        return ("@staticmethod\n" if static else "") + call(f"def {own}", found, returns=True)
    if isinstance(found, griffe.Attribute) and found.annotation is not None:
        return f"{own}: {annotation(found.annotation, found)}"
    return None
