"""The reader of grammars says where one is wrong, and lets through what llama.cpp can use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.grammars import grammars

import llama_cy
from llama_cy.gbnf import read_grammar

GRAMMARS = sorted((Path(__file__).parents[2] / "vendor" / "llama.cpp" / "grammars").glob("*.gbnf"))

# Grammar to line, column and what is said of it.
WRONG = {
    "root": (1, 5, "expected '::='"),
    "root = x": (1, 6, "expected '::='"),
    "_x ::= y": (1, 1, "name of a rule"),
    "root ::= x": (1, 10, "'x' is not defined"),
    'root ::= "a"\nb ::= "c" |\n  d\n': (3, 3, "'d' is not defined"),
    'root ::= "abc': (1, 10, "never closed"),
    'root ::= "\\q"': (1, 11, "unknown escape"),
    'root ::= "\\': (1, 11, "unknown escape"),
    'root ::= "\\x4"': (1, 11, "2 hexadecimal digits"),
    'root ::= "\\u00zz"': (1, 11, "4 hexadecimal digits"),
    "root ::= [a": (1, 10, "never closed"),
    "root ::= [a-": (1, 10, "never closed"),
    "root ::= []": (1, 10, "class is empty"),
    "root ::= [^]": (1, 10, "class is empty"),
    "root ::= [z-a]": (1, 11, "range is empty"),
    'root ::= ("a"': (1, 14, "expected ')'"),
    'root ::= "a")': (1, 13, "found ')'"),
    "root ::= *": (1, 10, "nothing to repeat"),
    'root ::= ""+': (1, 12, "nothing to repeat"),
    'root ::= "a"{0}+': (1, 16, "nothing to repeat"),
    'root ::= "a"{': (1, 14, "expected a number"),
    'root ::= "a"{1': (1, 15, "expected '}'"),
    'root ::= "a"{1,2': (1, 17, "expected '}'"),
    'root ::= "a"{3,2}': (1, 13, "{3,2}"),
    'root ::= "a"{2001}': (1, 13, "2001 repetitions"),
    'root ::= "a"{0,2001}': (1, 13, "2001 repetitions"),
    'root ::= "a"{9999999999999999}': (1, 14, "too large"),
    'root ::= "a"{50}{50}': (1, 17, "more than 2000 rules"),
    'root ::= ("a"? "b"?){1000}': (1, 21, "more than 2000 rules"),
    f'root ::= "{"a" * 1000}"{{2000}}': (1, 1018, "200000 elements"),
    f"root ::= {'(' * 1000}": (1, 110, "nested more than 100 deep"),
    'root ::= "a"\nroot ::= "b"': (2, 1, "defined twice"),
    "root ::= <": (1, 10, "never closed"),
    "root ::= !a": (1, 11, "expected '<'"),
    "root ::= <[1>": (1, 13, "expected ']>'"),
    "root ::= <[x]>": (1, 12, "expected a number"),
    'root ::= "a" ; "b"': (1, 14, "found ';'"),
    'root ::= root "a" | "b"': (1, 1, "left recursion"),
    'root ::= a\na ::= b "x"\nb ::= a | "y"': (2, 1, "left recursion"),
    # llama.cpp would follow this one for ever.
    'root ::= a root "c" | "d"\na ::= b\nb ::= "y" | ""': (1, 1, "left recursion behind what may be empty"),
    'root ::= ("" | "a")*': (1, 1, "left recursion"),
    'root ::= "a"\0': (1, 13, "null character"),
    'root ::= "\ud800"': (1, 11, "surrogate"),
}


@pytest.mark.parametrize("grammar", WRONG, ids=lambda grammar: repr(grammar[:30]))
def test_says_where_it_is_wrong(grammar: str) -> None:
    line, column, message = WRONG[grammar]
    with pytest.raises(llama_cy.GrammarError) as caught:
        read_grammar(grammar, "root")
    assert (caught.value.line, caught.value.column) == (line, column), caught.value
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"line {caught.value.line}, column {caught.value.column}: ")


@pytest.mark.parametrize(("grammar", "root"), [("", "root"), ("# nothing\n", "root"), ('a ::= "b"', "root")])
def test_nothing_to_begin_with(grammar: str, root: str) -> None:
    with pytest.raises(llama_cy.GrammarError) as caught:
        read_grammar(grammar, root)
    assert caught.value.line is None


def test_there_are_grammars() -> None:
    assert {"json.gbnf", "c.gbnf", "japanese.gbnf"} <= {path.name for path in GRAMMARS}


@pytest.mark.parametrize("path", GRAMMARS, ids=lambda path: path.stem)
def test_grammars_of_llama_cpp(demo: llama_cy.Model, path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert read_grammar(text, "root").tokens == []
    llama_cy.Sampler.grammar(demo.vocab, text).close()


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= ("a"?)*',
        'root ::= "a" | ""',
        "root ::= [^\\x00-\\x1F\\]\\-]",
        "root ::= [a-]",
        'root ::= "a" # comment\r\n\r\n# another\r\n',
        "root::=a\na::=[b]",
        "root ::= (\n  a |\n  b\n)\na ::= .\nb ::= [\U0001f600-\U0001f64f]",
        "root ::= <[5]> !<[6]>",
        'root ::= "a"{0}',
        'root ::= "a"{ 1 , 3 }',
        'root ::= "a"{2000}',
        "\n".join(["root ::= r0", *(f"r{i} ::= r{i + 1}" for i in range(3000)), 'r3000 ::= "x"']),
    ],
    ids=lambda grammar: repr(grammar[:30]),
)
def test_llama_cpp_takes_what_is_let_through(tiny: llama_cy.Model, grammar: str) -> None:
    llama_cy.Sampler.grammar(tiny.vocab, grammar).close()


def test_tokens_are_named() -> None:
    found = read_grammar('root ::= <[12]> "a"\n  # b\nx ::= !<think>', "root").tokens
    assert [(token.text, token.id, token.negated, token.line, token.column) for token in found] == [
        ("<[12]>", 12, False, 1, 10),
        ("<think>", None, True, 3, 7),
    ]


# Rules that begin in as many ways as there are grains of sand.
BRANCHING = "\n".join(["root ::= r0", *(f'r{i} ::= r{i + 1} "a" | r{i + 1} "b"' for i in range(60)), 'r60 ::= "x"'])


@pytest.mark.parametrize(
    ("grammar", "message"),
    [
        (BRANCHING, "more than 100000 ways"),
        ("\n".join(["root ::= r0", *(f"r{i} ::= r{i + 1}" for i in range(9000)), 'r9000 ::= "x"']), "4000 rules"),
    ],
    ids=["ways", "chain"],
)
def test_never_hangs(grammar: str, message: str) -> None:
    with pytest.raises(llama_cy.GrammarError, match=message):
        read_grammar(grammar, "root")


@given(st.text('root:= ab"[]()*+?{}|,0123\n\\-^.#<>!', max_size=60))
def test_any_text_is_taken_or_refused(tiny: llama_cy.Model, text: str) -> None:
    # What the reader lets through, llama.cpp must not refuse: that would be an error without a line.
    try:
        llama_cy.Sampler.grammar(tiny.vocab, f"root ::= {text}").close()
        line: int | None = 1
    except llama_cy.GrammarError as error:
        line = error.line
    assert line is not None


@given(grammars(), st.data())
def test_a_grammar_with_a_mistake(drawn: tuple[str, str], data: st.DataObject) -> None:
    grammar, _ = drawn
    read_grammar(grammar, "root")
    place = data.draw(st.integers(0, len(grammar) - 1))
    broken = grammar[:place] + "\0" + grammar[place:]
    with pytest.raises(llama_cy.GrammarError) as caught:
        read_grammar(broken, "root")
    before = grammar[:place].split("\n")
    assert (caught.value.line, caught.value.column) == (len(before), len(before[-1]) + 1)
