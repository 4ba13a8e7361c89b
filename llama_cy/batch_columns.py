"""The arrays that a batch is made of, checked."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .checks import INT32_MAX

Column = npt.NDArray[np.int32]


def whole_numbers(name: str, values: npt.ArrayLike, low: int, high: int) -> npt.NDArray[np.int32]:
    """Return `values` as an int32 array whose every number lies within ``[low, high]``."""
    if isinstance(values, (str, bytes, bytearray)):
        raise TypeError(f"{name} must be integers, not {type(values).__name__}")
    array = np.asarray(values)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{name} must be integers, not {array.dtype}")
    wrong = np.flatnonzero((array < low) | (array > high))
    if len(wrong):
        at = tuple(int(index) for index in np.unravel_index(wrong[0], array.shape))
        where = f"[{', '.join(map(str, at))}]" if at else ""
        raise ValueError(f"{name}{where} is {array[at]}, which is out of range [{low}, {high}]")
    return np.asarray(array, dtype=np.int32, order="C")


def columns(
    token: npt.ArrayLike, pos: npt.ArrayLike, seq_id: npt.ArrayLike, logits: npt.ArrayLike
) -> tuple[Column, Column, Column, npt.NDArray[np.int8]]:
    """Check the arguments of ``Batch.from_arrays``, and bring those that are given once to the length of the others."""
    tokens, positions = whole_numbers("token", token, 0, INT32_MAX), whole_numbers("pos", pos, 0, INT32_MAX)
    if tokens.ndim != 1 or not tokens.size:
        raise ValueError(f"token has the shape {tokens.shape}; one dimension is expected, and something in it")
    n = len(tokens)
    if positions.shape != tokens.shape:
        raise ValueError(f"pos has the shape {positions.shape} and token {tokens.shape}; they go together")
    ids = whole_numbers("seq_id", seq_id, -1, 255)
    if ids.ndim < 2:
        ids = ids.reshape(-1, 1) if ids.ndim else np.full((n, 1), ids, dtype=np.int32)
    if ids.ndim != 2 or len(ids) != n or not 1 <= ids.shape[1] <= 256:
        raise ValueError(
            f"seq_id has the shape {np.shape(seq_id)}; expected one for all, or a row for each of {n} tokens"
        )
    wanted = np.asarray(logits)
    if wanted.dtype.kind != "b":
        raise TypeError(f"logits must be bool, not {wanted.dtype}")
    if wanted.shape not in ((), (n,)):
        raise ValueError(f"logits has the shape {wanted.shape}; expected one for all, or one for each of {n} tokens")
    flags = np.ascontiguousarray(np.broadcast_to(wanted, (n,))).view(np.int8)
    check_rows(ids)
    return tokens, positions, ids, flags


def check_rows(ids: npt.NDArray[np.int32]) -> None:
    """Refuse a row that names no sequence, names one twice, or has -1 in between."""
    used = ids >= 0
    if not used[:, 0].all():
        raise ValueError(f"seq_id[{np.argmin(used[:, 0])}] names no sequence: its first is -1")
    gap = used[:, 1:] & ~used[:, :-1]
    if gap.any():
        raise ValueError(f"seq_id[{np.argmax(gap.any(axis=1))}] has a sequence behind -1, which ends a row")
    ordered = np.sort(ids, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        raise ValueError(f"seq_id[{np.argmax(twice.any(axis=1))}] names a sequence twice")
