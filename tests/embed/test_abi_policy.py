"""Extensions built against the headers of other versions, imported beside the package that is installed.

``tests/build/test_layout.py`` does the same with tables that are made up; here the headers are.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.child import check_output
from support.downstream import compile_extension

import llama_cy

SOURCE = Path(__file__).with_name("abi_policy.cpp")
HEADER = "llama_cy_api.h"
IMPORT = """
import sys
sys.path.insert(0, sys.argv[1])
try:
    import abi_policy
except ImportError as error:
    print(error)
else:
    import llama_cy
    assert abi_policy.max_devices() == llama_cy.max_devices()
    print("works")
"""


def signature(header: str) -> str:
    return "".join(re.findall(r'^    "([0-9a-f]+)"', header.partition("#define LLAMA_CY_SIGNATURE")[2], re.M))


def with_signature(header: str, text: str) -> str:
    before, _, rest = header.partition("#define LLAMA_CY_SIGNATURE")
    return f'{before}#define LLAMA_CY_SIGNATURE "{text}"\n\n{rest.partition(chr(10) + chr(10))[2]}'


def members(header: str) -> list[str]:
    """Return the functions of the table, each as it is declared."""
    body = header.partition("struct llama_cy_table {")[2].partition("\n};")[0]
    return re.findall(r"^    [^\n]*\(\*\w+\)\(.*?\);$", body, re.M | re.S)


def older(count: int) -> Callable[[str], str]:
    """Return what makes the header as it was before the last functions were added."""

    def edit(header: str) -> str:
        last = members(header)[-count:]
        for member in last:
            (name,) = re.findall(r"\(\*(\w+)\)\(", member)[:1]
            header = header.replace(f"{member}\n", "", 1)
            header, removed = re.subn(rf"^#define {name}\(\.\.\.\).*\n", "", header, flags=re.M)
            assert removed == 1
        return with_signature(header, signature(header)[: -4 * count])

    return edit


def newer(header: str) -> str:
    last = members(header)[-1]
    header = header.replace(last, f"{last}\n    void (*llama_of_tomorrow)(void);", 1)
    return with_signature(header, signature(header) + "0123")


def inserted(header: str) -> str:
    first = members(header)[0]
    header = header.replace(first, f"    void (*llama_of_elsewhere)(void);\n{first}", 1)
    return with_signature(header, "0123" + signature(header))


def changed(header: str) -> str:
    return with_signature(header, "0123" + signature(header)[4:])


def other_layout(header: str) -> str:
    return header.replace("#define LLAMA_CY_ABI 1", "#define LLAMA_CY_ABI 0")


def other_commit(header: str) -> str:
    return re.sub(r'(#define LLAMA_CY_LLAMA_CPP_COMMIT) ".*"', rf'\1 "{"0123456789" * 4}"', header)


def attempt(folder: Path, edit: Callable[[str], str]) -> str:
    """Build against a header that was edited, import in a child, and return what that said."""
    headers = folder / "include"
    shutil.copytree(llama_cy.get_include(), headers)
    text = (headers / HEADER).read_text()
    edited = edit(text)
    assert edited != text
    (headers / HEADER).write_text(edited)
    compile_extension(SOURCE, folder / "built", include=str(headers))
    return check_output(IMPORT, folder / "built").strip()


@pytest.mark.parametrize("count", [1, 40])
def test_an_extension_of_yesterday_works(tmp_path: Path, count: int) -> None:
    assert attempt(tmp_path, older(count)) == "works"


def test_an_extension_of_tomorrow_asks_for_an_upgrade(tmp_path: Path) -> None:
    n = len(members((Path(llama_cy.get_include()) / HEADER).read_text()))
    told = attempt(tmp_path, newer)
    assert f", {n + 1} functions), but the installed llama_cy has C API 1 " in told
    assert told.endswith(f", {n} functions): upgrade llama_cy, or rebuild the extension against the installed one")


@pytest.mark.parametrize(
    ("edit", "compiled", "installed"),
    [
        (other_layout, "C API 0 (llama.cpp ", "C API 1 (llama.cpp "),
        (other_commit, f"llama.cpp {'0123456789' * 4}, ", f"llama.cpp {llama_cy._llama.llama_cpp_commit()}, "),
        (inserted, "functions), but", "functions): "),
        (changed, "functions), but", "functions, some of them others): "),
    ],
    ids=["layout", "commit", "inserted", "changed"],
)
def test_what_does_not_fit_is_refused_at_import(
    tmp_path: Path, edit: Callable[[str], str], compiled: str, installed: str
) -> None:
    told = attempt(tmp_path, edit)
    ours, _, theirs = told.partition(" the installed llama_cy has ")
    assert ours.startswith("this extension was compiled against llama_cy C API ")
    assert compiled in ours
    assert installed in theirs
    assert told.endswith(": rebuild the extension against the installed one")
