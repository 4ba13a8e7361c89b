"""How much each input of each matrix matters, for :func:`quantize`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .activations import Activations
from .checks import each, integer
from .embedding import collect
from .enums import GGMLType
from .gguf_file import gguf_bytes
from .gguf_header import read_header
from .gguf_tensors import DECODERS
from .loading import readable
from .model import Model
from .whole_file import whole_file

_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Array = npt.NDArray[np.float32]
SUMS, COUNTS = ".in_sum2", ".counts"


class ImportanceMatrix:
    """Sums of squared activations by weight, and how many tokens they are of.

    Parameters
    ----------
    sums : mapping of str to array
        By the weight's name: float32 of shape ``(n_expert, n_in)``, with one expert for a plain matrix.
    counts : mapping of str to array
        Rows added up, of shape ``(n_expert,)``.
    n_chunks, chunk_size : int
        Decodes that they are of, and the tokens of each.
    datasets : iterable of str
        What the texts are called, for the file.
    """

    def __init__(
        self,
        sums: Mapping[str, npt.ArrayLike],
        counts: Mapping[str, npt.ArrayLike],
        *,
        n_chunks: int = 1,
        chunk_size: int = 512,
        datasets: Iterable[str] = ("texts",),
    ) -> None:
        if sums.keys() != counts.keys():
            raise ValueError("sums and counts are of different weights")
        self.sums = {name: np.atleast_2d(np.asarray(value, dtype=np.float32)) for name, value in sums.items()}
        self.counts = {name: np.asarray(value, dtype=np.float32).reshape(-1) for name, value in counts.items()}
        for name, value in self.sums.items():
            if value.ndim != 2 or self.counts[name].shape != value.shape[:1]:
                raise ValueError(f"{name}: sums of {value.shape} need a count for each expert")
            for array in (value, self.counts[name]):
                if not (np.isfinite(array) & (array >= 0)).all():
                    raise ValueError(f"{name} has values that are negative, infinite or NaN")
        self.n_chunks = integer("n_chunks", n_chunks, 0, 2**32 - 1)
        self.chunk_size = integer("chunk_size", chunk_size, 1, 2**32 - 1)
        self.datasets = tuple(each("datasets", datasets)) or ("texts",)

    @classmethod
    def collect(cls, model: Model, inputs: Iterable[Any], *, chunk_size: int = 512, **params: Any) -> ImportanceMatrix:
        """Let a model read texts and add up what goes into its matrices.

        Parameters
        ----------
        model : Model
        inputs : iterable of str or of iterables of int
            Texts, or lists of tokens; longer ones are read in pieces.
        chunk_size : int
            Tokens of a piece.
        **params
            As in :class:`Context`.

        Raises
        ------
        ValueError
            There is nothing to read.
        """
        size = integer("chunk_size", chunk_size, 1, 2**20)
        # A Watch of our own is as good as a function, which only the package itself knows.
        watch: Any = Activations()
        chunks = 0
        sizes = {"n_ctx": size, "n_batch": size, "n_ubatch": size}
        with model.context(**(sizes | params), eval_callback=watch) as context:
            for text in each("inputs", inputs, "an iterable of texts"):
                tokens = collect(model.vocab, text)
                for start in range(0, len(tokens), size):
                    context.memory.clear()
                    context.decode(tokens[start : start + size])
                    chunks += 1
        if not chunks:
            raise ValueError("inputs has no tokens; there is nothing to read")
        return cls(watch.sums, watch.counts, n_chunks=chunks, chunk_size=size)

    @property
    def importance(self) -> dict[str, _Array]:
        """Mean squares by weight, flat, as :func:`quantize` takes them; 1 for an expert that no token went to."""
        found: dict[str, _Array] = {}
        for name, sums in self.sums.items():
            counts = self.counts[name][:, None]
            found[name] = np.where(counts > 0, sums / np.maximum(counts, 1), 1).astype(np.float32).reshape(-1)
        return found

    def save(self, path: _Path) -> None:
        """Write a GGUF file in the layout that llama.cpp's tools read; it appears whole or not at all."""
        tensors: dict[str, _Array] = {}
        for name, sums in self.sums.items():
            tensors[name + SUMS] = sums
            tensors[name + COUNTS] = self.counts[name][:, None]
        metadata = {
            "general.type": "imatrix",
            "imatrix.datasets": self.datasets,
            "imatrix.chunk_count": self.n_chunks,
            "imatrix.chunk_size": self.chunk_size,
        }
        data = gguf_bytes(metadata, tensors)
        with whole_file(path) as part:
            part.write_bytes(data)

    @classmethod
    def load(cls, path: _Path) -> ImportanceMatrix:
        """Read a file of :meth:`save` or of llama.cpp's tools.

        Raises
        ------
        ModelLoadError
            It is none.
        """
        name = os.fsdecode(path)
        found: dict[str, _Array] = {}
        with open(readable(name, "importance matrix"), "rb") as file:
            header = read_header(file, 0, "importance matrix", name)
            if header.values.get("general.type") != "imatrix":
                raise header.failure("general.type is not 'imatrix'")
            for info in header.tensors.values():
                if info.kind != GGMLType.F32:
                    raise header.failure(f"{info.name} is {info.type_name}, not f32")
                file.seek(header.data_start + info.offset)
                found[info.name] = DECODERS[info.kind](file.read(info.size)).reshape(info.dims[1], info.dims[0])
        names = {key.removesuffix(SUMS) for key in found if key.endswith(SUMS)}
        missing = sorted(one for one in names if one + COUNTS not in found)
        if missing or not names:
            raise header.failure(f"{missing[0]} has no counts" if missing else "it has no sums")
        try:
            return cls(
                {one: found[one + SUMS] for one in sorted(names)},
                {one: found[one + COUNTS] for one in sorted(names)},
                n_chunks=header.values.get("imatrix.chunk_count", 0),
                chunk_size=header.values.get("imatrix.chunk_size", 512),
            )
        except (TypeError, ValueError) as error:
            raise header.failure(str(error)) from None

    def __repr__(self) -> str:
        return f"<ImportanceMatrix of {len(self.sums)} weights from {self.n_chunks} chunks>"
