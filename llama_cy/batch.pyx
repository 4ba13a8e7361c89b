"""Tokens with their positions and sequences, for one decode."""

cimport cython
from libc.stdint cimport int8_t, int32_t
from libc.string cimport memcpy
from libcpp.vector cimport vector
from llama cimport import_llama_cy, llama_batch, llama_batch_free, llama_batch_init, llama_seq_id, llama_token

from llama_cy.lifetime cimport BATCH, born, died, enter_native, leave_native

from .batch_columns import columns
from .checks import INT32_MAX, each, integer
from .errors import ClosedError, ContextBusyError, InvalidBatchError

import_llama_cy()

LIMIT = 2**20

ctypedef llama_seq_id * llama_seq_id_ptr


@cython.final
cdef class Batch:
    """Room for tokens of one or many sequences. Wraps ``llama_batch_init``.

    Parameters
    ----------
    n_tokens_max : int
        Room for so many tokens, in ``[1, 2**20]``.
    n_seq_max : int
        A token may belong to so many sequences at once.

    Notes
    -----
    :attr:`token`, :attr:`pos`, :attr:`seq_id` and :attr:`logits` are the arrays that llama.cpp reads, as NumPy arrays
    over the tokens added so far. What is written to them is checked at the next decode. While one is in use,
    :meth:`close` raises BufferError.
    """

    def __cinit__(self, n_tokens_max, *, n_seq_max=1):
        self.n_tokens_max = integer("n_tokens_max", n_tokens_max, 1, LIMIT)
        self.n_seq_max = integer("n_seq_max", n_seq_max, 1, 256)
        if self.n_tokens_max * self.n_seq_max > 16 * LIMIT:
            raise ValueError(
                f"n_tokens_max * n_seq_max is {self.n_tokens_max * self.n_seq_max}, out of range [1, {16 * LIMIT}]"
            )
        enter_native()
        try:
            self.c = llama_batch_init(self.n_tokens_max, 0, self.n_seq_max)
        finally:
            leave_native()
        self.reset()
        born(BATCH, self.c.pos)

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
        cdef size_t i
        if self.c.token is not NULL:
            # C frees what it made.
            for i in range(self.own_seq_id.size()):
                self.c.seq_id[i] = self.own_seq_id[i]
            died(BATCH, self.c.pos)
            llama_batch_free(self.c)
            vector[llama_seq_id]().swap(self.seq_ids)
            vector[llama_seq_id]().swap(self.copied_seq_ids)
            vector[llama_seq_id_ptr]().swap(self.own_seq_id)
            self.c.token = NULL
            self.c.n_tokens = 0

    def __dealloc__(self):
        self.release()

    def close(self):
        """Free the arrays; may be called again. Wraps ``llama_batch_free``.

        Raises
        ------
        BufferError
            A view of them is still in use.
        """
        if self.c.token is not NULL:
            self.check()
            if self.exports:
                raise BufferError(f"cannot close the batch while {self.exports} views of its arrays are in use")
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
        for k in range(self.n_seq_max):
            self.c.seq_id[i][k] = -1
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

    @staticmethod
    def from_arrays(token, pos, seq_id=0, logits=False):
        """Make a batch of arrays, which are copied.

        Parameters
        ----------
        token, pos : array_like of int
            One-dimensional and of one length, which is the room of the batch too.
        seq_id : array_like of int
            The sequence of all tokens, of each one, or the sequences of each one in a row that -1 fills up.
        logits : array_like of bool
            Whether logits (or embeddings) are wanted, for all tokens or for each one.

        Returns
        -------
        Batch

        Raises
        ------
        ValueError
            The shapes do not fit together, or a value is out of range.
        """
        arrays = columns(token, pos, seq_id, logits)
        cdef Batch batch = Batch(len(arrays[0]), n_seq_max=arrays[2].shape[1])
        batch.put(arrays)
        return batch

    def extend(self, token, pos, seq_id=0, logits=False):
        """Append the tokens of arrays; parameters and errors as in :meth:`from_arrays`.

        Returns
        -------
        range
            Their indices in the batch.
        """
        arrays = columns(token, pos, seq_id, logits)
        cdef Py_ssize_t n = len(arrays[0])
        self.check()
        cdef Py_ssize_t first = self.c.n_tokens
        if first + n > self.n_tokens_max:
            raise ValueError(f"{n} more tokens do not fit: the batch has {first} and room for {self.n_tokens_max}")
        if arrays[2].shape[1] > self.n_seq_max:
            raise ValueError(f"seq_id has {arrays[2].shape[1]} sequences for a token; n_seq_max is {self.n_seq_max}")
        self.put(arrays)
        return range(first, first + n)

    cdef int put(self, tuple arrays) except -1:
        """Append checked arrays that fit."""
        cdef const int32_t[::1] token = arrays[0]
        cdef const int32_t[::1] pos = arrays[1]
        cdef const int32_t[:, ::1] seq_id = arrays[2]
        cdef const int8_t[::1] logits = arrays[3]
        cdef int32_t i, at
        cdef Py_ssize_t k
        for i in range(<int32_t> token.shape[0]):
            at = self.c.n_tokens + i
            self.c.token[at], self.c.pos[at], self.c.logits[at] = token[i], pos[i], logits[i]
            for k in range(self.n_seq_max):
                self.c.seq_id[at][k] = seq_id[i, k] if k < seq_id.shape[1] else -1
        self.c.n_tokens += <int32_t> token.shape[0]
        self.touched = True
        return 0

    cdef int gather(self) except -1:
        """Bring the sequences of all tokens, which C keeps one by one, into one block, so that they are an array."""
        cdef int32_t i, k
        if self.own_seq_id.empty():
            self.seq_ids.resize(self.n_tokens_max * self.n_seq_max)
            self.own_seq_id.assign(self.c.seq_id, self.c.seq_id + self.n_tokens_max)
            for i in range(self.n_tokens_max):
                for k in range(self.n_seq_max):
                    self.seq_ids[i * self.n_seq_max + k] = self.own_seq_id[i][k] if i < self.c.n_tokens else -1
                self.c.seq_id[i] = &self.seq_ids[i * self.n_seq_max]
        return 0

    @property
    def token(self):
        """The tokens, int32 of shape ``(len(batch),)``, writable and not copied."""
        from .batch_arrays import view

        return view(self, "token")

    @property
    def pos(self):
        """Their positions, int32 of shape ``(len(batch),)``, writable and not copied."""
        from .batch_arrays import view

        return view(self, "pos")

    @property
    def seq_id(self):
        """Their sequences, int32 of shape ``(len(batch), n_seq_max)``, writable and not copied.

        A row lists the sequences of a token; -1 fills it up.
        """
        from .batch_arrays import view

        return view(self, "seq_id")

    @property
    def logits(self):
        """Whether their logits are wanted, bool of shape ``(len(batch),)``, writable and not copied."""
        from .batch_arrays import view

        return view(self, "logits")

    cdef int prepare(self) except -1:
        """Set `work` to what C may read: no other thread writes to it, and each value is in range."""
        cdef int32_t i
        self.work = self.c
        if self.exports:
            # Whoever holds a view may write to it while C computes.
            self.copied_token.assign(self.c.token, self.c.token + self.c.n_tokens)
            self.copied_pos.assign(self.c.pos, self.c.pos + self.c.n_tokens)
            self.copied_logits.assign(self.c.logits, self.c.logits + self.c.n_tokens)
            self.copied_seq_ids.resize(self.c.n_tokens * self.n_seq_max)
            self.copied_seq_id.resize(self.c.n_tokens)
            for i in range(self.c.n_tokens):
                self.copied_seq_id[i] = &self.copied_seq_ids[i * self.n_seq_max]
                memcpy(self.copied_seq_id[i], self.c.seq_id[i], self.n_seq_max * sizeof(llama_seq_id))
            self.work.token, self.work.pos = self.copied_token.data(), self.copied_pos.data()
            self.work.logits, self.work.seq_id = self.copied_logits.data(), self.copied_seq_id.data()
        if self.touched:
            self.survey()
            self.touched = self.exports > 0
        return 0

    cdef int survey(self) except -1:
        """Check every value of `work`, and count what the checks before a decode ask for."""
        cdef int32_t i, j, k
        cdef llama_batch c = self.work
        self.forget()
        for i in range(c.n_tokens):
            if c.token[i] < 0:
                raise InvalidBatchError(f"token[{i}] is {c.token[i]}, which is out of range [0, {INT32_MAX}]")
            if c.pos[i] < 0:
                raise InvalidBatchError(f"pos[{i}] is {c.pos[i]}, which is out of range [0, {INT32_MAX}]")
            k = 0
            while k < self.n_seq_max and c.seq_id[i][k] >= 0:
                if c.seq_id[i][k] > 255:
                    raise InvalidBatchError(f"seq_id[{i}, {k}] is {c.seq_id[i][k]}, which is out of range [0, 255]")
                for j in range(k):
                    if c.seq_id[i][j] == c.seq_id[i][k]:
                        raise InvalidBatchError(f"seq_id[{i}] names sequence {c.seq_id[i][k]} twice")
                k += 1
            if k == 0:
                raise InvalidBatchError(f"seq_id[{i}] names no sequence: its first is {c.seq_id[i][0]}")
            for j in range(k, self.n_seq_max):
                if c.seq_id[i][j] != -1:
                    raise InvalidBatchError(f"seq_id[{i}, {j}] is {c.seq_id[i][j]} behind the end; -1 is expected")
            c.n_seq_id[i] = k
            c.logits[i] = c.logits[i] != 0
            self.highest_token = max(self.highest_token, c.token[i])
            self.highest_pos = max(self.highest_pos, c.pos[i])
            self.n_outputs += c.logits[i]
            self.most_seq_ids = max(self.most_seq_ids, k)
        return 0

    def clear(self):
        """Forget all tokens; the room stays."""
        self.check()
        self.reset()

    cdef void reset(self) noexcept:
        self.c.n_tokens = 0
        self.touched = False
        self.forget()

    cdef void forget(self) noexcept:
        self.n_outputs = self.most_seq_ids = 0
        self.highest_token = self.highest_pos = -1
