"""Rules of GBNF for any JSON, and for texts of some formats."""

from __future__ import annotations

from .json_pattern import UNPLAIN

PRIMITIVES = {
    "value": "object | array | string | number | boolean | null",
    "object": '"{" (string ":" " "? value ("," " "? string ":" " "? value)*)? "}"',
    "array": '"[" (value ("," " "? value)*)? "]"',
    "string": '"\\"" char* "\\""',
    "char": f'[^{UNPLAIN}] | "\\\\" (["\\\\/bfnrt] | "u" code)',
    # No half of a pair: alone it is no character, and two halves count as one.
    "code": "[0-9abcefABCEF] hex hex hex | [dD] [0-7] hex hex",
    "hex": "[0-9a-fA-F]",
    "integer": '"-"? natural',
    "natural": '"0" | [1-9] [0-9]{0,15}',
    "number": "integer fraction? exponent?",
    "fraction": '"." [0-9]{1,15}',
    "exponent": "[eE] [-+]? [0-9]{1,2}",
    "boolean": '"true" | "false"',
    "null": '"null"',
}
USES = {
    "value": ["object", "array", "string", "number", "boolean", "null"],
    **{"object": ["string", "value"], "array": ["value"], "string": ["char"], "char": ["code"], "code": ["hex"]},
    **{"integer": ["natural"], "number": ["integer", "fraction", "exponent"]},
}
DATE = '[0-9]{4} "-" ("0" [1-9] | "1" [0-2]) "-" ("0" [1-9] | "1" [0-9] | "2" [0-8])'
HOUR = '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9]'
TIME = f'{HOUR} ":" [0-5] [0-9] ("." [0-9]{{1,6}})? ("Z" | [-+] {HOUR})'
FORMATS = {
    **{"date": DATE, "time": TIME, "date-time": f'{DATE} "T" {TIME}'},
    "uuid": '[0-9a-f]{8} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{4} "-" [0-9a-f]{12}',
}
