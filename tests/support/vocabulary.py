"""Small made-up vocabularies, one for each tokenizer family that llama.cpp knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from gguf import GGUFWriter, TokenType

__all__ = ["Vocabulary", "bpe", "no_vocab", "spm", "ugm", "wpm"]

WORDS = ("the", "and", "cat", "dog", "house", "runs", "hello", "world", "once", "upon", "time")
PRINTABLE = tuple(chr(code) for code in range(0x21, 0x7F))
SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what SentencePiece writes for a space


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer part of a model file.

    Attributes
    ----------
    model : str
        Tokenizer family as ``tokenizer.ggml.model`` spells it.
    n_tokens : int
        Number of tokens.
    tokens, types, scores : tuple
        Text, kind and score of each token; all empty for ``no_vocab``.
    merges : tuple of str
        Merge rules, best first; byte pair encoding only.
    pre : str or None
        Name of the pre-tokenizer; byte pair encoding only.
    special_ids : mapping
        Ids of the special tokens, by the word before ``_token_id`` in the metadata key.
    flags : mapping
        Boolean settings, by the word after ``tokenizer.ggml.``.
    """

    model: str
    n_tokens: int
    tokens: tuple[str | bytes, ...] = ()
    types: tuple[TokenType, ...] = ()
    scores: tuple[float, ...] = ()
    merges: tuple[str, ...] = ()
    pre: str | None = None
    special_ids: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    flags: Mapping[str, bool] = field(default_factory=lambda: MappingProxyType({}))

    def id_of(self, text: str | bytes) -> int:
        """Return the id of the token with this text."""
        return self.tokens.index(text)

    def add_to(self, writer: GGUFWriter) -> None:
        """Add the vocabulary's metadata to a model file."""
        writer.add_vocab_size(self.n_tokens)
        writer.add_tokenizer_model(self.model)
        if self.pre is not None:
            writer.add_tokenizer_pre(self.pre)
        if self.tokens:
            writer.add_token_list([text.encode() if isinstance(text, str) else text for text in self.tokens])
            writer.add_token_types(self.types)
            writer.add_token_scores(self.scores)
        if self.pre is not None:
            writer.add_token_merges(self.merges)
        for name, token in self.special_ids.items():
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
        for name, flag in self.flags.items():
            writer.add_bool(f"tokenizer.ggml.{name}", flag)


class _TokenList:
    """Collects tokens; llama.cpp aborts on a text that occurs twice, so this refuses it."""

    def __init__(self) -> None:
        self.rows: dict[str | bytes, tuple[TokenType, float]] = {}

    def add(self, texts: Sequence[str | bytes], kind: TokenType, *, score: float = 0.0, step: float = 0.0) -> None:
        for rank, text in enumerate(texts):
            if text in self.rows:
                raise ValueError(f"token {text!r} occurs twice in the vocabulary")
            self.rows[text] = kind, score + rank * step

    def fill(self, n_tokens: int | None, template: str, *, score: float = 0.0) -> None:
        missing = 0 if n_tokens is None else n_tokens - len(self.rows)
        if missing < 0:
            raise ValueError(f"n_tokens={n_tokens} is less than the {len(self.rows)} tokens this vocabulary needs")
        self.add([template.format(rank) for rank in range(missing)], TokenType.NORMAL, score=score)

    def columns(self) -> tuple[tuple[str | bytes, ...], tuple[TokenType, ...], tuple[float, ...]]:
        kinds, scores = zip(*self.rows.values(), strict=True)
        return tuple(self.rows), kinds, scores


def _growing(word: str) -> list[str]:
    """Return the prefixes of two characters and more, so that merging pairs can reach the word."""
    return [word[:end] for end in range(2, len(word) + 1)]


def spm(
    n_tokens: int | None = None,
    *,
    pieces: Sequence[str | bytes] = (),
    special: Sequence[str] = (),
    user_defined: Sequence[str] = (),
    add_bos: bool = True,
    add_space_prefix: bool = True,
) -> Vocabulary:
    """Return a SentencePiece-style vocabulary with byte fallback; every text round-trips.

    ``<unk>``, ``<s>`` and ``</s>`` are 0, 1 and 2, byte ``b`` is ``3 + b``; then come ``special`` (control tokens),
    ``user_defined``, printable ASCII, a few English words with their prefixes and ``pieces``. Made-up tokens fill
    the rest up to ``n_tokens``.
    """
    words = [prefix for word in WORDS for prefix in _growing(SPACE + word)]
    rows = _TokenList()
    rows.add(["<unk>"], TokenType.UNKNOWN)
    rows.add(["<s>", "</s>"], TokenType.CONTROL)
    rows.add([f"<0x{byte:02X}>" for byte in range(256)], TokenType.BYTE)
    rows.add(special, TokenType.CONTROL)
    rows.add(user_defined, TokenType.USER_DEFINED)
    rows.add([SPACE, *PRINTABLE, *dict.fromkeys(words), *pieces], TokenType.NORMAL, step=-1.0)
    rows.fill(n_tokens, SPACE + "made{}", score=-1e6)
    tokens, types, scores = rows.columns()
    return Vocabulary(
        model="llama",
        n_tokens=len(tokens),
        tokens=tokens,
        types=types,
        scores=scores,
        special_ids={"bos": 1, "eos": 2, "unknown": 0},
        flags={"add_bos_token": add_bos, "add_eos_token": False, "add_space_prefix": add_space_prefix},
    )


def _byte_alphabet() -> list[str]:
    """Return the character that stands for each byte in byte-level BPE (Radford et al. 2019, GPT-2)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    stand_ins = {byte: 0x100 + rank for rank, byte in enumerate(hidden)}
    return [chr(stand_ins.get(byte, byte)) for byte in range(256)]


def bpe(
    n_tokens: int | None = None,
    *,
    words: Sequence[str] = WORDS,
    special: Sequence[str] = (),
    user_defined: Sequence[str] = (),
    pre: str = "qwen2",
    add_bos: bool = False,
) -> Vocabulary:
    """Return a byte-level BPE vocabulary; every text round-trips.

    Byte ``b`` is token ``b``; ``<|endoftext|>``, the start and end of text, is 256; then come ``special`` (control
    tokens), ``user_defined`` and the prefixes of ``words``, each with the merge rule that makes it. Made-up tokens
    fill the rest up to ``n_tokens``.

    The default pre-tokenizer keeps spaces as they are; llama.cpp detokenizes ``"gpt-2"`` with some spaces removed.
    """
    alphabet = _byte_alphabet()
    spelled = ["".join(alphabet[byte] for byte in f" {word}".encode()) for word in words]
    merged = list(dict.fromkeys(prefix for word in spelled for prefix in _growing(word)))
    rows = _TokenList()
    rows.add(alphabet, TokenType.NORMAL)
    rows.add(["<|endoftext|>", *special], TokenType.CONTROL)
    rows.add(user_defined, TokenType.USER_DEFINED)
    rows.add(merged, TokenType.NORMAL)
    rows.fill(n_tokens, alphabet[ord(" ")] + "made{}")
    tokens, types, scores = rows.columns()
    return Vocabulary(
        model="gpt2",
        n_tokens=len(tokens),
        tokens=tokens,
        types=types,
        scores=scores,
        merges=tuple(f"{text[:-1]} {text[-1]}" for text in merged),
        pre=pre,
        special_ids={"bos": 256, "eos": 256},
        flags={"add_bos_token": add_bos, "add_eos_token": False},
    )


def wpm(n_tokens: int | None = None, *, words: Sequence[str] = WORDS) -> Vocabulary:
    """Return a WordPiece-style vocabulary, lower case: words, single characters, ``[UNK]`` for the rest.

    ``[PAD]``, ``[UNK]``, ``[CLS]``, ``[SEP]`` and ``[MASK]`` are 0 to 4.
    """
    lower = [character for character in PRINTABLE if not character.isupper()]
    rows = _TokenList()
    rows.add(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], TokenType.CONTROL)
    rows.add([SPACE + character for character in lower], TokenType.NORMAL)
    rows.add(lower, TokenType.NORMAL)
    rows.add([SPACE + word for word in words], TokenType.NORMAL)
    rows.fill(n_tokens, SPACE + "made{}")
    tokens, types, scores = rows.columns()
    return Vocabulary(
        model="bert",
        n_tokens=len(tokens),
        tokens=tokens,
        types=types,
        scores=scores,
        special_ids={"padding": 0, "unknown": 1, "bos": 2, "seperator": 3, "mask": 4},
    )


def ugm(n_tokens: int | None = None, *, words: Sequence[str] = WORDS) -> Vocabulary:
    """Return a unigram vocabulary: words, single characters, ``<unk>`` for the rest.

    ``<pad>``, ``</s>`` and ``<unk>`` are 0, 1 and 2. Scores are log probabilities, words likelier than characters.
    """
    rows = _TokenList()
    rows.add(["<pad>", "</s>"], TokenType.CONTROL)
    rows.add(["<unk>"], TokenType.UNKNOWN)
    rows.add([SPACE + word for word in words], TokenType.NORMAL, score=-3.0, step=-0.01)
    rows.add([SPACE, *PRINTABLE], TokenType.NORMAL, score=-6.0, step=-0.01)
    rows.fill(n_tokens, SPACE + "made{}", score=-20.0)
    tokens, types, scores = rows.columns()
    return Vocabulary(
        model="t5",
        n_tokens=len(tokens),
        tokens=tokens,
        types=types,
        scores=scores,
        special_ids={"padding": 0, "eos": 1, "unknown": 2},
        flags={
            "add_bos_token": False,
            "add_eos_token": True,
            "add_space_prefix": True,
            "remove_extra_whitespaces": True,
        },
    )


def no_vocab(n_tokens: int) -> Vocabulary:
    """Return a vocabulary without texts: the model has ``n_tokens`` ids and no tokenizer."""
    return Vocabulary(model="no_vocab", n_tokens=n_tokens)
