"""Grammars that use all of GBNF, and what is done to their text."""

from __future__ import annotations

import random
from collections.abc import Mapping

from .draw import draw_bytes
from .operations import Operation

__all__ = ["GRAMMARS", "draw_text"]

GRAMMARS: Mapping[str, str] = {
    "json": r"""root ::= object
value ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x7F\x00-\x1F] | "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
""",
    "repetitions": r"""root ::= (a{2} b{1,} c{0,3} "x"{3,4})+ | d?
a ::= "ab" | [^a-z]   # a comment
b ::= .
c ::= "é日🙂" "\u00e9" "\U0001F642" [α-ω]
d ::= ((a | b) c*)+ "\r\n\t\\\""
""",
    "tokens": r"""root ::= <[5]> !<[7]>* word+ <[3]>?
word ::= " " [a-z]+ | !<[17]>
""",
    "empty": """root ::= ( ( ) )? "" ( "" | ) tail
tail ::= | "z" tail
""",
    "long": "root ::= " + " | ".join(f'"{i}" r{i % 7}' for i in range(60))
    + "\n" + "".join(f'r{i} ::= [a-{chr(98 + i)}]{{{i},{i + 3}}} "{i}"?\n' for i in range(7)),
}  # fmt: skip
WORDS = (
    *("(", ")", "|", "*", "+", "?", "{0}", "{0,}", "{3,2}", "{,5}", "{1,1000000}", "{4294967296}", "{"),
    *("[", "]", "[^", "[]", "[z-a]", "-", "^", "\\", "\\x", "\\xff", "\\u12", "\\UFFFFFFFF", '"', "\n", "\r", "#"),
    *("::=", "\nroot ::= root\n", "\nq ::= q | q q\n", "<[99999999999]>", "<[-1]>", "<", "!", "\0", "\x80", "\ud800"),
)
# What stands between two others in many a grammar; with some of it a text can be read in ever more ways.
PARTS = (
    *("( )", "(root)", "root", "root?", "root*", "(root | root)?", ". root*", "ws", "a", "tail", "word", "|"),
    *('""', '"é"', '"\U0001f642"', "[a-z]", "[^a]*", "[^a]{0,9}", ".", ".+", "(.? .?)*", "(. | .)+", "(a* a*)*"),
    *("<[5]>", "!<[5]>", "<[5]>{2,3}"),
)


def draw_text(draw: random.Random, text: bytes) -> Operation:
    """Change a text: put something of the language somewhere, or change its bytes."""
    what = draw.random()
    if what < 0.5:
        behind = [at + 1 for at, byte in enumerate(text) if byte == ord(" ")]
        return "insert", draw.choice(behind), f"{draw.choice(PARTS)} ".encode().hex()
    if what < 0.75:
        return "insert", draw.randrange(len(text)), draw.choice(WORDS).encode("utf-8", "surrogatepass").hex()
    return draw_bytes(draw, len(text), len(text))
