"""Tokens with their positions and sequences, for one decode."""

cimport cython
from libc.stdint cimport int32_t
from llama cimport import_llama_cy, llama_batch_free, llama_batch_init, llama_token

from llama_cy.lifetime cimport BATCH, born, died

from .checks import INT32_MAX, each, integer
from .errors import ClosedError, ContextBusyError

import_llama_cy()

LIMIT = 2**20


@cython.final
cdef class Batch:
    """Room for tokens of one or many sequences. Wraps ``llama_batch_init``.

    Parameters
    ----------
    n_tokens_max : int
        Room for so many tokens, in ``[1, 2**20]``.
    n_seq_max : int
        A token may belong to so many sequences at once.
    """

    def __cinit__(self, n_tokens_max, *, n_seq_max=1):
        self.n_tokens_max = integer("n_tokens_max", n_tokens_max, 1, LIMIT)
        self.n_seq_max = integer("n_seq_max", n_seq_max, 1, 256)
        if self.n_tokens_max * self.n_seq_max > 16 * LIMIT:
            raise ValueError(
                f"n_tokens_max * n_seq_max is {self.n_tokens_max * self.n_seq_max}, out of range [1, {16 * LIMIT}]"
            )
        self.c = llama_batch_init(self.n_tokens_max, 0, self.n_seq_max)
        self.reset()
        born(BATCH)

    cdef int check(self) except -1:
        if self.c.token is NULL:
            raise ClosedError("the batch is closed")
        if self.busy:
            raise ContextBusyError("the batch is being decoded by another thread")
        return 0

    cdef int enter(self) except -1:
        self.check()
        self.busy = True
        return 0

    cdef void leave(self) noexcept:
        self.busy = False

    cdef void release(self) noexcept:
        if self.c.token is not NULL:
            llama_batch_free(self.c)
            self.c.token = NULL
            self.c.n_tokens = 0
            died(BATCH)

    def __dealloc__(self):
        self.release()

    def close(self):
        """Free the arrays; may be called again. Wraps ``llama_batch_free``."""
        if self.c.token is not NULL:
            self.check()
        self.release()

    @property
    def closed(self):
        """Whether :meth:`close` was called."""
        return self.c.token is NULL

    def __bool__(self):
        return self.c.token is not NULL

    def __repr__(self):
        if not self:
            return "<Batch, closed>"
        return f"<Batch of {self.c.n_tokens} tokens, room for {self.n_tokens_max}>"

    def __len__(self):
        self.check()
        return self.c.n_tokens

    def add(self, token, pos, seq_ids=(0,), *, bint logits=False):
        """Append a token.

        Parameters
        ----------
        token : int
            Checked against the vocabulary when the batch is decoded.
        pos : int
            Its position in its sequences.
        seq_ids : iterable of int
            The sequences it belongs to; between 1 and `n_seq_max` different ones.
        logits : bool
            Whether logits (or embeddings) are wanted for it.

        Returns
        -------
        int
            Its index in the batch.

        Raises
        ------
        ValueError
            The batch is full, or a value is out of range.
        """
        self.check()
        cdef llama_token c_token = integer("token", token, 0, INT32_MAX)
        cdef int32_t c_pos = integer("pos", pos, 0, INT32_MAX)
        cdef int32_t k, seq_id
        ids = [integer("seq_id", value, 0, 255) for value in each("seq_ids", seq_ids)]
        if not 1 <= len(ids) <= self.n_seq_max:
            raise ValueError(f"seq_ids has {len(ids)} sequences, which is out of range [1, {self.n_seq_max}]")
        if len(set(ids)) != len(ids):
            raise ValueError(f"seq_ids {ids} names a sequence twice")
        # Again, because the arguments may be objects whose code, or whose thread switch, closed or filled the batch.
        self.check()
        cdef int32_t i = self.c.n_tokens
        if i >= self.n_tokens_max:
            raise ValueError(f"the batch is full: it has room for {self.n_tokens_max} tokens")
        for k, seq_id in enumerate(ids):
            self.c.seq_id[i][k] = seq_id
        self.c.token[i] = c_token
        self.c.pos[i] = c_pos
        self.c.n_seq_id[i] = <int32_t> len(ids)
        self.c.logits[i] = logits
        self.c.n_tokens = i + 1
        self.highest_token = max(self.highest_token, c_token)
        self.highest_pos = max(self.highest_pos, c_pos)
        self.n_outputs += logits
        self.most_seq_ids = max(self.most_seq_ids, <int> len(ids))
        return i

    def clear(self):
        """Forget all tokens; the room stays."""
        self.check()
        self.reset()

    cdef void reset(self) noexcept:
        self.c.n_tokens = 0
        self.n_outputs = self.most_seq_ids = 0
        self.highest_token = self.highest_pos = -1
