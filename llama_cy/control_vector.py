"""Control vectors: directions that are added to what the layers give, to steer what a model says."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from .checks import FLOAT32_MAX, each, real
from .cvec import read
from .errors import ContextError
from .gguf_file import gguf_bytes
from .loop import prompt_tokens
from .whole_file import whole_file

if TYPE_CHECKING:
    from .model import Model
    from .tensor import Tensor

Array = npt.NDArray[np.float32]
Prompt = str | bytes | Iterable[SupportsIndex]


class ControlVector:
    """Directions for the layers of a model; :meth:`Context.set_control_vectors` makes a context add them.

    Parameters
    ----------
    directions : array_like
        One row of `model.n_embd` numbers for each layer from layer 1 on, copied as float32; llama.cpp leaves layer 0
        alone, so there are `model.n_layer` - 1 rows at most.
    model_hint : str
        The architecture that it is for, as a file says it.

    Raises
    ------
    TypeError
        They are complex.
    ValueError
        It has no two dimensions, is empty, or holds a number that is not finite.

    Notes
    -----
    ``2 * (happy - sad)`` is a control vector too.

    References
    ----------
    Zou et al. 2023, Representation Engineering: A Top-Down Approach to AI Transparency.
    """

    __slots__ = ("__weakref__", "_directions", "_model_hint")

    def __init__(self, directions: npt.ArrayLike, *, model_hint: str = "") -> None:
        if np.iscomplexobj(directions):
            raise TypeError("directions must be real numbers, not complex ones")
        array = np.array(directions, dtype=np.float64)
        if array.ndim != 2 or not array.size:
            raise ValueError(
                f"directions has the shape {array.shape}; rows of numbers are expected, one for each layer"
            )
        if not (np.abs(array) <= FLOAT32_MAX).all():
            layer = int(np.argmax(~(np.abs(array) <= FLOAT32_MAX).all(axis=1))) + 1
            raise ValueError(f"the direction of layer {layer} holds a number that is not finite in 32 bits")
        if not isinstance(model_hint, str):
            raise TypeError(f"model_hint must be str, not {type(model_hint).__name__}")
        if b"\0" in model_hint.encode():
            raise ValueError(f"model_hint {model_hint!r} contains a NUL character")
        self._directions = array.astype(np.float32)
        self._directions.flags.writeable = False
        self._model_hint = model_hint

    @property
    def directions(self) -> Array:
        """The directions, float32 of shape ``(layers, n_embd)``, read-only; row 0 is that of layer 1."""
        return self._directions

    @property
    def model_hint(self) -> str:
        """The architecture that it is for, empty where nobody said."""
        return self._model_hint

    @property
    def n_embd(self) -> int:
        """Numbers of a direction."""
        return int(self._directions.shape[1])

    def __repr__(self) -> str:
        return f"<ControlVector of {len(self._directions)} layers, {self.n_embd} numbers each>"

    def __add__(self, other: ControlVector) -> ControlVector:
        if not isinstance(other, ControlVector):
            return NotImplemented
        if other.n_embd != self.n_embd:
            raise ValueError(f"directions of {self.n_embd} and of {other.n_embd} numbers have no sum")
        total = np.zeros((max(len(self._directions), len(other.directions)), self.n_embd))
        total[: len(self._directions)] += self._directions
        total[: len(other.directions)] += other.directions
        return ControlVector(total, model_hint=self._model_hint or other.model_hint)

    def __sub__(self, other: ControlVector) -> ControlVector:
        return self + -other if isinstance(other, ControlVector) else NotImplemented

    def __neg__(self) -> ControlVector:
        return self * -1

    def __mul__(self, factor: float) -> ControlVector:
        if isinstance(factor, ControlVector):
            return NotImplemented
        return ControlVector(self._directions * np.float64(real("factor", factor)), model_hint=self._model_hint)

    __rmul__ = __mul__

    @staticmethod
    def load(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> ControlVector:
        """Read a GGUF file of llama.cpp's kind: a tensor ``direction.N`` for layer N.

        Parameters
        ----------
        path : str, bytes or os.PathLike

        Returns
        -------
        ControlVector
            Layers without a tensor have a direction of zeros.

        Raises
        ------
        ModelLoadError
            The file is not there, damaged, or no control vector.
        """
        directions, hint = read(os.fsdecode(path))
        return ControlVector(directions, model_hint=hint)

    def save(self, path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> None:
        """Write it to a GGUF file, which appears whole or not at all, as llama.cpp's programs read it."""
        facts: dict[str, Any] = {
            "general.architecture": "controlvector",
            "controlvector.model_hint": self._model_hint,
            "controlvector.layer_count": len(self._directions),
        }
        rows = {f"direction.{layer}": row for layer, row in enumerate(self._directions, 1)}
        data = gguf_bytes(facts, rows)
        with whole_file(path) as part:
            part.write_bytes(data)

    @staticmethod
    def from_prompts(
        model: Model,
        positive: Iterable[Prompt],
        negative: Iterable[Prompt],
        *,
        method: Literal["mean", "pca"] = "mean",
        normalize: bool = False,
        n_threads: int | None = None,
    ) -> ControlVector:
        """Compute the direction from what some prompts make of a model to what others do, at their last tokens.

        Parameters
        ----------
        model : Model
        positive, negative : iterable of str, bytes or iterable of int
            Pairs: texts or tokens that differ in nothing but what is to be steered.
        method : {"mean", "pca"}
            The mean of the differences, or what of it lies along their first principal component.
        normalize : bool
            Make each direction 1 long. As it is, a scale of 1 moves a layer as far as the prompts differ there.
        n_threads : int, optional
            As in :class:`Context`.

        Returns
        -------
        ControlVector

        Raises
        ------
        ValueError
            There are no pairs, or a different number on each side, or a pair does not differ.
        ContextError
            The model's layers are not to be seen.
        """
        if method not in {"pca", "mean"}:
            raise ValueError(f"method is {method!r}; expected mean or pca")
        vocab = model.vocab
        sides = [
            [prompt_tokens(vocab, prompt) if isinstance(prompt, (str, bytes)) else list(prompt) for prompt in side]
            for side in (each("positive", positive), each("negative", negative))
        ]
        if len(sides[0]) != len(sides[1]) or not sides[0]:
            raise ValueError(
                f"there are {len(sides[0])} positive and {len(sides[1])} negative prompts; pairs are expected"
            )
        first, second = (last_states(model, side, n_threads) for side in sides)
        differences = (first - second).astype(np.float64)
        for pair, difference in enumerate(differences):
            if not difference.any():
                raise ValueError(f"the prompts of pair {pair} do not differ")
        # One matrix of pairs for each layer.
        directions = np.stack([_direction(matrix, method) for matrix in differences.swapaxes(0, 1)])
        if normalize:
            directions /= np.maximum(np.linalg.norm(directions, axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return ControlVector(directions, model_hint=model.metadata["general.architecture"])


def _direction(differences: npt.NDArray[np.float64], method: str) -> npt.NDArray[np.float64]:
    mean: npt.NDArray[np.float64] = differences.mean(axis=0)
    if method == "mean":
        return mean
    component: npt.NDArray[np.float64] = np.linalg.svd(differences, full_matrices=False)[2][0]
    return component * (component @ mean)


def last_states(model: Model, prompts: list[list[Any]], n_threads: int | None) -> Array:
    """Return what layers 1 and up give at the last token of each prompt, of shape ``(prompts, layers, n_embd)``."""
    seen: dict[str, Array] = {}

    def note(tensor: Tensor) -> None:
        # All but the last piece of a long prompt leave the last layer without outputs.
        if len(tensor.data):
            seen[tensor.name] = np.asarray(tensor.data[-1], dtype=np.float32)

    names = [f"l_out-{layer}" for layer in range(1, model.n_layer)]
    longest = max(map(len, prompts))
    found = np.empty((len(prompts), len(names), model.n_embd), dtype=np.float32)
    params: dict[str, Any] = {} if n_threads is None else {"n_threads": n_threads}
    with model.context(n_ctx=max(1, longest), eval_callback=note, eval_filter=names, **params) as context:
        for row, tokens in zip(found, prompts, strict=True):
            context.memory.clear()
            context.decode(tokens)
            if len(seen) != len(names) or not names:
                raise ContextError(f"the layers of {model!r} are not to be seen: it has {len(seen)} of {names}")
            row[:] = [seen[name] for name in names]
    return found
