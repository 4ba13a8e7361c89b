"""Write llama_cy_api.h: the function table, and the macros that call through it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from .declarations import Function, Header, Named, Struct, spell, wrapped

ABI = 1
# Hex digits of each function in the signature.
DIGITS = 4

TOP = """\
#ifndef LLAMA_CY_API_H
#define LLAMA_CY_API_H

/* How to use it: README.md beside this file. */

#if !defined(LLAMA_CY_DEFINE_TABLE) && !defined(LLAMA_CY_NO_IMPORT)
#include <Python.h>
#endif

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "ggml-cpu.h"
#include "ggml-opt.h"
#include "gguf.h"
#include "llama.h"

#define LLAMA_CY_ABI {abi}
#define LLAMA_CY_LLAMA_CPP_COMMIT "{commit}"
#define LLAMA_CY_CAPSULE "llama_cy._llama._api"

/* {digits} hex digits of each function below, in order: a longer table still serves whoever knows its beginning. */
#define LLAMA_CY_SIGNATURE \\
{signature}

/* The capsules that carry objects between Python and C; the README beside this file says who owns what. */
#define LLAMA_CY_MODEL_CAPSULE "llama_cy.llama_model"
#define LLAMA_CY_VOCAB_CAPSULE "llama_cy.llama_vocab"
#define LLAMA_CY_CONTEXT_CAPSULE "llama_cy.llama_context"
#define LLAMA_CY_SAMPLER_CAPSULE "llama_cy.llama_sampler"
#define LLAMA_CY_SAMPLER_I_CAPSULE "llama_cy.llama_sampler_i"
#define LLAMA_CY_SAMPLER_CONTEXT_CAPSULE "llama_cy.llama_sampler_context_t"

#if defined(__GNUC__)
#define LLAMA_CY_HIDDEN __attribute__((visibility("hidden")))
#define LLAMA_CY_UNUSED __attribute__((unused))
#else
#define LLAMA_CY_HIDDEN
#define LLAMA_CY_UNUSED
#endif

#ifdef __cplusplus
extern "C" {{
#endif

/* The first four members never move: they are read before the rest is trusted. */
struct llama_cy_table {{
    uint32_t abi;
    uint32_t size;
    const char * llama_cpp_commit;
    const char * signature;
"""

OWN_TABLE = """\
};

#ifdef LLAMA_CY_DEFINE_TABLE

LLAMA_CY_UNUSED static const struct llama_cy_table llama_cy_own_table = {
    LLAMA_CY_ABI,
    (uint32_t) sizeof(struct llama_cy_table),
    LLAMA_CY_LLAMA_CPP_COMMIT,
    LLAMA_CY_SIGNATURE,
"""

CHECKS = """\
};
#define llama_cy_api (&llama_cy_own_table)

#ifdef __cplusplus
#define LLAMA_CY_CHECK(condition) static_assert(condition, "llama.cpp's headers differ from the mirror: " #condition)
#else
#define LLAMA_CY_CHECK(condition) _Static_assert(condition, "llama.cpp's headers differ from the mirror: " #condition)
#endif

"""

LAYOUT = "#ifdef __LP64__\n"

IMPORT = """\
#endif /* __LP64__ */

#else /* LLAMA_CY_DEFINE_TABLE */

#if defined(LLAMA_CY_UNIQUE_SYMBOL)
#define llama_cy_api LLAMA_CY_UNIQUE_SYMBOL
extern LLAMA_CY_HIDDEN const struct llama_cy_table * llama_cy_api;
#if !defined(LLAMA_CY_NO_IMPORT)
LLAMA_CY_HIDDEN const struct llama_cy_table * llama_cy_api = NULL;
#endif
#elif defined(LLAMA_CY_NO_IMPORT)
#error "LLAMA_CY_NO_IMPORT needs LLAMA_CY_UNIQUE_SYMBOL, the name that another file of the program defines"
#else
LLAMA_CY_UNUSED static const struct llama_cy_table * llama_cy_api = NULL;
#endif

#if !defined(LLAMA_CY_NO_IMPORT)
/* Fetch the table of the installed llama_cy. Returns 0, or -1 with an exception set. Needs the GIL. */
LLAMA_CY_UNUSED static inline int import_llama_cy(void) {
    /* PyCapsule_Import finds an attribute of the package, not a submodule that nobody has imported. */
    PyObject * module = PyImport_ImportModule("llama_cy._llama");
    if (module == NULL) {
        return -1;
    }
    const struct llama_cy_table * table = (const struct llama_cy_table *) PyCapsule_Import(LLAMA_CY_CAPSULE, 0);
    Py_DECREF(module);
    if (table == NULL) {
        return -1;
    }
    const size_t ours = sizeof(LLAMA_CY_SIGNATURE) - 1;
    const size_t theirs = strlen(table->signature);
    if (table->abi != LLAMA_CY_ABI || strcmp(table->llama_cpp_commit, LLAMA_CY_LLAMA_CPP_COMMIT) != 0 ||
        table->size < sizeof(struct llama_cy_table) || strncmp(table->signature, LLAMA_CY_SIGNATURE, ours) != 0) {
        const int older = table->abi == LLAMA_CY_ABI && theirs < ours &&
                          strcmp(table->llama_cpp_commit, LLAMA_CY_LLAMA_CPP_COMMIT) == 0 &&
                          strncmp(table->signature, LLAMA_CY_SIGNATURE, theirs) == 0;
        PyErr_Format(PyExc_ImportError,
                     "this extension was compiled against llama_cy C API %d (llama.cpp %s, %d functions), "
                     "but the installed llama_cy has C API %d (llama.cpp %s, %d functions%s): %s",
                     LLAMA_CY_ABI, LLAMA_CY_LLAMA_CPP_COMMIT, (int) (ours / 4), (int) table->abi,
                     table->llama_cpp_commit, (int) (theirs / 4),
                     theirs == ours && !older ? ", some of them others" : "",
                     older ? "upgrade llama_cy, or rebuild the extension against the installed one"
                           : "rebuild the extension against the installed one");
        return -1;
    }
    llama_cy_api = table;
    return 0;
}
#endif

/* Function-like, because some names are a struct or an enum as well. */
"""

BOTTOM = """\

#endif /* LLAMA_CY_DEFINE_TABLE */

#ifdef __cplusplus
}
#endif

#if defined(__cplusplus) && defined(Py_PYTHON_H)
#include <new>
#include <stdexcept>

/* Make a LlamaError, or what fits better, of what llama.cpp threw. Call it in a catch block, with the GIL. */
LLAMA_CY_UNUSED static void llama_cy_raise() {
    if (PyErr_Occurred()) {
        /* What a callback raised says more. */
        return;
    }
    PyObject * message = NULL;
    try {
        throw;
    } catch (const std::bad_alloc & error) {
        PyErr_SetString(PyExc_MemoryError, error.what());
        return;
    } catch (const std::out_of_range & error) {
        PyErr_SetString(PyExc_IndexError, error.what());
        return;
    } catch (const std::invalid_argument & error) {
        PyErr_SetString(PyExc_ValueError, error.what());
        return;
    } catch (const std::domain_error & error) {
        PyErr_SetString(PyExc_ValueError, error.what());
        return;
    } catch (const std::exception & error) {
        message = PyUnicode_DecodeUTF8(error.what(), (Py_ssize_t) strlen(error.what()), "replace");
    } catch (...) {
        message = PyUnicode_FromString("llama.cpp threw something that is no std::exception");
    }
    PyObject * errors = message == NULL ? NULL : PyImport_ImportModule("llama_cy.errors");
    PyObject * kind = errors == NULL ? NULL : PyObject_GetAttrString(errors, "LlamaError");
    if (kind != NULL) {
        PyErr_SetObject(kind, message);
    }
    Py_XDECREF(kind);
    Py_XDECREF(errors);
    Py_XDECREF(message);
}
#endif

#endif /* LLAMA_CY_API_H */
"""


def write(headers: list[Header], commit: str, banner: str, before: str = "") -> str:
    """Return the header; ``before`` is the text of the one that it replaces."""
    functions = in_order([f for h in headers for f in h.functions], commit, before)
    members = [member(f) for f in functions]
    digests = [hashlib.sha256(text.encode()).hexdigest()[:DIGITS] for text in members]
    lines = ["".join(digests[i : i + 27]) for i in range(0, len(digests), 27)]
    signature = " \\\n".join(f'    "{line}"' for line in lines)
    parts = [f"/* {banner} */\n", TOP.format(abi=ABI, commit=commit, signature=signature, digits=DIGITS)]
    parts += [f"    {line}\n" for text in members for line in wrapped(f"{text};")]
    parts += [OWN_TABLE, *(f"    {f.name},\n" for f in functions), CHECKS]
    parts += [f"LLAMA_CY_CHECK({name} == {value});\n" for h in headers for e in h.enums for name, value in e.members]
    parts += [LAYOUT, *(f"LLAMA_CY_CHECK({check});\n" for h in headers for s in h.structs for check in layout(s))]
    parts += [IMPORT, *(f"#define {f.name}(...) (llama_cy_api->{f.name}(__VA_ARGS__))\n" for f in functions), BOTTOM]
    return "".join(parts)


def in_order(functions: list[Function], commit: str, before: str) -> list[Function]:
    """Keep the order of a table of the same llama.cpp commit, and put what is new at its end.

    Another commit begins anew: it may change any struct, so nothing compiled against the old one works with it anyway.
    """
    if f'"{commit}"' not in before:
        return functions
    table = before.partition("struct llama_cy_table {")[2].partition("\n};")[0]
    places = {name: place for place, name in enumerate(re.findall(r"\(\*(\w+)\)\(", table))}
    return sorted(functions, key=lambda function: places.get(function.name, len(places)))


def c_name(ctype: Named) -> str:
    return f"{ctype.tag} {ctype.name}".strip()


def member(function: Function) -> str:
    text = spell(function.ctype, f"(*{function.name})", c_name)
    return text if function.ctype.parameters else text.removesuffix("()") + "(void)"


def layout(struct: Struct) -> Iterator[str]:
    """Yield what must hold for the layout of a struct; one without a name of its own is part of another."""
    if struct.fields is None or struct.cname:
        return
    name = struct.name if struct.typedef else f"struct {struct.name}"
    yield f"sizeof({name}) == {struct.size}"
    for field in struct.fields:
        yield f"offsetof({name}, {field.name}) == {field.offset}"
