"""Documents in the order in which they answer a query, by a model with a rank head."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .checks import INT32_MAX, each, integer
from .embedding import N_BATCH, N_SEQ_MAX, Pool, Text, check_weights
from .errors import ContextError
from .model import Model
from .tensor import Tensor
from .vocab import Vocab

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True, eq=False)
class Ranking:
    """What a rank head says of documents.

    Attributes
    ----------
    outputs : numpy.ndarray
        float32, shape ``(documents, outputs of the head)``.
    labels : tuple of (str or None)
        Names of the head's outputs.
    """

    outputs: npt.NDArray[np.float32]
    labels: tuple[str | None, ...]

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """The head's first output of each document; the higher, the better it answers."""
        return self.outputs[:, 0]

    @property
    def order(self) -> list[int]:
        """Indices of the documents, the best first; of equals the earlier."""
        return [int(i) for i in np.argsort(-self.scores, kind="stable")]

    def __len__(self) -> int:
        return len(self.outputs)


def _text(name: str, value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str or bytes, not {type(value).__name__}")
    return value


def plain(vocab: Vocab, text: str) -> list[int]:
    """Return the tokens of a text from outside: what looks like a special token is text."""
    return vocab.tokenize(text, add_special=False)


def pair(vocab: Vocab, query: str, document: str) -> tuple[list[int], list[int], list[int]]:
    """Return the tokens before, of and behind a document, as a model without a template was trained to see them."""
    end = vocab.eos if vocab.eos is not None else vocab.sep
    # Some say [CLS] query [SEP] document [SEP], others <s> query </s></s> document </s>.
    ends = [end] if vocab.add_eos and end is not None else []
    between = [*ends, vocab.sep] if vocab.add_sep and vocab.sep is not None else ends
    before = [vocab.bos] if vocab.add_bos and vocab.bos is not None else []
    return [*before, *plain(vocab, query), *between], plain(vocab, document), ends or between


def filled(vocab: Vocab, template: str, query: str, document: str) -> tuple[list[int], list[int], list[int]]:
    """Return the same of a template: what the texts spell out never becomes a special token."""
    head, mark, tail = template.partition("{document}")
    if not mark or "{document}" in tail or "{query}" in tail:
        raise ContextError(f"the model's rerank template is not understood: {template!r}")
    before: list[int] = []
    for i, part in enumerate(head.split("{query}")):
        before += plain(vocab, query) if i else []
        before += vocab.tokenize(part, add_special=False, parse_special=True)
    return before, plain(vocab, document), vocab.tokenize(tail, add_special=False, parse_special=True)


def whole(vocab: Vocab, template: str, query: str, document: str) -> list[int] | None:
    """Return the tokens of a filled-in template, or None where a text spells out a special token."""
    for text in (query, document):
        if vocab.tokenize(text, add_special=False, parse_special=True) != plain(vocab, text):
            return None
    parts = [part.replace("{query}", query) for part in template.split("{document}")]
    return vocab.tokenize(document.join(parts), add_special=False, parse_special=True)


def sequences(model: Model, query: Any, documents: Iterable[Any], limit: int, truncate: bool) -> list[list[int]]:
    """Return the tokens of the query with each document, `limit` at most."""
    vocab, template = model.vocab, model.chat_template("rerank")
    query = _text("query", query)
    found = []
    for i, document in enumerate(each("documents", documents)):
        text = _text(f"document {i}", document)
        tokens = None if template is None else whole(vocab, template, query, text)
        if tokens is None or len(tokens) > limit:
            before, middle, behind = (
                pair(vocab, query, text) if template is None else filled(vocab, template, query, text)
            )
            room = limit - len(before) - len(behind)
            if room < 1 or (len(middle) > room and not truncate):
                raise ValueError(
                    f"the query with document {i} has {len(before) + len(middle) + len(behind)} tokens, out of range "
                    f"[1, {limit}]" + ("" if room < 1 else "; truncate=True drops what is too much")
                )
            tokens = before + middle[:room] + behind
        found.append(tokens)
    return found


class Reranker:
    """A model with a rank head, kept ready.

    Parameters
    ----------
    model : Model
    n_ctx : int, optional
        Tokens of a query with a document at most; by default what the model was trained with, up to 2048.
    n_seq_max : int, optional
        Documents that are computed at once at most, 16 by default.
    **params
        Further parameters of its :class:`Context`, as in ``n_threads=4``.

    Attributes
    ----------
    model : Model
    n_ctx : int
        Tokens of a query with a document at most.

    Raises
    ------
    ContextError
        At the first use: the model has no rank head.
    """

    def __init__(self, model: Model, *, n_ctx: int | None = None, n_seq_max: int | None = None, **params: Any) -> None:
        self.n_outputs = len(model.cls_labels)
        # Without a head llama.cpp would read another sequence's hidden state for a score.
        looking = {"eval_callback": self._check_head, "eval_filter": "result_embd_pooled"}
        self.pool = Pool(model, n_ctx, n_seq_max, params | {"pooling_type": "rank"} | looking)
        self.model = model
        self.n_ctx = self.pool.n_ctx

    def _check_head(self, tensor: Tensor) -> None:
        if tensor.shape[-1] != self.n_outputs:
            raise ContextError(
                f"the model has no rank head: it gives {tensor.shape[-1]} numbers and should give {self.n_outputs}"
            )

    def rerank(self, query: Text, documents: Iterable[Text], *, truncate: bool = False) -> Ranking:
        """Score documents by how well they answer a query.

        Parameters
        ----------
        query : str or bytes
        documents : iterable of str or bytes
        truncate : bool
            Whether to drop the end of a document that is too long, rather than raise.

        Returns
        -------
        Ranking

        Raises
        ------
        ValueError
            The query with a document has more than `n_ctx` tokens and `truncate` is False, or the query alone has.
        ContextError
            The model has no rank head.
        """
        return self._score(sequences(self.model, query, documents, self.n_ctx, truncate))

    def _score(self, tokens: list[list[int]]) -> Ranking:
        outputs = np.array(list(self.pool.rows(tokens)), np.float32).reshape(len(tokens), self.n_outputs)
        return Ranking(outputs, self.model.cls_labels)

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
        return "<Reranker, closed>" if self.closed else f"<Reranker of {self.model!r}>"


def rerank(model: Model, query: Text, documents: Iterable[Text], truncate: bool, params: Any) -> Ranking:
    """Make a :class:`Reranker` as large as these documents need, and use it once."""
    check_weights(model)
    limit = integer("n_ctx", params.pop("n_ctx", model.n_ctx_train), 1, INT32_MAX)
    tokens = sequences(model, query, documents, limit, truncate)
    params.setdefault("n_seq_max", max(1, min(N_SEQ_MAX, len(tokens))))
    longest = max(map(len, tokens), default=1)
    params.setdefault("n_batch", max(longest, min(N_BATCH, sum(map(len, tokens)))))
    with Reranker(model, n_ctx=longest, **params) as reranker:
        return reranker._score(tokens)
