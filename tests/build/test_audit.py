"""Each place where llama.cpp asserts, aborts or throws has a verdict, and what the verdicts name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.audit.scan import SOURCE, _blanked, _functions, places, scan
from tools.audit.table import Row, complaints, read, rows_of, write
from tools.audit.unchecked import UNCHECKED, Unchecked
from tools.audit.verdicts import VERDICTS, Verdict

ROOT = Path(__file__).parents[2]
# One of them only gives another a second name.
PXD = [path for path in sorted((ROOT / "include").glob("*.pxd")) if "cdef extern" in path.read_text()]
WRAPPERS = {path: path.read_text() for path in sorted((ROOT / "llama_cy").glob("*.pyx"))}


@pytest.fixture(scope="module", autouse=True)
def pinned_source() -> None:
    if not (SOURCE / "src").is_dir():
        pytest.fail("vendor/llama.cpp is missing: run `python vendor/fetch.py` (make test does)")


def test_every_place_has_a_verdict() -> None:
    said = complaints()
    assert said == [], "python -m tools.audit --write takes in what is new; each needs a verdict"
    assert len(read()) > 2000
    assert {row.verdict for row in read()} == {verdict.name for verdict in VERDICTS}


def stands_in_the_source(where: str) -> bool:
    name, _, word = where.partition(":")
    path = ROOT / name
    if not path.exists():
        path = SOURCE / name
    return path.exists() and (not word or word in path.read_text())


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.name)
def test_what_a_verdict_names_is_there(verdict: Verdict) -> None:
    assert verdict.where
    if verdict.means == "unwrapped":
        called = {name for name in verdict.where for text in WRAPPERS.values() if re.search(rf"\b{name}\b", text)}
        assert called == set(), "a module calls it by now: look at its asserts"
    else:
        assert all(stands_in_the_source(where) or "/" not in where for where in verdict.where), verdict.where


def test_what_no_graph_has_is_built_by_none() -> None:
    graphs = "".join(path.read_text() for path in (SOURCE / "src").rglob("*.cpp"))
    for row in read():
        if row.verdict == "cpu-not-built":
            operation = row.function.removeprefix("ggml_compute_forward_")
            name = re.sub(r"(_(f32|f16|bf16|i32|impl|flt|q|ksp))+$", "", operation)
            assert not re.search(rf"\bggml_{name}(_ext|_inplace)?\s*\(", graphs), row


@pytest.mark.parametrize("entry", UNCHECKED, ids=lambda entry: entry.function)
def test_what_is_taken_for_granted(entry: Unchecked) -> None:
    names = [name for _, _, name in _functions(_blanked((SOURCE / entry.file).read_text()))]
    assert entry.function in names
    assert stands_in_the_source(entry.where)


@pytest.mark.parametrize("path", PXD, ids=lambda path: path.name)
def test_what_can_throw_is_declared_so(path: Path) -> None:
    """Everything that is called may throw; callbacks must not."""
    declarations = re.sub(r",\n\s+", ", ", re.sub(r"\(\n\s+", "(", path.read_text()))
    functions = [line for line in declarations.splitlines() if re.match(r"    [\w ].*\(.*\)", line)]
    functions = [line for line in functions if "ctypedef" not in line and "(*" not in line.partition("(")[0] + "("]
    functions = [line for line in functions if not re.search(r"\(\*\s*\w+\)\(", line)]
    assert len(functions) >= 5
    own = ("llama_cy_raise()", "import_llama_cy")
    wrong = [
        line.strip()
        for line in functions
        if not line.endswith("except +llama_cy_raise") and not any(name in line for name in own)
    ]
    assert wrong == []
    for callback in (line for line in declarations.splitlines() if re.search(r"\(\*\s*\w*\)\(", line)):
        assert callback.endswith("noexcept nogil"), callback


SAMPLE = """
// GGML_ASSERT(commented(out));
#define ASSERT(x) GGML_ASSERT(x)
namespace ns {
struct holder : public base {
    holder(int a) : a(a) { GGML_ASSERT(a > 0); }
    int at(int i) const {
        if (i < 0) { throw std::out_of_range("negative {"); }
        return values.at(i);
    }
    int a;
};
} // namespace ns
template <typename T>
static std::vector<T> free_function(
        const std::map<int, T> & map, void (*callback)(int)) {
    auto each = [&](int i) { GGML_ASSERT(i != 3 &&
        "a text (with a parenthesis"); };
    try { each(3); } catch (...) { throw; }
    for (int i = 0; i < 3; ++i) { GGML_ASSERT(i >= 0); GGML_ASSERT(i >= 0); }
    GGML_ABORT("%s: fatal }", __func__);
}
"""


def test_places_are_found_in_their_functions() -> None:
    found = [(place.function, place.kind, place.text) for place in places("sample.cpp", SAMPLE)]
    assert found == [
        ("ns::holder::holder", "assert", "GGML_ASSERT(a > 0)"),
        ("ns::holder::at", "throw", 'throw std::out_of_range("negative {")'),
        ("ns::holder::at", "at", "return values.at(i)"),
        ("free_function", "assert", 'GGML_ASSERT(i != 3 && "a text (with a parenthesis")'),
        ("free_function", "assert", "GGML_ASSERT(i >= 0)"),
        ("free_function", "assert", "GGML_ASSERT(i >= 0)"),
        ("free_function", "abort", 'GGML_ABORT("%s: fatal }", __func__)'),
    ]


def test_a_bump_shows_what_is_new(tmp_path: Path) -> None:
    found = scan()
    some = sorted(found)[:50]
    rows = rows_of(dict.fromkeys(some, 1), [])
    write(rows, tmp_path / "table.tsv")
    assert read(tmp_path / "table.tsv") == rows
    assert all(row.verdict.startswith("?") for row in rows)
    assert len(complaints(dict.fromkeys(some, 1), rows)) == 50
    looked_at = [Row(*row[:5], "graph") for row in rows]
    assert complaints(dict.fromkeys(some, 1), looked_at) == []
    (gone,) = complaints(dict.fromkeys(some[1:], 1), looked_at)
    assert gone.startswith("gone: ")
    (new,) = complaints(dict.fromkeys(some, 1), looked_at[1:])
    assert new == f"new: {some[0].file}: {some[0].function}: {some[0].text}"
    (more,) = complaints({**dict.fromkeys(some, 1), some[3]: 2}, looked_at)
    assert more.startswith("2 times, not 1: ")
    again = rows_of({**dict.fromkeys(some, 1), some[3]: 2}, looked_at[1:])
    assert [row.verdict for row in again[1:]] == ["graph"] * 49
    assert again[0].verdict.startswith("?")
