"""The tokenizer: SentencePiece BPE over the raw text, with a byte for whatever no piece covers."""

from __future__ import annotations

import string
from collections.abc import Iterator
from pathlib import Path

import sentencepiece

from tools.demo_model.chat import END, ROLE_TOKENS, TOOL_CALL, TOOL_CALL_END
from tools.demo_model.corpus import Document, training_documents

N_VOCAB = 1408
N_DOCUMENTS = 24_000
CONTROL_TOKENS = (*ROLE_TOKENS, END)
USER_DEFINED_TOKENS = (TOOL_CALL, TOOL_CALL_END)


def _lines(seed: int) -> Iterator[str]:
    for document in training_documents(seed, shard=-1, count=N_DOCUMENTS):
        for text in (document.story, *(message.content for message in document.messages)):
            yield from (line for line in text.splitlines() if line)


def train_tokenizer(path: Path, seed: int) -> None:
    """Train on a sample of the corpus and write the SentencePiece model."""
    with path.open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_lines(seed),
            model_writer=model,
            model_type="bpe",
            vocab_size=N_VOCAB,
            byte_fallback=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            add_dummy_prefix=False,
            split_digits=True,
            character_coverage=1.0,
            required_chars="".join(c for c in string.printable if c.isprintable() and c != " "),
            control_symbols=list(CONTROL_TOKENS),
            user_defined_symbols=list(USER_DEFINED_TOKENS),
            input_sentence_size=0,
            num_threads=1,
            minloglevel=2,
        )


class Tokenizer:
    """Ids of documents, with which of them the model is trained to give."""

    def __init__(self, path: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.bos, self.eos = self.pieces.bos_id(), self.pieces.eos_id()
        self.end = self.pieces.piece_to_id(END)

    def __len__(self) -> int:
        return int(self.pieces.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text in which no control token is looked for."""
        return list(self.pieces.encode(text))

    def decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; control tokens have none."""
        return str(self.pieces.decode(tokens))

    def role(self, role: str) -> list[int]:
        """Return the ids that open a turn."""
        return [self.pieces.piece_to_id(f"<|{role}|>"), *self.encode("\n")]

    def encode_document(self, document: Document) -> tuple[list[int], list[bool]]:
        """Return the ids of a document, and for each whether it is to be learned: not what the others say."""
        if document.story:
            ids = [self.bos, *self.encode(document.story), self.eos]
            return ids, [False] + [True] * (len(ids) - 1)
        ids, learned = [self.bos], [False]
        newline = self.encode("\n")
        for message in document.messages:
            opening = self.role(message.role)
            content = [*self.encode(message.content), self.end]
            ids += opening + content + newline
            learned += [False] * len(opening) + [message.role == "assistant"] * len(content) + [False] * len(newline)
        return ids, learned
