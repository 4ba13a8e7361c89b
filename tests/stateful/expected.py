"""What must be so: the memory of a context, the rows it shows, the members of a chain."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .session import prepare

__all__ = ["Cell", "Chain", "ContextModel", "Entry", "Loop", "greedy", "logits_of"]

END = 2**31 - 1
# Entries of a batch: token, position, sequences, whether logits are wanted.
Entry = tuple[int, int, tuple[int, ...], bool]
KINDS = {"llama": "attention", "demo": "attention", "gemma3": "window", "mamba": "recurrent", "jamba": "hybrid"} | {
    "lfm2": "hybrid", "t5": "both", "bert": "encoder"
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One entry of memory. It is `pure` where it was computed as a fresh run does."""

    pos: int
    token: int
    seqs: frozenset[int]
    pure: bool = True


@dataclass
class ContextModel:
    """What is known of a context.

    Attributes
    ----------
    sure : bool
        Whether `cells` are what the memory holds.
    rows : dict or None
        Row to the tokens behind it, which are None where nobody knows what a fresh run would give; None: not known.
    owner : str or None
        The loop that goes on from what is held; "?" if that is not known.
    """

    key: str
    n_seq_max: int
    n_ctx: int
    n_ctx_seq: int
    n_vocab: int
    params: str
    model: str
    cells: list[Cell] = field(default_factory=list)
    sure: bool = True
    rows: dict[int, tuple[int, ...] | None] | None = field(default_factory=dict)
    owner: str | None = None
    cancelled: bool = False
    closed: bool = False
    adapted: bool = False
    moving: bool = False
    views: set[str] = field(default_factory=set)
    pools: set[str] = field(default_factory=set)

    @property
    def kind(self) -> str:
        return KINDS[self.key]

    @property
    def exact(self) -> bool:
        """Whether every operation on its memory is one on `cells`."""
        return self.kind == "attention"

    @property
    def unified(self) -> bool:
        return self.n_ctx == self.n_ctx_seq

    def positions(self, seq_id: int) -> list[int]:
        return [cell.pos for cell in self.cells if seq_id in cell.seqs]

    def highest(self, seq_id: int) -> int:
        return max(self.positions(seq_id), default=-1)

    def lowest(self, seq_id: int) -> int:
        return min(self.positions(seq_id), default=-1)

    def free(self) -> int:
        """Count the places that are left for sequence 0."""
        if self.unified:
            return self.n_ctx - len(self.cells)
        return self.n_ctx_seq - len(self.positions(0))

    def used(self) -> int:
        return self.highest(0) - self.lowest(0) + 1 if self.positions(0) else 0

    def prefix(self, seq_id: int, end: int) -> tuple[int, ...] | None:
        """Return the tokens of a sequence up to a position, if a fresh run would compute the same of them."""
        cells = sorted((cell for cell in self.cells if seq_id in cell.seqs and cell.pos <= end), key=lambda c: c.pos)
        if (
            self.kind in ("both", "encoder")
            or not self.sure
            or not all(cell.pure for cell in cells)
            or [c.pos for c in cells] != list(range(end + 1))
        ):
            return None
        return tuple(cell.token for cell in cells)

    def append(self, seq_id: int, tokens: Iterable[int]) -> None:
        first = self.highest(seq_id) + 1
        seqs = frozenset([seq_id])
        self.cells += [Cell(first + i, token, seqs, not self.adapted) for i, token in enumerate(tokens)]

    def put(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        self.cells += [Cell(pos, token, frozenset(seqs), not self.adapted) for token, pos, seqs, _ in entries]
        wanted = [(i, entry) for i, entry in enumerate(entries) if entry[3]]
        self.rows = {i: self.prefix(entry[2][0], entry[1]) for i, entry in wanted}
        for k, (i, _) in enumerate(reversed(wanted)):
            self.rows[-1 - k] = self.rows[i]
        self.settle()

    def show_last(self) -> None:
        """Note that the last token of sequence 0 has logits, and no other."""
        self.rows = {-1: self.prefix(0, self.highest(0)) if self.positions(0) else None}

    def settle(self) -> None:
        self.moving = False

    def doubt(self) -> None:
        """Know no more what it holds."""
        self.sure, self.rows, self.owner = False, None, "?"

    def doubt_cancelled(self) -> None:
        """Know no more whether a cancel() is still to come through."""
        if self.cancelled:
            self.owner = "?"

    def change(self, seq_id: int, p0: int, p1: int, new: Callable[[Cell], Cell | None]) -> None:
        start, end = max(p0, 0), END if p1 < 0 else p1
        kept = [
            new(cell) if start <= cell.pos < end and (seq_id in cell.seqs or seq_id == -1) else cell
            for cell in self.cells
        ]
        self.cells = [cell for cell in kept if cell is not None and cell.pos >= 0 and cell.seqs]

    def seq_rm(self, seq_id: int, p0: int, p1: int) -> None:
        gone = frozenset(range(self.n_seq_max)) if seq_id == -1 else frozenset([seq_id])
        self.change(seq_id, p0, p1, lambda cell: Cell(cell.pos, cell.token, cell.seqs - gone, cell.pure))

    def seq_cp(self, source: int, target: int, p0: int, p1: int) -> None:
        if source == target:
            return
        if self.unified:
            both = frozenset([target])
            self.change(source, p0, p1, lambda cell: Cell(cell.pos, cell.token, cell.seqs | both, cell.pure))
            return
        self.seq_rm(target, -1, -1)
        self.cells += [Cell(c.pos, c.token, frozenset([target]), c.pure) for c in self.cells if source in c.seqs]

    def seq_keep(self, seq_id: int) -> None:
        only = frozenset([seq_id])
        self.cells = [Cell(cell.pos, cell.token, only, cell.pure) for cell in self.cells if seq_id in cell.seqs]

    def seq_add(self, seq_id: int, p0: int, p1: int, delta: int) -> None:
        self.change(seq_id, p0, p1, lambda c: Cell(c.pos + delta, c.token, c.seqs, c.pure and delta == 0))

    def seq_div(self, seq_id: int, p0: int, p1: int, d: int) -> None:
        self.change(seq_id, p0, p1, lambda c: Cell(c.pos // d, c.token, c.seqs, c.pure and d == 1))

    def clear(self) -> None:
        self.cells, self.sure, self.moving = [], True, False


@dataclass
class Loop:
    """What is known of a loop."""

    context: str
    sampler: str | None
    prompt: tuple[int, ...] | None
    left: int
    held: tuple[int, ...] | None = None
    started: bool = False
    over: bool = False
    # Nothing is known of it any more.
    vague: bool = False
    closed: bool = False


@dataclass
class Chain:
    """What is known of a sampler: the kind of one, or the members of a chain; where it went."""

    kind: str
    members: list[str] = field(default_factory=list)
    inside: str | None = None
    closed: bool = False
    vocabulary: int = 0


_cache: dict[tuple[str, tuple[int, ...]], npt.NDArray[np.float32]] = {}


def logits_of(key: str, tokens: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return what a fresh run gives behind these tokens."""
    found = _cache.get((key, tokens))
    if found is None:
        context = prepare().reference(key)
        context.memory.clear()
        context.decode(list(tokens))
        if len(_cache) > 5000:
            _cache.clear()
        found = _cache[key, tokens] = context.logits()
    return found


def greedy(key: str, tokens: tuple[int, ...]) -> tuple[int, Any]:
    """Return the most probable token, and how far the next one is behind it."""
    row = logits_of(key, tokens)
    best, second = np.argpartition(row, -2)[[-1, -2]]
    return int(best), float(row[best] - row[second])
