"""C types and declarations as plain data, and how a declarator is spelled."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


class HeaderError(Exception):
    """The headers are missing, do not parse, or declare something that has no mirror yet."""


@dataclass(frozen=True)
class Named:
    """A builtin, typedef, struct or enum; ``tag`` is "struct" or "enum" where C wants the word."""

    name: str
    tag: str = ""
    const: bool = False


@dataclass(frozen=True)
class Pointer:
    to: CType
    const: bool = False


@dataclass(frozen=True)
class Array:
    of: CType
    length: int


@dataclass(frozen=True)
class FunctionType:
    returns: CType
    parameters: tuple[tuple[str, CType], ...]


CType = Named | Pointer | Array | FunctionType


@dataclass(frozen=True)
class Constant:
    """An object-like macro or a static constant; ``ctype`` is None for an int that may be the length of an array."""

    name: str
    ctype: CType | None


@dataclass(frozen=True)
class Enum:
    name: str
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Field:
    name: str
    ctype: CType
    offset: int


@dataclass(frozen=True)
class Struct:
    """A struct; ``fields`` is None when it is opaque. ``cname`` is the C++ type-id where it has no tag of its own."""

    name: str
    fields: tuple[Field, ...] | None
    size: int = 0
    cname: str = ""
    typedef: bool = False


@dataclass(frozen=True)
class Typedef:
    name: str
    ctype: CType


@dataclass(frozen=True)
class Function:
    name: str
    ctype: FunctionType


Declaration = Constant | Enum | Struct | Typedef | Function


@dataclass
class Header:
    """What one C header declares, in its order; ``deprecated`` and ``left_out`` name what is not mirrored."""

    name: str
    declarations: list[Declaration] = field(default_factory=list)
    deprecated: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def functions(self) -> list[Function]:
        return [d for d in self.declarations if isinstance(d, Function)]

    @property
    def enums(self) -> list[Enum]:
        return [d for d in self.declarations if isinstance(d, Enum)]

    @property
    def structs(self) -> list[Struct]:
        return [d for d in self.declarations if isinstance(d, Struct)]


def spell(ctype: CType, declarator: str, base: Callable[[Named], str], suffix: str = "") -> str:
    """Spell a declaration of `declarator`; `base` names the leaf types, `suffix` follows every function type."""
    if isinstance(ctype, Named):
        text = f"{'const ' if ctype.const else ''}{base(ctype)}"
        return f"{text} {declarator}" if declarator and not declarator.startswith("[") else text + declarator
    if isinstance(ctype, Pointer):
        if isinstance(ctype.to, FunctionType):
            inner = f"(*{' const ' if ctype.const else ''}{declarator})"
        else:
            star = "* const" if ctype.const else "*"
            inner = (
                star + declarator if declarator.startswith("*") and not ctype.const else f"{star} {declarator}".rstrip()
            )
            inner = f"({inner})" if isinstance(ctype.to, Array) else inner
        return spell(ctype.to, inner, base, suffix)
    if isinstance(ctype, Array):
        return spell(ctype.of, f"{declarator}[{ctype.length}]", base, suffix)
    parameters = ", ".join(spell(t, name, base, suffix) for name, t in ctype.parameters)
    return spell(ctype.returns, f"{declarator}({parameters})", base, suffix) + suffix


def with_parameters(ctype: CType, rename: Callable[[str], str]) -> CType:
    """Return the type with the parameters of every function in it renamed."""
    if isinstance(ctype, Pointer):
        return Pointer(with_parameters(ctype.to, rename), ctype.const)
    if isinstance(ctype, Array):
        return Array(with_parameters(ctype.of, rename), ctype.length)
    if isinstance(ctype, FunctionType):
        parameters = tuple((rename(name), with_parameters(t, rename)) for name, t in ctype.parameters)
        return FunctionType(with_parameters(ctype.returns, rename), parameters)
    return ctype


def leaves(ctype: CType) -> Iterator[Named]:
    """Yield every named type that `ctype` mentions."""
    if isinstance(ctype, Named):
        yield ctype
    elif isinstance(ctype, Pointer):
        yield from leaves(ctype.to)
    elif isinstance(ctype, Array):
        yield from leaves(ctype.of)
    else:
        yield from leaves(ctype.returns)
        for _, parameter in ctype.parameters:
            yield from leaves(parameter)


def mentions(declaration: Declaration) -> Iterator[Named]:
    """Yield every named type that `declaration` mentions."""
    if isinstance(declaration, Struct):
        for member in declaration.fields or ():
            yield from leaves(member.ctype)
    elif not isinstance(declaration, Enum) and declaration.ctype is not None:
        yield from leaves(declaration.ctype)


def wrapped(line: str, width: int = 112) -> list[str]:
    """Break a long declaration of a function: its parameters go to lines of their own."""
    if len(line) <= width or ")" not in line:
        return [line]
    end = line.rindex(")")
    start = max(i for i in range(end) if line[i] == "(" and line[i:end].count("(") == line[i:end].count(")") + 1)
    # Parameters are kept whole: a line ends with a comma.
    parameters = line[start + 1 : end].replace(" ", "\0").replace(",\0", ", ")
    parts = textwrap.wrap(parameters, width - 4, break_long_words=False, break_on_hyphens=False)
    lines = [line[: start + 1], *(4 * " " + part.replace("\0", " ") for part in parts)]
    return [*lines[:-1], lines[-1] + line[end:]]
