"""Read the C headers with libclang into plain data."""

from __future__ import annotations

import re
from pathlib import Path

from clang import cindex
from clang.cindex import CursorKind, TypeKind

from .declarations import (
    Array,
    Constant,
    CType,
    Declaration,
    Enum,
    Field,
    Function,
    FunctionType,
    Header,
    HeaderError,
    Named,
    Pointer,
    Struct,
    Typedef,
)
from .selection import HEADERS, is_selected, selected_names

# libclang from PyPI has no builtin headers, and the host's would make the output depend on the machine.
STANDARD_HEADERS = {
    "stddef.h": "typedef unsigned long size_t;\n#define NULL ((void *) 0)\n",
    "stdbool.h": "typedef _Bool bool;\n",
    "stdint.h": "".join(
        f"typedef {word} int{bits}_t; typedef unsigned {word} uint{bits}_t;\n"
        for word, bits in (("char", 8), ("short", 16), ("int", 32), ("long", 64))
    ).replace("typedef char", "typedef signed char")
    + "#define UINTPTR_MAX 18446744073709551615UL\n",
    "stdio.h": "typedef struct _FILE FILE;\n",
}
TARGET = "x86_64-unknown-linux-gnu"
NOT_DECLARATIONS = {CursorKind.MACRO_INSTANTIATION, CursorKind.INCLUSION_DIRECTIVE}
BUILTINS = {TypeKind.VOID, TypeKind.CHAR_S, TypeKind.INT, TypeKind.UINT, TypeKind.FLOAT, TypeKind.DOUBLE}
INTEGER = re.compile(r"-?(0[xX][0-9a-fA-F]+|\d+)[uU]?")


def read_headers(source: Path) -> list[Header]:
    """Parse llama.h of the llama.cpp tree `source` and return its headers in dependency order."""
    main = source / "include" / "llama.h"
    if not main.is_file():
        raise HeaderError(f"{main} does not exist: run `python vendor/fetch.py`, or pass --source")
    # The stand-ins pretend to lie beside llama.h: clang ignores include directories that do not exist.
    stand_ins = [(str(main.parent / name), text) for name, text in STANDARD_HEADERS.items()]
    flags = ["-xc", "-std=c11", f"--target={TARGET}", "-nostdinc", f"-I{main.parent}", f"-I{source / 'ggml/include'}"]
    unit = cindex.Index.create().parse(
        str(main),
        flags,
        unsaved_files=stand_ins,
        options=cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD,
    )
    errors = [d.spelling for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
    if errors:
        raise HeaderError(f"{main}: {'; '.join(errors)}")
    by_file: dict[str, list[cindex.Cursor]] = {}
    for cursor in unit.cursor.get_children():
        if cursor.location.file is not None and cursor.kind not in NOT_DECLARATIONS:
            by_file.setdefault(Path(cursor.location.file.name).resolve().as_posix(), []).append(cursor)
    headers = []
    for path, name in HEADERS.items():
        file = (source / path).resolve()
        cursors = sorted(by_file.get(file.as_posix(), []), key=lambda c: c.location.offset)
        headers.append(read_header(name, cursors))
    unknown = selected_names().difference(f for h in headers for f in (*(d.name for d in h.functions), *h.left_out))
    if unknown:
        raise HeaderError(f"selection.py names what the headers no longer declare: {', '.join(sorted(unknown))}")
    return headers


def read_header(name: str, cursors: list[cindex.Cursor]) -> Header:
    header = Header(name)
    macros: dict[str, Constant] = {}
    for cursor in cursors:
        if cursor.kind == CursorKind.FUNCTION_DECL:
            read_function(header, cursor)
        elif cursor.kind == CursorKind.MACRO_DEFINITION:
            constant = read_macro(cursor, macros)
            if constant is not None:
                macros[constant.name] = constant
                header.declarations.append(constant)
        elif cursor.kind == CursorKind.ENUM_DECL:
            if cursor.is_anonymous():
                raise HeaderError(f"{name}: an enum without a name has no mirror")
            members = tuple((c.spelling, c.enum_value) for c in cursor.get_children())
            header.declarations.append(Enum(cursor.spelling, members))
        elif cursor.kind == CursorKind.STRUCT_DECL:
            # clang lends an untagged struct the name of its typedef.
            typedef = not cursor.type.spelling.startswith("struct ")
            header.declarations += read_struct(cursor, cursor.spelling, typedef=typedef)
        elif cursor.kind == CursorKind.TYPEDEF_DECL:
            header.declarations += read_typedef(cursor)
        elif cursor.kind == CursorKind.VAR_DECL:
            header.declarations.append(Constant(cursor.spelling, read_type(cursor.type)))
        else:
            raise HeaderError(f"{name}: {cursor.kind.name} {cursor.spelling} has no mirror")
    # Headers repeat typedefs and forward declarations.
    header.declarations = list(dict.fromkeys(header.declarations))
    return header


def read_function(header: Header, cursor: cindex.Cursor) -> None:
    if cursor.availability == cindex.AvailabilityKind.DEPRECATED:
        header.deprecated.append(cursor.spelling)
    elif not is_selected(header.name, cursor.spelling):
        header.left_out.append(cursor.spelling)
    elif cursor.type.kind == TypeKind.FUNCTIONPROTO and cursor.type.is_function_variadic():
        raise HeaderError(f"{cursor.spelling} takes variable arguments and cannot go through the table")
    else:
        parameters = tuple((p.spelling, read_type(p.type)) for p in cursor.get_arguments())
        header.declarations.append(Function(cursor.spelling, FunctionType(read_type(cursor.result_type), parameters)))


def read_macro(cursor: cindex.Cursor, macros: dict[str, Constant]) -> Constant | None:
    """Return the constant a macro stands for: a number, a string, or another such macro."""
    name, *tokens = (t.spelling for t in cursor.get_tokens())
    while len(tokens) > 2 and tokens[0] == "(" and tokens[-1] == ")":
        tokens = tokens[1:-1]
    value = "".join(tokens)
    if value in macros:
        return Constant(name, macros[value].ctype)
    if value.startswith('"') and len(tokens) == 1:
        return Constant(name, Pointer(Named("char", const=True)))
    if not INTEGER.fullmatch(value):
        return None
    if value[-1] in "uU" or int(value, 0) >= 2**31:
        return Constant(name, Named("uint32_t", const=True))
    return Constant(name, None)


def read_struct(cursor: cindex.Cursor, name: str, cname: str = "", typedef: bool = False) -> list[Declaration]:
    """Return the struct, preceded by the unnamed structs of its fields."""
    if not cursor.is_definition():
        return [Struct(name, None)]
    inner: list[Declaration] = []
    fields: list[Field] = []
    for member in cursor.type.get_fields():
        if member.is_bitfield():
            raise HeaderError(f"{name}.{member.spelling} is a bit field and has no mirror")
        record = member.type.get_declaration()
        if not member.spelling or "(" in member.spelling:
            # The members of an anonymous union are members of the struct.
            names = [(f, cursor.type.get_offset(f.spelling) // 8) for f in record.type.get_fields()]
            fields += [Field(f.spelling, read_declared_type(f, f.type), offset) for f, offset in names]
            continue
        offset = cursor.type.get_offset(member.spelling) // 8
        if record.kind == CursorKind.STRUCT_DECL and record.is_anonymous():
            field_type = f"{name}_{member.spelling}"
            inner += read_struct(record, field_type, f"decltype({name}::{member.spelling})", typedef=True)
            fields.append(Field(member.spelling, Named(field_type), offset))
        else:
            fields.append(Field(member.spelling, read_declared_type(member, member.type), offset))
    return [*inner, Struct(name, tuple(fields), cursor.type.get_size(), cname, typedef)]


def read_typedef(cursor: cindex.Cursor) -> list[Declaration]:
    record = cursor.underlying_typedef_type.get_canonical().get_declaration()
    if record.kind == CursorKind.STRUCT_DECL and record.spelling == cursor.spelling:
        return []  # `typedef struct x x;`: the struct itself has been read
    return [Typedef(cursor.spelling, read_declared_type(cursor, cursor.underlying_typedef_type))]


def read_declared_type(cursor: cindex.Cursor, ctype: cindex.Type) -> CType:
    """Read the type of a declaration; a pointer to function takes its parameters' names from the declaration."""
    result = read_type(ctype)
    names = [c.spelling for c in cursor.get_children() if c.kind == CursorKind.PARM_DECL]
    if isinstance(result, Pointer) and isinstance(result.to, FunctionType):
        parameters = tuple(zip(names, (t for _, t in result.to.parameters), strict=True))
        return Pointer(FunctionType(result.to.returns, parameters))
    return result


def read_type(ctype: cindex.Type) -> CType:
    const = ctype.is_const_qualified()
    if ctype.kind == TypeKind.POINTER:
        return Pointer(read_type(ctype.get_pointee()), const)
    if ctype.kind == TypeKind.CONSTANTARRAY:
        return Array(read_type(ctype.element_type), ctype.element_count)
    if ctype.kind == TypeKind.FUNCTIONPROTO:
        return FunctionType(read_type(ctype.get_result()), tuple(("", read_type(t)) for t in ctype.argument_types()))
    if ctype.kind == TypeKind.TYPEDEF:
        return Named(ctype.get_declaration().spelling, const=const)
    if ctype.kind == TypeKind.ELABORATED:
        inner = read_type(ctype.get_named_type())
        return Named(inner.name, inner.tag, const) if isinstance(inner, Named) else inner
    if ctype.kind == TypeKind.RECORD:
        return Named(ctype.get_declaration().spelling, "struct", const)
    if ctype.kind == TypeKind.ENUM:
        return Named(ctype.get_declaration().spelling, "enum", const)
    if ctype.kind in BUILTINS:
        return Named(ctype.spelling.removeprefix("const "), const=const)
    raise HeaderError(f"the type {ctype.spelling} ({ctype.kind.name}) has no mirror")
