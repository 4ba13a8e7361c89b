"""Grammars of JSON schemas: what they make a model write is what the schema allows."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llama_cy
from llama_cy import GrammarError, Sampler, SamplerChain, json_schema_to_grammar
from llama_cy.json_integers import integers
from llama_cy.json_pattern import pattern_to_gbnf


def written(model: llama_cy.Model, grammar: str, seed: int, most: int = 400) -> str:
    """Write a text of a grammar by chance, with a liking for what ends something."""
    vocab = model.vocab
    rng = np.random.default_rng(seed)
    ends = np.zeros(vocab.n_tokens, dtype=np.float32)
    for token in range(vocab.n_tokens):
        piece = vocab.token_to_piece(token)
        ends[token] = 7 * (piece[:1] in (b'"', b"}", b"]", b",")) - 2 * len(piece)
    assert vocab.eos is not None
    ends[vocab.eos] = 40
    tokens: list[int] = []
    with SamplerChain(Sampler.grammar(vocab, grammar), Sampler.dist(seed)) as chain:
        while len(tokens) < most:
            tokens.append(chain.sample_logits(ends + rng.normal(0, 2, vocab.n_tokens).astype(np.float32)))
            if tokens[-1] == vocab.eos:
                return vocab.detokenize(tokens[:-1])
    raise AssertionError(f"no end of {vocab.detokenize(tokens)!r}")


def accepts(model: llama_cy.Model, grammar: str, text: str) -> bool:
    """Tell whether a text, all of it, is of a grammar."""
    with Sampler.grammar(model.vocab, grammar) as sampler:
        try:
            for token in [*model.vocab.tokenize(text, add_special=False), model.vocab.eos or 0]:
                sampler.accept(token)
        except GrammarError:
            return False
    return True


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab"\\/\n é', max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def bounded(draw: st.DrawFn, kind: str, names: tuple[str, str], least: int, most: int) -> dict[str, Any]:
    """Draw a schema of one type with bounds, or without one of them."""
    low, high = names
    one, other = sorted(draw(st.tuples(st.integers(least, most), st.integers(least, most))))
    options: list[dict[str, Any]] = [{low: one, high: other}, {high: other}, {low: one} if kind == "integer" else {}]
    return {"type": kind, **draw(st.sampled_from(options))}


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> dict[str, Any]:
    """Draw a schema of objects."""
    properties = draw(st.dictionaries(st.text('ab"é', max_size=2), inner, max_size=3))
    required = [name for name in properties if draw(st.booleans())]
    options: list[dict[str, Any]] = [{}, {"additionalProperties": False}, {"additionalProperties": {"type": "integer"}}]
    more = draw(st.sampled_from(options))
    return {"type": "object", "properties": properties, "required": required, **more}


schemas = st.recursive(
    st.one_of(
        st.just({"type": "null"}),
        st.just({"type": "boolean"}),
        st.just({"type": ["boolean", "null"]}),
        st.just({"type": "number"}),
        st.just({"type": "string", "pattern": "^[a-c]+x?$"}),
        bounded("integer", ("minimum", "maximum"), -1200, 1200),
        bounded("integer", ("exclusiveMinimum", "maximum"), -12, 1200).filter(
            lambda s: s.get("exclusiveMinimum") != s.get("maximum")
        ),
        bounded("string", ("minLength", "maxLength"), 0, 5),
        st.builds(lambda found: {"enum": found}, st.lists(values, min_size=1, max_size=3)),
        st.builds(lambda found: {"const": found}, values),
    ),
    lambda inner: st.one_of(
        objects(inner),
        st.builds(lambda one, bound: {"items": one} | bound, inner, bounded("array", ("minItems", "maxItems"), 0, 3)),
        st.builds(
            lambda found: {"type": "array", "prefixItems": found, "items": False},
            st.lists(inner, min_size=1, max_size=2),
        ),
        st.builds(lambda found: {"anyOf": found}, st.lists(inner, min_size=1, max_size=2)),
    ),
    max_leaves=4,
)


@settings(max_examples=20)
@given(schema=schemas, seed=st.integers(0, 2**31))
def test_what_is_written_is_valid(demo: llama_cy.Model, schema: Any, seed: int) -> None:
    text = written(demo, json_schema_to_grammar(schema), seed)
    jsonschema.validate(json.loads(text), schema, jsonschema.Draft202012Validator)


TREE = {
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "left": {"$ref": "#/$defs/tree"},
                "right": {"$ref": "#/$defs/tree"},
            },
            "required": ["value"],
        }
    },
    "$ref": "#/$defs/tree",
}
SHAPE = {
    "oneOf": [
        {
            "type": "object",
            "properties": {"kind": {"const": "circle"}, "r": {"type": "integer"}},
            "required": ["kind", "r"],
        },
        {
            "type": "object",
            "properties": {"kind": {"const": "square"}, "a": {"type": "integer"}},
            "required": ["kind", "a"],
        },
        {"type": "null"},
    ]
}
ALL = {
    "allOf": [
        {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
        {"properties": {"b": {"type": "boolean"}}, "required": ["b"]},
    ]
}

# Schema, texts that its grammar has, texts that it has not.
CASES: list[tuple[Any, list[str], list[str]]] = [
    (
        True,
        ['{"a":[1,-2.5e3,null,true,"\\u00e9"]}', "[]", '"x"', "0"],
        ["01", "{a:1}", '"\n"', "[1,]", "nul", "\\ud800"],
    ),
    (TREE, ['{"value":1}', '{"value":1,"left":{"value":2},"right":{"value":3}}'], ['{"left":{"value":1}}', "{}"]),
    (SHAPE, ['{"kind":"circle","r":1}', '{"kind":"square", "a":1}', "null"], ['{"kind":"circle","a":1}']),
    (ALL, ['{"a":1,"b":true}'], ['{"a":1}', '{"b":true}']),
    ({"type": "string", "format": "date"}, ['"2026-02-28"'], ['"2026-13-01"', '"2026-02-29x"']),
    ({"type": "string", "format": "uuid"}, ['"01234567-89ab-cdef-0123-456789abcdef"'], ['"0"']),
    ({"type": "number", "minimum": 0}, ["0", "1.5", "2e3"], ["-1"]),
    ({"type": "number", "minimum": 0.5, "maximum": 3.5}, ["1", "3"], ["0", "4"]),
    ({"type": "integer", "multipleOf": 1}, ["5"], ["5.5"]),
    ({"minLength": 2}, ['"ab"', '"abc"'], ['"a"']),
    ({"items": {"type": "null"}}, ["[]", "[null,null]"], ["[1]"]),
    ({"required": ["a"]}, ['{"a":[1]}'], ["{}"]),
    ({"enum": [1, "a", None], "type": ["integer", "null"]}, ["1", "null"], ['"a"']),
    (
        {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "maxItems": 2},
        ["[1]", "[1,2]"],
        ["[2]", "[1,2,2]"],
    ),
    (
        {"additionalProperties": {"type": "null"}, "properties": {"a": {"const": 1}}},
        ['{"a":1,"ab":null}', "{}"],
        ['{"a":null}'],
    ),
    ('{"const": {"a": [1]}}', ['{"a":[1]}'], ["{}"]),
    ({"anyOf": [{"const": 1}, {"const": 2}], "type": "integer"}, ["1", "2"], ["3"]),
    ({"$ref": "#/definitions/a~1b", "definitions": {"a/b": {"type": "null"}}, "description": "x"}, ["null"], ["1"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0])[:40])
def test_texts(demo: llama_cy.Model, case: tuple[Any, list[str], list[str]]) -> None:
    schema, right, wrong = case
    grammar = json_schema_to_grammar(schema)
    for text in right:
        assert accepts(demo, grammar, text), text
        jsonschema.validate(json.loads(text), json.loads(schema) if isinstance(schema, str) else schema)
    for text in wrong:
        assert not accepts(demo, grammar, text), text


WRONG: list[tuple[Any, str]] = [
    ({"not": {}}, "#/not: the keyword is not supported"),
    ({"properties": {"a": {"if": True}}}, "#/properties/a/if: "),
    ({"items": {"uniqueItems": True}}, "#/items/uniqueItems: "),
    ({"patternProperties": {}}, "#/patternProperties"),
    ({"type": "text"}, "#/type: 'text' is no type"),
    ({"type": []}, "#/type: "),
    ({"type": 5}, "#/type: "),
    ({"enum": []}, "#/enum: "),
    ({"enum": "ab"}, "#/enum: "),
    ({"const": 1, "type": "string"}, "#/const: no value is of type 'string'"),
    ({"const": 1, "minimum": 5}, "#/minimum: "),
    ({"anyOf": []}, "#/anyOf: "),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "#/oneOf: "),
    ({"allOf": [{"minimum": 1}, {"minimum": 2}]}, "#/minimum: the keyword is given twice"),
    ({"$ref": "https://example.com/x"}, "#/$ref: "),
    ({"$ref": "#/$defs/x"}, "#/$ref: there is no '#/$defs/x'"),
    ({"$ref": "#"}, "left recursion"),
    ({"type": "string", "pattern": "(?=a)"}, "#/pattern: "),
    ({"type": "string", "pattern": 5}, "#/pattern: "),
    ({"type": "string", "pattern": "a", "minLength": 2}, "#/pattern: "),
    ({"type": "string", "format": "email"}, "#/format: 'email' is not supported"),
    ({"minLength": 3, "maxLength": 2}, "#/maxLength: "),
    ({"minLength": -1}, "#/minLength: "),
    ({"minLength": 10**6}, "#/minLength: "),
    ({"minLength": True}, "#/minLength: "),
    ({"type": "integer", "minimum": 3, "maximum": 2}, "no integer from 3 to 2"),
    ({"minimum": "a"}, "#/minimum: "),
    ({"multipleOf": 3}, "#/multipleOf: "),
    ({"prefixItems": [{}], "items": False, "minItems": 2}, "#/minItems: "),
    ({"prefixItems": {}}, "#/prefixItems: "),
    ({"required": "a"}, "#/required: "),
    (False, "#: the schema allows nothing"),
    (5, "#: a schema must be an object or a bool, not int"),
    ("{", "the schema is no JSON"),
]


@pytest.mark.parametrize(("schema", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_says_where_it_can_not(schema: Any, message: str) -> None:
    with pytest.raises(GrammarError, match=re.escape(message)):
        json_schema_to_grammar(schema)


def test_nested_without_an_end() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(GrammarError, match="nested too deep"):
        json_schema_to_grammar(schema)


@given(low=st.none() | st.integers(-2000, 2000), high=st.none() | st.integers(-2000, 2000), data=st.data())
def test_integers_of_a_range(demo: llama_cy.Model, low: int | None, high: int | None, data: st.DataObject) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    grammar = f"root ::= {integers(low, high)}"
    edges = [edge + step for edge in (low, high) if edge is not None for step in (-1, 0, 1)]
    for number in [*edges, data.draw(st.integers(-3000, 3000))]:
        fits = (low is None or number >= low) and (high is None or number <= high)
        assert accepts(demo, grammar, str(number)) == fits, (number, grammar)


PATTERNS = [
    ("^a+b?$", ["a", "aab"], ["", "b", "abb"]),
    ("a|b(c|d){2}", ["a", "bcd"], ["bc", "ab"]),
    ("[^a-y\\d]", ["z", "é"], ["a", "5", '"']),
    ("\\w+@\\w+\\.(com|org)", ["a_1@b.com"], ["a@b_com"]),
    ('["\\\\]x', ['\\"x', "\\\\x"], ["x"]),
    ("\\u0041\\x42\\.", ["AB."], ["AB"]),
    ("^(?:ab)*$", ["", "abab"], ["a"]),
    ("\\t\\n", ["\\t\\n"], ["\t\n"]),
    ("[ -~]+", ["a b~"], ["é"]),
    ("^a$|^b$", ["a", "b"], ["ab"]),
    ("\\d{3}-\\d{2,}", ["123-45", "123-4567"], ["12-45"]),
    (".{2}", ["ab", "éü"], ["a"]),
    ("a\\-b\\/", ["a-b/"], ["ab"]),
]


@pytest.mark.parametrize(("pattern", "right", "wrong"), PATTERNS, ids=[pattern for pattern, *_ in PATTERNS])
def test_patterns(demo: llama_cy.Model, pattern: str, right: list[str], wrong: list[str]) -> None:
    grammar = f"root ::= {pattern_to_gbnf(pattern, '#')}"
    for text in right:
        assert accepts(demo, grammar, text), (text, grammar)
        assert re.search(pattern, json.loads(f'"{text}"'))
    for text in wrong:
        assert not accepts(demo, grammar, text), (text, grammar)


@pytest.mark.parametrize(
    "pattern",
    ["(?!a)", "\\bword", "(a", "a)", "[a", "a**", "a+?", "\\1", "a{x}", "a$b", "\\", "*", "(?P<n>a)", "\\p{L}"],
)
def test_patterns_that_no_grammar_has(pattern: str) -> None:
    with pytest.raises(GrammarError, match=r"#/pattern: the pattern .* has .* at \d+"):
        json_schema_to_grammar({"type": "string", "pattern": pattern})


def test_the_demo_model_writes_json(demo: llama_cy.Model) -> None:
    schema = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}}}
    with demo.context(n_ctx=128, n_threads=1) as context:
        chain = SamplerChain(Sampler.grammar(demo.vocab, json_schema_to_grammar(schema)), Sampler.dist(1))
        done = context.complete("Once upon a time", chain)
    assert done.finish_reason == "eog"
    jsonschema.validate(json.loads(done.text), schema)
