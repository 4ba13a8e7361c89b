"""Regular expressions as GBNF, for what stands in the quotes of a JSON string."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import GrammarError

CLASSES = {"d": "0-9", "w": "a-zA-Z0-9_", "s": " "}
ESCAPES = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
# What JSON writes with a backslash.
UNPLAIN = '\\"\\\\\\x00-\\x1F\\x7F'
SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def quoted(text: str) -> str:
    """Return a literal of GBNF."""
    shown = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return f'"{shown}"'


def in_class(char: str) -> str:
    """Return a character as a class of GBNF has it."""
    if char in '\\]-["^':
        return f"\\x{ord(char):02X}"
    return char if char.isprintable() else f"\\U{ord(char):08X}"


def in_json(char: str) -> str:
    """Return a character as JSON writes it in a string."""
    if char in SHORT:
        return SHORT[char]
    return f"\\u{ord(char):04x}" if ord(char) < 0x20 or ord(char) == 0x7F else char


@dataclass
class Pattern:
    """A regular expression that is being read."""

    text: str
    path: str
    pos: int = 0

    def error(self, what: str) -> GrammarError:
        """Return the exception for what is here."""
        return GrammarError(f"{self.path}: the pattern {self.text!r} has {what} at {self.pos}, which is not supported")

    def peek(self, n: int = 1) -> str:
        """Return what comes next."""
        return self.text[self.pos : self.pos + n]

    def take(self, text: str) -> bool:
        """Skip a text if it comes next."""
        if self.text.startswith(text, self.pos):
            self.pos += len(text)
            return True
        return False

    def whole(self) -> str:
        """Translate all of it."""
        found = self.alternatives(top=True)
        if self.pos < len(self.text):
            raise self.error(f"{self.peek()!r}")
        return found

    def alternatives(self, *, top: bool) -> str:
        """Translate up to a closing parenthesis or the end."""
        parts = [self.sequence(top=top)]
        while self.take("|"):
            parts.append(self.sequence(top=top))
        return parts[0] if len(parts) == 1 else "(" + " | ".join(parts) + ")"

    def sequence(self, *, top: bool) -> str:
        """Translate one alternative."""
        items: list[str] = []
        if top:
            self.take("^")
        while char := self.peek():
            if char in "|)":
                break
            if char == "$" and top and self.text[self.pos + 1 : self.pos + 2] in ("", "|"):
                self.pos += 1
                break
            items.append(self.repeated(self.atom()))
        return " ".join(items) or '""'

    def repeated(self, atom: str) -> str:
        """Translate what says how often."""
        char, bounds = self.peek(), ""
        if char in ("*", "+", "?"):
            self.pos += 1
            bounds = char
        elif char == "{":
            end = self.text.find("}", self.pos)
            bounds = self.text[self.pos : end + 1] if end > 0 else ""
            low, comma, high = bounds.strip("{}").partition(",")
            if not (low.isascii() and low.isdigit()) or (high and not (high.isascii() and high.isdigit())):
                raise self.error("'{'")
            bounds = f"{{{low}{comma}{high}}}"
            self.pos = end + 1
        if bounds and self.peek() in ("?", "+", "*", "{") and self.peek():
            raise self.error(f"{self.peek()!r} behind a repetition")
        return f"{atom}{bounds}"

    def atom(self) -> str:
        """Translate a character, a class or a group."""
        char = self.peek()
        if self.take("(?:") or (self.peek(2) != "(?" and self.take("(")):
            found = self.alternatives(top=False)
            if not self.take(")"):
                raise self.error("no ')'")
            return f"({found})"
        if char == "[":
            return self.char_class()
        if char == ".":
            self.pos += 1
            return f"[^{UNPLAIN}]"
        if char == "\\":
            letter = self.text[self.pos + 1 : self.pos + 2]
            if letter.lower() in CLASSES and letter:
                self.pos += 2
                negated = letter.isupper()
                return f"[{'^' if negated else ''}{CLASSES[letter.lower()]}{UNPLAIN if negated else ''}]"
            return quoted(in_json(self.escape()))
        if char in "*+?{}^$()":
            raise self.error(f"{char!r}")
        self.pos += 1
        return quoted(in_json(char))

    def escape(self) -> str:
        """Read a character behind a backslash."""
        letter = self.text[self.pos + 1 : self.pos + 2]
        if letter in ("x", "u"):
            size = 2 if letter == "x" else 4
            digits = self.text[self.pos + 2 : self.pos + 2 + size]
            if len(digits) == size and all(digit in "0123456789abcdefABCDEF" for digit in digits):
                self.pos += 2 + size
                return chr(int(digits, 16))
        if not letter or (letter.isalnum() and letter not in ESCAPES):
            raise self.error(f"{self.peek(2)!r}")
        self.pos += 2
        return ESCAPES.get(letter, letter)

    def char_class(self) -> str:
        """Translate what stands in square brackets."""
        self.pos += 1
        negated = self.take("^")
        parts: list[str] = []
        escaped: list[str] = []
        first = True
        while first or self.peek() != "]":
            first = False
            if not self.peek():
                raise self.error("no ']'")
            letter = self.text[self.pos + 1 : self.pos + 2]
            if self.peek() == "\\" and letter and letter in CLASSES:
                self.pos += 2
                parts.append(CLASSES[letter])
                continue
            low = self.class_char()
            high = low
            if self.peek() == "-" and self.text[self.pos + 1 : self.pos + 2] not in ("]", ""):
                self.pos += 1
                high = self.class_char()
            if high < low:
                raise self.error("an empty range")
            self.add(low, high, parts, escaped, negated=negated)
        self.pos += 1
        if negated:
            return f"[^{''.join(parts)}{UNPLAIN}]"
        choices = [f"[{''.join(parts)}]"] if parts else []
        choices += [quoted(in_json(char)) for char in escaped]
        return choices[0] if len(choices) == 1 else "(" + " | ".join(choices) + ")"

    def class_char(self) -> str:
        """Read a character of a class."""
        if self.peek() == "\\":
            return self.escape()
        self.pos += 1
        return self.text[self.pos - 1]

    def add(self, low: str, high: str, parts: list[str], escaped: list[str], *, negated: bool) -> None:
        """Add a range, without what JSON writes with a backslash."""
        if negated:
            parts.append(in_class(low) if low == high else f"{in_class(low)}-{in_class(high)}")
            return
        special = [char for char in ('"', "\\", "\t", "\n", "\r", "\x7f") if low <= char <= high]
        escaped += [char for char in special if char not in escaped]
        begin = max(ord(low), 0x20)
        for char in [char for char in special if ord(char) >= 0x20] + [chr(ord(high) + 1)]:
            if begin < ord(char):
                one, other = in_class(chr(begin)), in_class(chr(ord(char) - 1))
                parts.append(one if begin == ord(char) - 1 else f"{one}-{other}")
            begin = ord(char) + 1


def pattern_to_gbnf(text: str, path: str) -> str:
    """Translate a regular expression.

    Parameters
    ----------
    text : str
        A pattern of JSON Schema. What it finds is generated, and nothing in front of it or behind.
    path : str
        Where it stands in the schema.

    Raises
    ------
    GrammarError
        It has what no grammar says, such as a look-ahead.
    """
    return Pattern(text, path).whole()
