"""Read GBNF as llama.cpp does, but say where it is wrong, and refuse what nobody would come back from."""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import GrammarError
from .gbnf_rules import CharSet, Item, Rule, TokenReference, check_rules

# llama.cpp writes a repetition out, and gives up above so many rules.
MAX_REPETITIONS = 2000
# What it writes out stays small, and so does the work of each token.
MAX_ELEMENTS = 200_000
MAX_DEPTH = 100
ESCAPES = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]", "-": "-"}
HEXADECIMAL = {"x": 2, "u": 4, "U": 8}
OPERATORS = {"*": (0, None), "+": (1, None), "?": (0, 1)}


@dataclass(frozen=True)
class Grammar:
    """A grammar that was read.

    Attributes
    ----------
    rules : dict of int to Rule
        Numbered without a gap.
    root : int
        The rule to begin with.
    can_be_empty : set of int
        The rules that match nothing at all, too.
    tokens : list of TokenReference
        The tokens that it names, which only a vocabulary can check.
    """

    rules: dict[int, Rule]
    root: int
    can_be_empty: set[int]
    tokens: list[TokenReference]


def error_at(text: str, index: int, message: str) -> GrammarError:
    """Return the exception for a place in a text."""
    line = text.count("\n", 0, index) + 1
    column = index - (text.rfind("\n", 0, index) + 1) + 1
    error = GrammarError(f"line {line}, column {column}: {message}")
    error.line, error.column = line, column
    return error


def is_word(char: str) -> bool:
    """Tell whether a character may be part of a rule's name."""
    return char.isascii() and (char.isalnum() or char == "-")


@dataclass
class Reader:
    """A grammar, and how far it is read."""

    text: str
    pos: int = 0
    ids: dict[str, int] = field(default_factory=dict)
    n_ids: int = 0
    rules: dict[int, Rule] = field(default_factory=dict)
    references: dict[str, int] = field(default_factory=dict)
    tokens: list[TokenReference] = field(default_factory=list)
    n_elements: int = 0
    depth: int = 0

    def error(self, message: str, index: int | None = None) -> GrammarError:
        """Return the exception for a place, by default where the reader is."""
        return error_at(self.text, self.pos if index is None else index, message)

    def peek(self) -> str:
        """Return the character here, or nothing at the end."""
        return self.text[self.pos : self.pos + 1]

    def found(self) -> str:
        """Describe the character here."""
        return repr(self.peek()) if self.peek() else "the end"

    def space(self, newlines: bool) -> None:
        """Skip blanks and comments."""
        while char := self.peek():
            if char == "#":
                while self.peek() not in ("", "\r", "\n"):
                    self.pos += 1
            elif char in " \t" or (newlines and char in "\r\n"):
                self.pos += 1
            else:
                break

    def new_id(self) -> int:
        """Number a rule."""
        self.n_ids += 1
        return self.n_ids - 1

    def id_of(self, name: str) -> int:
        """Return the number of a rule with a name."""
        if name not in self.ids:
            self.ids[name] = self.new_id()
        return self.ids[name]

    def name(self) -> str:
        """Read the name of a rule."""
        begin = self.pos
        while self.peek() and is_word(self.peek()):
            self.pos += 1
        if self.pos == begin:
            raise self.error(f"expected the name of a rule (letters, digits and '-'), found {self.found()}")
        return self.text[begin : self.pos]

    def number(self) -> int:
        """Read digits."""
        begin = self.pos
        while self.peek().isascii() and self.peek().isdigit():
            self.pos += 1
        if self.pos == begin:
            raise self.error(f"expected a number, found {self.found()}")
        if self.pos - begin > 12:
            raise self.error("the number is too large", begin)
        return int(self.text[begin : self.pos])

    def char(self) -> int:
        """Read a character of a literal or a class; return its code point."""
        char = self.peek()
        if char != "\\":
            self.pos += 1
            return ord(char)
        begin, letter = self.pos, self.text[self.pos + 1 : self.pos + 2]
        if letter in HEXADECIMAL:
            digits = self.text[begin + 2 : begin + 2 + HEXADECIMAL[letter]]
            if len(digits) < HEXADECIMAL[letter] or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
                raise self.error(f"'\\{letter}' needs {HEXADECIMAL[letter]} hexadecimal digits")
            self.pos += 2 + HEXADECIMAL[letter]
            return int(digits, 16)
        if letter not in ESCAPES or not letter:
            raise self.error(f"unknown escape {self.text[begin : begin + 2]!r}")
        self.pos += 2
        return ord(ESCAPES[letter])

    def literal(self) -> list[Item]:
        """Read what stands in quotes."""
        begin = self.pos
        self.pos += 1
        chars: list[int] = []
        while self.peek() != '"':
            if not self.peek():
                raise self.error("the quote is never closed", begin)
            chars.append(self.char())
        self.pos += 1
        return [Item(None, len(chars), tuple(CharSet(False, ((char, char),)) for char in chars))] if chars else []

    def char_class(self) -> list[Item]:
        """Read what stands in square brackets."""
        begin, length = self.pos, 0
        negated = self.text.startswith("[^", self.pos)
        self.pos += 2 if negated else 1
        ranges: list[tuple[int, int]] = []
        while self.peek() != "]":
            if not self.peek():
                raise self.error("the class is never closed", begin)
            low_pos, low = self.pos, self.char()
            high = low
            length += 1
            if self.peek() == "-" and self.text[self.pos + 1 : self.pos + 2] != "]":
                self.pos += 1
                if not self.peek():
                    raise self.error("the class is never closed", begin)
                high = self.char()
                length += 1
                if high < low:
                    raise self.error("the range is empty: its end lies before its begin", low_pos)
            ranges.append((low, high))
        if not length:
            raise self.error("the class is empty", begin)
        self.pos += 1
        return [Item(None, length, (CharSet(negated, tuple(ranges)),))]

    def token(self) -> list[Item]:
        """Read a token in angle brackets, with a ``!`` in front for any other one."""
        begin = self.pos
        negated = self.peek() == "!"
        if negated:
            self.pos += 1
        start, number = self.pos, None
        if self.peek() != "<":
            raise self.error(f"expected '<' and a token, found {self.found()}")
        if self.text.startswith("<[", self.pos):
            self.pos += 2
            number = self.number()
            if not self.text.startswith("]>", self.pos):
                raise self.error(f"expected ']>', found {self.found()}")
            self.pos += 2
        else:
            end = self.text.find(">", self.pos)
            if end < 0:
                raise self.error("the token is never closed", start)
            self.pos = end + 1
        line = self.text.count("\n", 0, begin) + 1
        column = begin - self.text.rfind("\n", 0, begin)
        reference = TokenReference(self.text[start : self.pos], number, negated, line, column)
        self.tokens.append(reference)
        return [Item(None, 1, (reference,))]

    def group(self, rule: int) -> tuple[list[Item], int]:
        """Read what stands in parentheses; return it with the number of rules that it makes."""
        begin, before = self.pos, self.n_ids
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"parentheses are nested more than {MAX_DEPTH} deep")
        self.pos += 1
        self.space(newlines=True)
        inner = self.new_id()
        self.alternates(inner, self.rules[rule].index, nested=True)
        self.depth -= 1
        if self.peek() != ")":
            raise self.error(
                f"expected ')' for the '(' of line {self.text.count(chr(10), 0, begin) + 1}, found {self.found()}"
            )
        self.pos += 1
        return [Item(inner, 1)], max(1, self.n_ids - before)

    def bounds(self, nested: bool) -> tuple[int, int | None]:
        """Read ``{m}``, ``{m,}`` or ``{m,n}``."""
        begin = self.pos
        self.pos += 1
        self.space(nested)
        low = self.number()
        high: int | None = low
        self.space(nested)
        if self.peek() == ",":
            self.pos += 1
            self.space(nested)
            high = None
            if self.peek() != "}":
                high = self.number()
                self.space(nested)
        if self.peek() != "}":
            raise self.error(f"expected '}}', found {self.found()}")
        self.pos += 1
        if high is not None and high < low:
            raise self.error(f"{{{low},{high}}} repeats at most less often than at least", begin)
        if max(low, high or 0) > MAX_REPETITIONS:
            raise self.error(f"{max(low, high or 0)} repetitions are more than {MAX_REPETITIONS}", begin)
        return low, high

    def repeat(self, rule: int, item: list[Item], low: int, high: int | None) -> list[Item]:
        """Write a repetition out as llama.cpp does: `low` times, then a rule for each that may be left out."""
        optional: int | None = None
        for number in range(1 if high is None else high - low):
            own = self.new_id()
            inner = own if high is None else optional
            behind = [Item(inner, 1)] if inner is not None and (high is None or number) else []
            self.define(own, self.rules[rule].index, [[*item, *behind], []])
            optional = own
        return item * low + ([] if optional is None else [Item(optional, 1)])

    def define(self, rule: int, index: int, alternates: list[list[Item]]) -> None:
        """Keep a rule, and count what it takes."""
        self.n_elements += sum(item.n_elements for items in alternates for item in items) + len(alternates)
        if self.n_elements > MAX_ELEMENTS:
            raise self.error(f"written out, the grammar has more than {MAX_ELEMENTS} elements")
        self.rules[rule] = Rule(index, alternates)

    def sequence(self, rule: int, nested: bool) -> list[Item]:
        """Read one alternative."""
        items: list[Item] = []
        last: list[Item] = []
        n_rules = 1
        while char := self.peek():
            begin = self.pos
            if char in "*+?{":
                if char == "{":
                    low, high = self.bounds(nested)
                else:
                    self.pos += 1
                    low, high = OPERATORS[char]
                if not last:
                    raise self.error(f"there is nothing to repeat in front of {char!r}", begin)
                n_rules *= high or low or 1
                if n_rules > MAX_REPETITIONS:
                    raise self.error(f"nested repetitions make more than {MAX_REPETITIONS} rules", begin)
                length = len(last)
                repeated = self.repeat(rule, last, low, high)
                del items[len(items) - length :]
                items += repeated
                # Another operator would repeat all of it.
                last = repeated
                self.n_elements += sum(item.n_elements for item in repeated)
                if self.n_elements > MAX_ELEMENTS:
                    raise self.error(f"written out, the grammar has more than {MAX_ELEMENTS} elements")
                self.space(nested)
                continue
            n_rules = 1
            if char == '"':
                last = self.literal()
            elif char == "[":
                last = self.char_class()
            elif char in "<!":
                last = self.token()
            elif is_word(char):
                name = self.name()
                self.references.setdefault(name, begin)
                last = [Item(self.id_of(name), 1)]
            elif char == "(":
                last, n_rules = self.group(rule)
            elif char == ".":
                self.pos += 1
                last = [Item(None, 1, (CharSet(True, ()),))]
            else:
                break
            items += last
            self.space(nested)
        return items

    def alternates(self, rule: int, index: int, nested: bool) -> None:
        """Read alternatives up to where they end."""
        self.rules[rule] = Rule(index, [])
        found = [self.sequence(rule, nested)]
        while self.peek() == "|":
            self.pos += 1
            self.space(newlines=True)
            found.append(self.sequence(rule, nested))
        self.define(rule, index, found)

    def rule(self) -> None:
        """Read a rule and the line break behind it."""
        begin, name = self.pos, self.name()
        self.space(newlines=False)
        if not self.text.startswith("::=", self.pos):
            raise self.error(f"expected '::=' behind {name!r}, found {self.found()}")
        self.pos += 3
        self.space(newlines=True)
        rule = self.id_of(name)
        if rule in self.rules:
            raise self.error(f"the rule {name!r} is defined twice", begin)
        self.alternates(rule, begin, nested=False)
        if self.peek() not in ("", "\r", "\n"):
            raise self.error(f"expected a line break, '|' or more of the rule {name!r}, found {self.found()}")
        self.space(newlines=True)


def read_grammar(text: str, root: str) -> Grammar:
    """Read a grammar and check what can be checked without a vocabulary.

    Parameters
    ----------
    text : str
        In GBNF.
    root : str
        The rule to begin with.

    Raises
    ------
    GrammarError
        With the line and the column, where there is one.
    """
    if "\0" in text:
        raise error_at(text, text.index("\0"), "a null character")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise error_at(text, error.start, "a lone surrogate, which no UTF-8 has") from None
    reader = Reader(text)
    reader.space(newlines=True)
    while reader.peek():
        reader.rule()
    if not reader.rules:
        raise GrammarError("the grammar is empty: it has no rule")
    for name, index in reader.references.items():
        if reader.ids[name] not in reader.rules:
            raise reader.error(f"the rule {name!r} is not defined", index)
    if root not in reader.ids or reader.ids[root] not in reader.rules:
        raise GrammarError(f"the grammar has no rule {root!r}, which is to be its root")
    can_be_empty = check_rules(text, reader.rules, error_at)
    return Grammar(reader.rules, reader.ids[root], can_be_empty, reader.tokens)
