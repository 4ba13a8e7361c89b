"""Texts as vectors: many of them in one decode, and the same ones as one by one."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from .batch import Batch
from .checks import INT32_MAX, each, integer
from .context import Context
from .enums import PoolingType
from .errors import ContextError
from .model import Model
from .vocab import Vocab

if TYPE_CHECKING:
    from typing_extensions import Self

Text = str | bytes
Tokens = Sequence[int] | npt.NDArray[np.integer[Any]]
Norm = bool | Literal["l2", "none"] | None

# Tokens in one decode, unless an input is longer; more hardly makes a CPU faster.
N_BATCH = 512
N_SEQ_MAX = 16


def collect(vocab: Vocab, value: Text | Iterable[int]) -> list[int]:
    """Return the tokens of a text, with those that begin and end one, or the ids as they are."""
    if isinstance(value, (str, bytes)):
        return vocab.tokenize(value)
    return [integer("token", token, 0, vocab.n_tokens - 1) for token in each("input", value, "text or tokens")]


def is_one(inputs: Any) -> bool:
    """Tell one text, or the tokens of one, from a list of those."""
    if isinstance(inputs, (str, bytes)):
        return True
    if isinstance(inputs, np.ndarray):
        return inputs.ndim == 1 and inputs.dtype.kind in "iu"
    try:
        operator.index(inputs[0])
    except (TypeError, IndexError, KeyError):
        return False
    return True


def cut(vocab: Vocab, tokens: list[int], limit: int, truncate: bool, what: str) -> list[int]:
    """Shorten tokens to `limit` if wanted, keeping the token that ends a text; refuse them otherwise."""
    if not tokens:
        raise ValueError(f"{what} has no tokens, so there is nothing to compute")
    if len(tokens) <= limit:
        return tokens
    if not truncate:
        raise ValueError(
            f"{what} has {len(tokens)} tokens, out of range [1, {limit}]; truncate=True drops what is too much"
        )
    ends = [tokens[-1]] if tokens[-1] in (vocab.sep, vocab.eos) else []
    return tokens[: limit - len(ends)] + ends


def normalized(vectors: npt.NDArray[np.float32], normalize: Norm) -> npt.NDArray[np.float32]:
    """Return the vectors with length 1; one of zeros stays."""
    if normalize in (None, False, "none"):
        return vectors
    if normalize not in (True, "l2"):
        raise ValueError(f"normalize is {normalize!r}; expected True, 'l2', False, 'none' or None")
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, np.where(lengths == 0, 1, lengths), dtype=np.float32)


def check_weights(model: Model) -> None:
    """Refuse a vocabulary alone before its context length, which is 0, is blamed."""
    if model.vocab_only:
        raise ContextError("a model loaded with vocab_only has no weights to compute with")


class Pool:
    """A context that computes many short sequences at a time, and forgets them.

    Used by one thread at a time; others wait. `n_ctx` and `n_seq_max` are those of :class:`Embedder`.
    """

    def __init__(self, model: Model, n_ctx: int | None, n_seq_max: int | None, params: dict[str, Any]) -> None:
        check_weights(model)
        longest = min(model.n_ctx_train, 2048) if n_ctx is None else integer("n_ctx", n_ctx, 1, INT32_MAX)
        n_seq_max = N_SEQ_MAX if n_seq_max is None else integer("n_seq_max", n_seq_max, 1, 256)
        n_batch = integer("n_batch", params.pop("n_batch", max(longest, N_BATCH)), longest, INT32_MAX)
        # llama.cpp shares a micro-batch out evenly when it plans its memory.
        n_batch = -(-n_batch // n_seq_max) * n_seq_max
        sizes = {"n_ctx": n_batch, "n_batch": n_batch, "n_ubatch": n_batch, "n_seq_max": n_seq_max}
        self.model = model
        self.n_ctx = longest
        # With separate memories, sequences of unequal length would be pooled over a part only.
        self.context: Context = model.context(**(sizes | {"kv_unified": True, "embeddings": True} | params))
        self.batch = Batch(n_batch)
        self.lock = threading.Lock()
        self.maker = os.getpid()
        self.compute = self.context.encode if model.has_encoder else self.context.decode
        try:
            self.context.memory.clear()
            self.remembers = True
        except ContextError:
            self.remembers = False

    def rows(self, sequences: list[list[int]]) -> Iterator[npt.NDArray[np.float32]]:
        """Yield the pooled embedding of each sequence, or those of its tokens if there is no pooling."""
        self.check_fork()
        with self.lock:
            first = 0
            while first < len(sequences):
                self.batch.clear()
                last = self.fill(sequences, first)
                if self.remembers:
                    self.context.memory.clear(data=False)
                self.compute(self.batch)
                if self.context.pooling_type is PoolingType.NONE:
                    lengths = [len(tokens) for tokens in sequences[first:last]]
                    yield from np.split(self.context.embeddings_all(), np.cumsum(lengths)[:-1])
                else:
                    for seq_id in range(last - first):
                        yield self.context.embeddings_seq(seq_id)
                first = last

    def fill(self, sequences: list[list[int]], first: int) -> int:
        """Put as many sequences as fit into the batch; return the index behind the last."""
        room, last = self.batch.n_tokens_max, first
        while last < len(sequences) and last - first < self.context.n_seq_max and len(sequences[last]) <= room:
            for pos, token in enumerate(sequences[last]):
                self.batch.add(token, pos, (last - first,), logits=True)
            room -= len(sequences[last])
            last += 1
        return last

    def check_fork(self) -> None:
        """Refuse to wait, in a forked child, for a thread that is not there."""
        if self.maker != os.getpid():
            raise ContextError("the context was made before this process was forked; make one here")

    def close(self) -> None:
        """Free the context and the batch; may be called again."""
        if self.maker != os.getpid():
            # In a forked child both may be in use forever; the batch goes with the last reference.
            self.context.close()
            return
        with self.lock:
            self.context.close()
            self.batch.close()


class Embedder:
    """A model kept ready for turning texts into vectors.

    Parameters
    ----------
    model : Model
    pooling_type : PoolingType or str, optional
        How a text's tokens become one vector: ``"mean"``, ``"cls"`` (the first token's), ``"last"``, or ``"none"`` for
        a vector to each token. By default as the model says, and the mean where it says nothing.
    n_ctx : int, optional
        Tokens in an input at most; by default what the model was trained with, up to 2048.
    n_seq_max : int, optional
        Inputs that are computed at once at most, 16 by default.
    **params
        Further parameters of its :class:`Context`, as in ``n_threads=4``; `n_batch` is the tokens computed at once.

    Attributes
    ----------
    model : Model
    n_ctx : int
        Tokens in an input at most.

    Raises
    ------
    ContextError
        The model has no such pooling, or there is no memory for the context.

    Notes
    -----
    Threads may share it; they take turns.
    """

    def __init__(
        self,
        model: Model,
        *,
        pooling_type: PoolingType | str | None = None,
        n_ctx: int | None = None,
        n_seq_max: int | None = None,
        **params: Any,
    ) -> None:
        if pooling_type is None:
            own = model.metadata.get(f"{model.metadata.get('general.architecture')}.pooling_type")
            # A reranker's head gives scores; what it scores is the first token's vector.
            pooling_type = {None: "mean", "0": "mean", "4": "cls"}.get(own, PoolingType.UNSPECIFIED)
        self.pool = Pool(model, n_ctx, n_seq_max, params | {"pooling_type": pooling_type})
        self.model = model
        self.n_ctx = self.pool.n_ctx
        if self.pooling_type is PoolingType.RANK:
            self.close()
            raise ContextError("pooling_type 'rank' gives scores and no vectors: use rerank()")

    def embed(self, inputs: Any, *, normalize: Norm = True, truncate: bool = False) -> Any:
        """Turn texts into vectors.

        Parameters
        ----------
        inputs : str, bytes, tokens, or a list of those
            Tokens are taken as they are; a text gets those that the model begins and ends texts with.
        normalize : bool, "l2", "none" or None
            Whether to give each vector the length 1.
        truncate : bool
            Whether to drop what is too much of an input, rather than raise.

        Returns
        -------
        numpy.ndarray or list
            float32, shape ``(len(inputs), model.n_embd_out)``, or ``(model.n_embd_out,)`` of one input. With pooling
            ``"none"`` a list of arrays ``(tokens, model.n_embd_out)``, or one such array.

        Raises
        ------
        ValueError
            An input has no tokens, or more than `n_ctx` and `truncate` is False.
        """
        normalized(np.zeros((1, 1), np.float32), normalize)
        one = is_one(inputs)
        vocab = self.model.vocab
        sequences = [
            cut(vocab, collect(vocab, value), self.n_ctx, truncate, "the input" if one else f"input {i}")
            for i, value in enumerate([inputs] if one else each("inputs", inputs, "a text, tokens or a list of those"))
        ]
        rows = [normalized(row, normalize) for row in self.pool.rows(sequences)]
        if one:
            return rows[0]
        if self.pooling_type is PoolingType.NONE:
            return rows
        return np.array(rows, np.float32).reshape(len(rows), self.model.n_embd_out)

    @property
    def pooling_type(self) -> PoolingType:
        """How a text's tokens become one vector, a :class:`PoolingType`."""
        return self.pool.context.pooling_type

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` was called."""
        return self.pool.context.closed

    def close(self) -> None:
        """Free its context; may be called again."""
        self.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __bool__(self) -> bool:
        return not self.closed

    def __repr__(self) -> str:
        if self.closed:
            return "<Embedder, closed>"
        return f"<Embedder of {self.model!r}, pooling {self.pooling_type.name.lower()}>"


def embed(model: Model, inputs: Any, normalize: Norm, truncate: bool, params: dict[str, Any]) -> Any:
    """Make an :class:`Embedder` as large as these inputs need, and use it once."""
    one = is_one(inputs)
    vocab = model.vocab
    check_weights(model)
    values = [inputs] if one else each("inputs", inputs, "a text, tokens or a list of those")
    sequences = [collect(vocab, value) for value in values]
    limit = integer("n_ctx", params.pop("n_ctx", model.n_ctx_train), 1, INT32_MAX)
    longest = min(max(map(len, sequences), default=1), limit)
    n_seq_max = params.pop("n_seq_max", max(1, min(N_SEQ_MAX, len(sequences))))
    params.setdefault("n_batch", max(longest, min(N_BATCH, sum(map(len, sequences)))))
    options = {"n_ctx": max(1, longest), "n_seq_max": n_seq_max} | params
    with Embedder(model, **options) as embedder:
        return embedder.embed(sequences[0] if one else sequences, normalize=normalize, truncate=truncate)
