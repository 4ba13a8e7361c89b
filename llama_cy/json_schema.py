"""Grammars for JSON that a schema allows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from .errors import GrammarError
from .gbnf import MAX_REPETITIONS, read_grammar
from .json_integers import integers
from .json_pattern import UNPLAIN, pattern_to_gbnf, quoted
from .json_rules import FORMATS, PRIMITIVES, USES

ANNOTATIONS = {
    *("$schema", "$id", "$comment", "$defs", "$anchor", "definitions", "title", "description", "default", "examples"),
    *("deprecated", "readOnly", "writeOnly", "contentMediaType", "contentEncoding"),
}
# The keywords of each type, which tell the type where it is not given.
KEYWORDS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "boolean": set(),
    "null": set(),
}
CHOICES = {"enum", "const", "anyOf", "oneOf", "allOf", "$ref"}
# A greatest length above this one is this one: each step is a rule.
LONGEST = 1000


def dumped(value: Any) -> str:
    """Return JSON without a blank."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def type_of(value: Any) -> str:
    """Return the type that a value has in JSON Schema."""
    if isinstance(value, bool):
        return "boolean"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object", type(None): "null"}
    return names.get(type(value), "object")


@dataclass
class Converter:
    """A schema, and the rules made of it so far."""

    root: Any
    rules: dict[str, str] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    def primitive(self, name: str) -> str:
        """Add a rule for any value of a type, and return its name."""
        if name not in self.rules:
            self.rules[name] = PRIMITIVES[name]
            for other in USES.get(name, ()):
                self.primitive(other)
        return name

    def add(self, body: str) -> str:
        """Add a rule, and return its name."""
        name = f"r{len(self.rules)}"
        self.rules[name] = body
        return name

    def visit(self, schema: Any, path: str) -> str:
        """Return an expression for what a schema allows."""
        if schema is True or schema == {}:
            return self.primitive("value")
        if schema is False:
            raise GrammarError(f"{path}: the schema allows nothing")
        if not isinstance(schema, Mapping):
            raise GrammarError(f"{path}: a schema must be an object or a bool, not {type(schema).__name__}")
        for keyword in schema:
            if keyword not in ANNOTATIONS | CHOICES | {"type"} | set().union(*KEYWORDS.values()):
                raise GrammarError(f"{path}/{keyword}: the keyword is not supported")
        chosen = [keyword for keyword in schema if keyword in CHOICES]
        if chosen:
            return self.choice(schema, chosen, path)
        types = self.types(schema, path)
        return self.either([self.typed(name, schema, path) for name in types])

    def types(self, schema: Mapping[str, Any], path: str) -> list[str]:
        """Return the types that a schema allows."""
        given = schema.get("type")
        if given is None:
            found = [name for name, keywords in KEYWORDS.items() if keywords & schema.keys()]
            if "number" in found:
                found.remove("integer")
            return found[:1] or ["value"]
        names = given if isinstance(given, list) else [given]
        if not names or not all(isinstance(name, str) and name in KEYWORDS for name in names):
            raise GrammarError(f"{path}/type: {given!r} is no type; expected one of {', '.join(KEYWORDS)}")
        return [name for name in dict.fromkeys(names) if not (name == "integer" and "number" in names)]

    def either(self, parts: list[str]) -> str:
        """Return an expression for one of several."""
        parts = list(dict.fromkeys(parts))
        return parts[0] if len(parts) == 1 else "(" + " | ".join(parts) + ")"

    def choice(self, schema: Mapping[str, Any], chosen: list[str], path: str) -> str:
        """Return an expression for a schema that names values or other schemas."""
        keyword = chosen[0]
        others = [name for name in schema if name not in ANNOTATIONS and name != keyword]
        if keyword in ("enum", "const"):
            values = [schema["const"]] if keyword == "const" else schema["enum"]
            types = self.types(schema, path) if "type" in schema else None
            if set(others) - {"type"}:
                raise GrammarError(f"{path}/{others[0]}: the keyword is not supported beside {keyword}")
            if not isinstance(values, list) or not values:
                raise GrammarError(f"{path}/enum: a list of values is expected")
            fitting = [value for value in values if types is None or self.fits(value, types)]
            if not fitting:
                raise GrammarError(f"{path}/{keyword}: no value is of type {schema['type']!r}")
            return self.either([quoted(dumped(value)) for value in fitting])
        if keyword == "allOf":
            return self.visit(self.merged([{name: schema[name] for name in others}, *schema["allOf"]], path), path)
        if set(others) - {"type"} or ("type" in others and keyword == "$ref"):
            inside = [{name: schema[name] for name in others}]
            if keyword == "$ref":
                return self.visit(self.merged([*inside, self.resolve(schema["$ref"], path)], path), path)
            options = [
                self.merged([*inside, option], f"{path}/{keyword}/{i}") for i, option in enumerate(schema[keyword])
            ]
        elif keyword == "$ref":
            return self.reference(schema["$ref"], path)
        else:
            options = schema[keyword]
        if not isinstance(options, list) or not options:
            raise GrammarError(f"{path}/{keyword}: a list of schemas is expected")
        if keyword == "oneOf":
            self.check_disjoint(options, path)
        return self.either([self.visit(option, f"{path}/{keyword}/{i}") for i, option in enumerate(options)])

    def fits(self, value: Any, types: list[str]) -> bool:
        """Tell whether a value has one of the types."""
        name = type_of(value)
        return name in types or (name == "integer" and "number" in types)

    def merged(self, schemas: list[Any], path: str) -> dict[str, Any]:
        """Return one schema for what all of several allow."""
        result: dict[str, Any] = {}
        for schema in schemas:
            while isinstance(schema, Mapping) and set(schema) - ANNOTATIONS == {"$ref"}:
                schema = self.resolve(schema["$ref"], path)  # noqa: PLW2901 - what it refers to stands for it
            if not isinstance(schema, Mapping):
                raise GrammarError(f"{path}: only schemas that are objects can be joined")
            for name, value in schema.items():
                if name not in result or result[name] == value or name in ANNOTATIONS:
                    result[name] = value
                elif name == "required":
                    result[name] = list(dict.fromkeys([*result[name], *value]))
                elif name == "properties" and not {
                    key for key in value if result[name].get(key, value[key]) != value[key]
                }:
                    result[name] = {**result[name], **value}
                else:
                    raise GrammarError(f"{path}/{name}: the keyword is given twice, and joining that is not supported")
        return result

    def resolve(self, pointer: Any, path: str) -> Any:
        """Return what a reference points to."""
        if not isinstance(pointer, str) or not pointer.startswith("#"):
            raise GrammarError(f"{path}/$ref: {pointer!r} is not within the schema, which is not supported")
        found = self.root
        for part in pointer[1:].split("/")[1:]:
            key = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and key.isdigit() and int(key) < len(found):
                found = found[int(key)]
            elif isinstance(found, Mapping) and key in found:
                found = found[key]
            else:
                raise GrammarError(f"{path}/$ref: there is no {pointer!r}")
        return found

    def reference(self, pointer: Any, path: str) -> str:
        """Return the rule for what a reference points to, which may refer to itself."""
        target = self.resolve(pointer, path)
        if pointer not in self.references:
            name = self.add("")
            self.references[pointer] = name
            self.rules[name] = self.visit(target, pointer)
        return self.references[pointer]

    def check_disjoint(self, options: list[Any], path: str) -> None:
        """Refuse options of which a value may match two."""
        for i, one in enumerate(options):
            for j, other in enumerate(options[:i]):
                if not self.disjoint(one, other, path):
                    raise GrammarError(
                        f"{path}/oneOf: what is not both options {j} and {i} is not supported; use anyOf"
                    )

    def disjoint(self, one: Any, other: Any, path: str) -> bool:
        """Tell whether no value matches both schemas, as far as that is easy to see."""
        pair = []
        for schema in (one, other):
            while isinstance(schema, Mapping) and set(schema) - ANNOTATIONS == {"$ref"}:
                schema = self.resolve(schema["$ref"], path)  # noqa: PLW2901 - what it refers to stands for it
            if not isinstance(schema, Mapping):
                return False
            pair.append(schema)
        values: list[Any] = [[schema["const"]] if "const" in schema else schema.get("enum") for schema in pair]
        if all(isinstance(found, list) for found in values):
            return not {dumped(value) for value in values[0]} & {dumped(value) for value in values[1]}
        kinds = []
        for schema, found in zip(pair, values, strict=True):
            types = {type_of(value) for value in found} if found else set(self.types(schema, path)) - {"value"}
            kinds.append(types | ({"number"} if "integer" in types else set()))
        if all(kinds) and not kinds[0] & kinds[1]:
            return True
        properties = [schema.get("properties", {}) for schema in pair]
        shared = set(pair[0].get("required", [])) & set(pair[1].get("required", []))
        return kinds[0] == kinds[1] == {"object"} and any(
            self.disjoint(properties[0][name], properties[1][name], path)
            for name in shared & properties[0].keys() & properties[1].keys()
        )

    def typed(self, name: str, schema: Mapping[str, Any], path: str) -> str:
        """Return an expression for the values of one type."""
        makers: dict[str, Callable[[Mapping[str, Any], str], str]] = {
            **{"object": self.object, "array": self.array, "string": self.string},
            **{"integer": self.integer, "number": self.number},
        }
        if name in makers and KEYWORDS[name] & schema.keys():
            return makers[name](schema, path)
        return self.primitive(name)

    def count(self, schema: Mapping[str, Any], name: str, path: str) -> int | None:
        """Return a keyword that counts something."""
        value = schema.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise GrammarError(f"{path}/{name}: a number of things is expected, not {value!r}")
        return value

    def span(self, low: int | None, high: int | None, path: str, name: str) -> tuple[int, int | None]:
        """Check how many there may be."""
        if high is not None and high < (low or 0):
            raise GrammarError(f"{path}/max{name}: {high} is less than min{name}, which is {low}")
        if (low or 0) > MAX_REPETITIONS:
            raise GrammarError(f"{path}/min{name}: {low} is more than {MAX_REPETITIONS}, which a grammar can't count")
        return low or 0, high if high is None else max(low or 0, min(high, LONGEST))

    def string(self, schema: Mapping[str, Any], path: str) -> str:
        """Return an expression for strings."""
        given = [name for name in ("pattern", "format") if name in schema]
        bounded = {"minLength", "maxLength"} & schema.keys()
        if len(given) + bool(bounded) > 1:
            raise GrammarError(f"{path}/{given[0]}: the keyword is not supported beside others for strings")
        if "pattern" in schema:
            if not isinstance(schema["pattern"], str):
                raise GrammarError(f"{path}/pattern: a text is expected, not {schema['pattern']!r}")
            return self.add(f'"\\"" {pattern_to_gbnf(schema["pattern"], f"{path}/pattern")} "\\""')
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise GrammarError(f"{path}/format: {schema['format']!r} is not supported, only {', '.join(FORMATS)}")
            return self.add(f'"\\"" {FORMATS[schema["format"]]} "\\""')
        low, high = self.span(
            self.count(schema, "minLength", path), self.count(schema, "maxLength", path), path, "Length"
        )
        self.primitive("char")
        return self.add(f'"\\"" char{{{low},{"" if high is None else high}}} "\\""')

    def bounds(self, schema: Mapping[str, Any], path: str) -> tuple[float | None, float | None]:
        """Return the least and the greatest integer of a range."""
        if "multipleOf" in schema and schema["multipleOf"] != 1:
            raise GrammarError(f"{path}/multipleOf: the keyword is not supported")
        lows, highs = [], []
        for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
            value = schema.get(name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise GrammarError(f"{path}/{name}: a number is expected, not {value!r}")
            exclusive = name.startswith("exclusive")
            if name.lower().endswith("minimum"):
                lows.append(int(value // 1) + 1 if exclusive or value % 1 else int(value))
            else:
                highs.append(-int(-value // 1) - 1 if exclusive or value % 1 else int(value))
        low, high = max(lows, default=None), min(highs, default=None)
        if low is not None and high is not None and low > high:
            raise GrammarError(f"{path}: there is no integer from {low} to {high}")
        return low, high

    def integer(self, schema: Mapping[str, Any], path: str) -> str:
        """Return an expression for integers."""
        low, high = self.bounds(schema, path)
        if low is None and high is None:
            return self.primitive("integer")
        return self.add(integers(low, high))  # type: ignore[arg-type]

    def number(self, schema: Mapping[str, Any], path: str) -> str:
        """Return an expression for numbers: of a range, only what is easy to tell from the digits."""
        low, high = self.bounds(schema, path)
        if "multipleOf" in schema:
            return self.integer(schema, path)
        if low is None and high is None:
            return self.primitive("number")
        if low == 0 and high is None and schema.get("minimum") == 0 and "exclusiveMinimum" not in schema:
            for name in ("natural", "fraction", "exponent"):
                self.primitive(name)
            return self.add("natural fraction? exponent?")
        # Integers are numbers, too.
        return self.add(integers(low, high))  # type: ignore[arg-type]

    def array(self, schema: Mapping[str, Any], path: str) -> str:
        """Return an expression for arrays."""
        if schema.get("uniqueItems", False) is not False:
            raise GrammarError(f"{path}/uniqueItems: the keyword is not supported")
        low, high = self.span(self.count(schema, "minItems", path), self.count(schema, "maxItems", path), path, "Items")
        prefix = schema.get("prefixItems", [])
        if not isinstance(prefix, list):
            raise GrammarError(f"{path}/prefixItems: a list of schemas is expected")
        first = [self.visit(item, f"{path}/prefixItems/{i}") for i, item in enumerate(prefix)][:high]
        rest = schema.get("items", True)
        least, most = max(0, low - len(first)), None if high is None else high - len(first)
        if rest is False:
            if least:
                raise GrammarError(f"{path}/minItems: there can't be {low} items, only {len(first)}")
            most = 0
        items = ' "," " "? '.join(first)
        if most != 0:
            item = self.add(self.visit(rest, f"{path}/items"))
            items = self.more(items, item, least, most)
        return self.add(f'"[" {items} "]"')

    def more(self, items: str, item: str, least: int, most: int | None) -> str:
        """Return an expression for items with others behind them."""
        bound = "" if most is None else str(most)
        if items:
            return f'{items} ("," " "? {item}){{{least},{bound}}}'
        behind = f'{item} ("," " "? {item}){{{max(0, least - 1)},{"" if most is None else most - 1}}}'
        return behind if least else f"({behind})?"

    def object(self, schema: Mapping[str, Any], path: str) -> str:
        """Return an expression for objects: the properties in their order, those that may be missing or not."""
        properties = dict(schema.get("properties", {}))
        required = schema.get("required", [])
        if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
            raise GrammarError(f"{path}/required: a list of names is expected")
        others = schema.get("additionalProperties", "properties" not in schema)
        for name in required:
            if name not in properties:
                properties[name] = schema.get("additionalProperties", True)
        pairs = [
            (f'{quoted(dumped(name))} ":" " "? {self.visit(item, f"{path}/properties/{name}")}', name in required)
            for name, item in properties.items()
        ]
        pair = ""
        if others is not False:
            key = f'"\\"" {self.other_names(sorted(properties))} "\\""' if properties else self.primitive("string")
            pair = self.add(f'{key} ":" " "? {self.visit(others, f"{path}/additionalProperties")}')
        behind = f'("," " "? {pair})*' if pair else '""'
        alone = f'({pair} ("," " "? {pair})*)?' if pair else '""'
        for text, needed in reversed(pairs):
            later = f'"," " "? {text} {behind}'
            begun = f"{text} {behind}"
            behind, alone = (
                self.add(later if needed else f"{later} | {behind}"),
                self.add(begun if needed else f"{begun} | {alone}"),
            )
        return self.add(f'"{{" {alone} "}}"')

    def other_names(self, names: list[str]) -> str:
        """Return an expression for what stands in the quotes of a name that is none of these."""
        heads: dict[str, list[str]] = {}
        for name in names:
            if name:
                heads.setdefault(name[0], []).append(name[1:])
        plain = [head for head in heads if head not in '"\\' and ord(head) >= 0x20 and ord(head) != 0x7F]
        known = "".join(f"\\U{ord(head):08X}" for head in plain)
        parts = [f"[^{known}{UNPLAIN}] [^{UNPLAIN}]*"]
        parts += [f"{quoted(head)} {self.other_names(heads[head])}" for head in plain]
        return self.add(" | ".join([*parts, *([] if "" in names else ['""'])]))


def json_schema_to_grammar(schema: Mapping[str, Any] | bool | str) -> str:
    """Make a grammar of a JSON Schema.

    What the grammar allows is JSON that the schema allows. It allows less than all of that: one order of properties,
    no properties beyond those that are named unless `additionalProperties` says so, integers where a range of numbers
    is asked for, no blanks but one behind a comma or a colon.

    Parameters
    ----------
    schema : mapping, bool or str
        A schema (draft 2020-12), or its JSON. It may have `type`, `enum`, `const`, `anyOf`, `oneOf` of options that
        differ in type, value or a required property's value, `allOf` that can be joined, `$ref` within the schema;
        `properties`, `required`, `additionalProperties`; `items`, `prefixItems`, `minItems`, `maxItems`; `minLength`,
        `maxLength`, `pattern` (a regular expression without look-around, references and boundaries), `format` of date,
        time, date-time or uuid; `minimum`, `maximum` and their exclusive kin.

    Returns
    -------
    str
        In GBNF, for :meth:`Sampler.grammar`.

    Raises
    ------
    GrammarError
        A keyword is not supported or the schema is wrong; it names the path of the keyword in the schema.

    Examples
    --------
    >>> print(json_schema_to_grammar({"enum": ["yes", "no"]}))
    root ::= ("\\"yes\\"" | "\\"no\\"")
    """
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise GrammarError(f"the schema is no JSON: {error}") from None
    converter = Converter(schema)
    try:
        root = converter.visit(schema, "#")
    except RecursionError:
        raise GrammarError("#: the schema is nested too deep, or refers to itself without an end") from None
    grammar = "\n".join(f"{name} ::= {body}" for name, body in [("root", root), *converter.rules.items()])
    read_grammar(grammar, "root")
    return grammar
