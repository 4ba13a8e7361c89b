"""The tokens that a sampler chooses among, as NumPy arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import INT32_MAX

# llama_token_data, field by field.
DTYPE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Candidates:
    """What samplers work on: tokens, each with its logit and probability. It is a ``llama_token_data_array``.

    Parameters
    ----------
    logits : array_like of float
        A row of logits; the tokens are 0, 1, 2, ….

    Attributes
    ----------
    data : numpy.ndarray
        The fields ``id`` (int32), ``logit`` (float32) and ``p`` (float32), shape ``(n,)``; to write to, or to put
        another array of the kind in its place.
    selected : int or None
        Index of the token that was chosen.
    sorted : bool
        Whether the logits fall from one to the next.
    """

    __slots__ = ("data", "selected", "sorted")

    data: npt.NDArray[np.void]
    selected: int | None
    sorted: bool

    def __init__(self, logits: npt.ArrayLike):
        row = np.asarray(logits)
        if row.dtype.kind not in "fiu":
            raise TypeError(f"logits must be numbers, not {row.dtype}")
        if row.ndim != 1 or not 0 < row.size <= INT32_MAX:
            raise ValueError(f"logits has shape {row.shape}; one row of at least one logit is expected")
        self.data = np.zeros(row.size, dtype=DTYPE)
        self.data["id"] = np.arange(row.size)
        self.data["logit"] = row
        self.selected = None
        self.sorted = False

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """The tokens: the field ``id`` of :attr:`data`."""
        return self.data["id"]

    @property
    def logits(self) -> npt.NDArray[np.float32]:
        """The logits: the field ``logit`` of :attr:`data`. Who changes their order sets :attr:`sorted` to False."""
        return self.data["logit"]

    @property
    def p(self) -> npt.NDArray[np.float32]:
        """The probabilities, where a sampler has computed them: the field ``p`` of :attr:`data`."""
        return self.data["p"]

    def keep(self, which: Any) -> None:
        """Leave some candidates only, in a given order.

        Parameters
        ----------
        which : numpy.ndarray, slice, or list
            A mask, indices, or a slice. A mask and a slice forwards leave :attr:`sorted` as it is.
        """
        kept = self.data[which]
        if kept.ndim != 1 or kept.size == 0:
            raise ValueError(f"{kept.size} candidates would be left; at least one is expected, in one row")
        ordered = isinstance(which, slice) or np.asarray(which).dtype == bool
        self.sorted = self.sorted and ordered and (not isinstance(which, slice) or (which.step or 1) > 0)
        self.data = np.ascontiguousarray(kept)
        self.selected = None

    @property
    def token(self) -> int | None:
        """The token that was chosen, or None."""
        return None if self.selected is None else int(self.data["id"][self.selected])

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        chosen = "" if self.token is None else f", token {self.token} selected"
        return f"<Candidates, {len(self)} tokens{chosen}>"
