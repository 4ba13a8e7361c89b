"""Documents as rows of token ids of one length, packed so that little room is left."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tools.demo_model.corpus import training_documents
from tools.demo_model.tokenizer import Tokenizer

OPEN_ROWS = 64
SHARD = 4000


@dataclass
class Rows:
    """Arrays ``[row, time]``: ids, the number of the document in its row (0: none), and what is to be learned."""

    tokens: npt.NDArray[np.int16]
    documents: npt.NDArray[np.int16]
    learned: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)


Encoded = list[tuple[list[int], list[bool]]]


def pack(encoded: Encoded, n_ctx: int) -> Rows:
    """Put each document into the fullest open row that has room for it."""
    closed: list[Encoded] = []
    rows: list[tuple[int, Encoded]] = []
    for ids, learned in encoded:
        if len(ids) > n_ctx:
            continue
        fitting = [i for i, (used, _) in enumerate(rows) if used + len(ids) <= n_ctx]
        if fitting:
            best = max(fitting, key=lambda i: rows[i][0])
            rows[best][1].append((ids, learned))
            rows[best] = (rows[best][0] + len(ids), rows[best][1])
            continue
        if len(rows) == OPEN_ROWS:
            fullest = max(range(OPEN_ROWS), key=lambda i: rows[i][0])
            closed.append(rows.pop(fullest)[1])
        rows.append((len(ids), [(ids, learned)]))
    closed += [contents for _, contents in rows]
    packed = Rows(
        np.zeros((len(closed), n_ctx), np.int16),
        np.zeros((len(closed), n_ctx), np.int16),
        np.zeros((len(closed), n_ctx), np.bool_),
    )
    for row, contents in enumerate(closed):
        start = 0
        for number, (ids, learned) in enumerate(contents, 1):
            end = start + len(ids)
            packed.tokens[row, start:end] = ids
            packed.documents[row, start:end] = number
            packed.learned[row, start:end] = learned
            start = end
    return packed


def _shard(shard: int, tokenizer: Path, seed: int, n_ctx: int) -> Rows:
    encode = Tokenizer(tokenizer).encode_document
    return pack([encode(document) for document in training_documents(seed, shard, SHARD)], n_ctx)


def training_rows(tokenizer: Path, seed: int, n_shards: int, n_ctx: int, n_processes: int) -> Rows:
    """Draw, encode and pack the corpus, one process a shard."""
    make = partial(_shard, tokenizer=tokenizer, seed=seed, n_ctx=n_ctx)
    with ProcessPoolExecutor(n_processes) as pool:
        shards = list(pool.map(make, range(n_shards)))
    return Rows(
        np.concatenate([rows.tokens for rows in shards]),
        np.concatenate([rows.documents for rows in shards]),
        np.concatenate([rows.learned for rows in shards]),
    )
