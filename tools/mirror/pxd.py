"""Write the .pxd files."""

from __future__ import annotations

import keyword
import textwrap
from collections.abc import Iterator

from .declarations import (
    Constant,
    CType,
    Declaration,
    Enum,
    Function,
    Header,
    HeaderError,
    Named,
    Pointer,
    Struct,
    Typedef,
    mentions,
    spell,
    with_parameters,
    wrapped,
)
from .selection import CALLBACKS

INDENT = "    "
# What makes a Python exception of a C++ one.
RAISE = "llama_cy_raise"
LIBC = {
    "libc.stdint": {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "libc.stdio": {"FILE"},
    "libcpp": {"bool"},
}
CYTHON_WORDS = {"cdef", "cimport", "cpdef", "ctypedef", "include"}


class Mirror:
    """The names of all headers together: where each lives, and what Cython calls it."""

    def __init__(self, headers: list[Header]) -> None:
        self.headers = headers
        self.home: dict[str, str] = {}
        taken = {d.name for h in headers for d in h.declarations}
        functions = {f.name for h in headers for f in h.functions}
        tags = {e.name for h in headers for e in h.enums} | {s.name for h in headers for s in h.structs}
        # In C a tag may share its name with a function; in Cython it may not.
        self.renamed = {name: f"{name}_t" for name in sorted(tags & functions)}
        self.callback_types: dict[CType, str] = {}
        clashes = sorted(taken & set(self.renamed.values()))
        if clashes:
            raise HeaderError(
                f"the header has its own {', '.join(clashes)}: the rule for tags that are functions fails"
            )

    def cython_name(self, ctype: Named) -> str:
        return self.renamed.get(ctype.name, ctype.name) if ctype.tag else ctype.name

    def spell(self, ctype: CType, name: str, suffix: str = " noexcept nogil") -> str:
        return spell(with_parameters(ctype, safe), name, self.cython_name, suffix)

    def tag(self, declaration: Enum | Struct) -> str:
        """Name a struct or enum for Cython, with its C name where that differs."""
        name = self.renamed.get(declaration.name, declaration.name)
        cname = declaration.cname if isinstance(declaration, Struct) else ""
        cname = cname or (declaration.name if name != declaration.name else "")
        return f'{name} "{cname}"' if cname else name

    def write(self, header: Header, banner: str) -> str:
        """Write the .pxd of one header; the headers it depends on must have been written before."""
        blocks: list[list[str]] = []
        cimports: dict[str, set[str]] = {}
        for declaration in header.declarations:
            for named in mentions(declaration):
                blocks += self.use(named, declaration.name, header.name, cimports)
            if isinstance(declaration, Constant) and declaration.ctype is None:
                # An enum, not a variable: Cython takes its name as the length of an array.
                if not blocks or blocks[-1][0] != "enum:":
                    blocks.append(["enum:"])
                blocks[-1].append(INDENT + declaration.name)
            else:
                blocks += self.declare(declaration, header.name)
        lines = [f"# {banner}", "", *self.imports(cimports), "", 'cdef extern from "llama_cy_api.h" nogil:']
        lines += [f"{INDENT}void {RAISE}()", ""]
        lines += [f"{INDENT}{line}".rstrip() for line in joined(blocks)]
        if header.name == "llama":
            lines += ["", "", 'cdef extern from "llama_cy_api.h":', f"{INDENT}int import_llama_cy() except -1"]
            kinds = ("MODEL", "VOCAB", "CONTEXT", "SAMPLER", "SAMPLER_I", "SAMPLER_CONTEXT")
            lines += [f"{INDENT}const char * LLAMA_CY_{kind}_CAPSULE" for kind in kinds]
        return "\n".join(lines) + "\n"

    def use(self, named: Named, user: str, module: str, cimports: dict[str, set[str]]) -> list[list[str]]:
        """Make a type known: cimport it, or declare a struct that the header only points to."""
        library = next((lib for lib, names in LIBC.items() if named.name in names), None)
        if library is not None:
            cimports.setdefault(library, set()).add(named.name)
        elif self.home.get(named.name, module) != module:
            cimports.setdefault(self.home[named.name], set()).add(self.cython_name(named))
        elif named.tag == "struct" and named.name != user and named.name not in self.home:
            self.home[named.name] = module
            return [[f"struct {self.cython_name(named)}"]]
        return []

    def declare(self, declaration: Declaration, module: str) -> list[list[str]]:
        """Return the blocks of lines that declare one thing."""
        known = declaration.name in self.home
        if not isinstance(declaration, (Constant, Function)):
            self.home.setdefault(declaration.name, module)
        if isinstance(declaration, Constant):
            assert declaration.ctype is not None
            return [[self.spell(declaration.ctype, declaration.name)]]
        if isinstance(declaration, Enum):
            return [[f"enum {self.tag(declaration)}:", *(INDENT + name for name, _ in declaration.members)]]
        if isinstance(declaration, Typedef):
            if isinstance(declaration.ctype, Pointer):
                self.callback_types.setdefault(without_names(declaration.ctype.to), declaration.name)
            return [wrapped(f"ctypedef {self.spell(declaration.ctype, declaration.name)}")]
        if isinstance(declaration, Function):
            return self.declare_function(declaration)
        if declaration.fields is None:
            return [] if known else [[f"struct {self.tag(declaration)}"]]
        block = [f"{'ctypedef ' if declaration.typedef else ''}struct {self.tag(declaration)}:"]
        for field in declaration.fields:
            block += [INDENT + line for line in wrapped(self.spell(field.ctype, with_cname(field.name)))]
        return [block]

    def declare_function(self, function: Function) -> list[list[str]]:
        # `except +`: behind every function of the C API is C++, and some of it throws.
        blocks = [wrapped(self.spell(function.ctype, function.name, f" except +{RAISE}"))]
        if function.name in CALLBACKS:
            # A function-like macro has no address; the table has it.
            callback_type = self.callback_types[without_names(function.ctype)]
            blocks.append([f'{callback_type} {function.name}_address "llama_cy_api->{function.name}"'])
        return blocks

    def imports(self, cimports: dict[str, set[str]]) -> Iterator[str]:
        order = [*LIBC, *(h.name for h in self.headers)]
        for source in sorted(cimports, key=order.index):
            names = ", ".join(sorted(cimports[source]))
            line = f"from {source} cimport {names}"
            if len(line) <= 120:
                yield line
            else:
                yield f"from {source} cimport ("
                yield from textwrap.wrap(names + ",", 116, initial_indent=INDENT, subsequent_indent=INDENT)
                yield ")"


def safe(name: str) -> str:
    return f"{name}_" if keyword.iskeyword(name) or name in CYTHON_WORDS else name


def without_names(ctype: CType) -> CType:
    """Return the type without parameter names, so that two function types can be compared."""
    return with_parameters(ctype, lambda name: "")


def with_cname(name: str) -> str:
    return name if safe(name) == name else f'{safe(name)} "{name}"'


def joined(blocks: list[list[str]]) -> Iterator[str]:
    """Yield the lines of all blocks, with an empty line around each that has a body."""
    previous: list[str] = []
    for block in blocks:
        if previous and (block[0].endswith(":") or previous[0].endswith(":")):
            yield ""
        yield from block
        previous = block
