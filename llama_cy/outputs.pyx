"""The giving half of a context: logits, embeddings, and whether there are any."""

cimport cython
from libc.stdint cimport int32_t
from libc.string cimport memcpy
from llama cimport (
    LLAMA_POOLING_TYPE_LAST,
    LLAMA_POOLING_TYPE_NONE,
    LLAMA_POOLING_TYPE_RANK,
    import_llama_cy,
    llama_get_causal_attn,
    llama_get_embeddings,
    llama_get_embeddings_ith,
    llama_get_embeddings_seq,
    llama_get_logits,
    llama_get_logits_ith,
    llama_get_sampled_candidates_count_ith,
    llama_get_sampled_candidates_ith,
    llama_get_sampled_logits_count_ith,
    llama_get_sampled_logits_ith,
    llama_get_sampled_probs_count_ith,
    llama_get_sampled_probs_ith,
    llama_get_sampled_token_ith,
    llama_model_n_cls_out,
    llama_model_n_embd_out,
    llama_pooling_type,
    llama_set_causal_attn,
    llama_set_embeddings,
)

from llama_cy.prefix cimport PrefixKeeper

import numpy as np

from . import log
from .checks import INT32_MAX, flag, integer
from .errors import ContextError

import_llama_cy()


cdef object copied(const float * values, Py_ssize_t n):
    array = np.empty(n, dtype=np.float32)
    cdef float[::1] target = array
    if n:
        memcpy(&target[0], values, n * sizeof(float))
    return array


@cython.no_gc_clear
cdef class Outputs(PrefixKeeper):
    """What a :class:`Context` gives of its computations."""

    cdef int check_fresh(self) except -1:
        if self.stale:
            raise ValueError("the outputs are those of before the restore; decode something first")
        return 0

    cdef int check_logits(self) except -1:
        self.check_fresh()
        if self.n_rows and not self.gave_logits:
            # llama.cpp would hand out the memory where they would be.
            raise ValueError("there are no logits: what ran last was an encoder")
        return 0

    cdef int check_embeddings(self, bint pooled) except -1:
        self.check_fresh()
        if pooled and llama_pooling_type(self.ptr) == LLAMA_POOLING_TYPE_NONE:
            raise ValueError("there is no pooling in this context; pass pooling_type, or use embeddings()")
        if self.n_rows and not self.gave_embeddings:
            raise ValueError("there are no embeddings: pass embeddings=True to the context, or call set_embeddings()")
        if not pooled and llama_pooling_type(self.ptr) != LLAMA_POOLING_TYPE_NONE:
            raise ValueError("the embeddings of this context are pooled, so no row has one; use embeddings_seq()")
        return 0

    cdef int embed(self, bint value) except -1:
        self.embedding = value
        # Only the last token's embedding survives a split into micro-batches.
        self.pooled = value and llama_pooling_type(self.ptr) not in (LLAMA_POOLING_TYPE_NONE, LLAMA_POOLING_TYPE_LAST)
        return 0

    cdef const float * row(self, int32_t i) except NULL:
        cdef const float * values = NULL
        self.check_logits()
        if self.attached and self.sampled_rows(i):
            # What is in memory there is of another decode.
            raise ValueError(f"row {i} was sampled on the backend, which gives sampled_logits() instead")
        # From behind, llama.cpp would count rows that a failed decode never filled.
        if self.shown is not NULL:
            if i in (0, -1):
                values = self.shown
        elif self.n_rows:
            with nogil:
                values = llama_get_logits_ith(self.ptr, i)
        if values is NULL:
            log.flush()
            raise ValueError(f"row {i} has no logits: it was not decoded last, or logits were not asked for it")
        return values

    def logits(self, i=-1):
        """Copy the logits of one row of the last decode. Wraps ``llama_get_logits_ith``.

        Parameters
        ----------
        i : int
            Index in the batch; negative counts back from the last row that has logits.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(n_vocab,)``.

        Raises
        ------
        ValueError
            The row has no logits.
        """
        self.enter()
        try:
            return copied(self.row(integer("i", i, -INT32_MAX, INT32_MAX)), self.n_vocab)
        finally:
            self.leave()

    def logits_view(self, i=-1):
        """Show the logits of one row without copying them; parameters as in :meth:`logits`.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(n_vocab,)``, read-only. While it lives, decode() and close() raise BufferError.
        """
        from .rows import view

        return view(self, integer("i", i, -INT32_MAX, INT32_MAX))

    def logits_all(self):
        """Copy the logits of all rows that have some, in the order of the batch. Wraps ``llama_get_logits``.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(rows, n_vocab)``; of a plain list of tokens that is one row, the last token's.
        """
        cdef const float * values = NULL
        self.enter()
        try:
            self.check_logits()
            if self.attached:
                raise ValueError("a chain samples on the backend: ask for logits() or sampled_logits() row by row")
            if self.shown is not NULL:
                values = self.shown
            elif self.n_rows:
                with nogil:
                    values = llama_get_logits(self.ptr)
            return copied(values, <Py_ssize_t> self.n_rows * self.n_vocab).reshape(self.n_rows, self.n_vocab)
        finally:
            self.leave()

    cdef bint sampled_rows(self, int32_t i) except -1:
        """Whether a row of the last decode was sampled on the backend."""
        cdef bint sampled = False
        self.check_fresh()
        if self.n_rows and self.attached:
            with nogil:
                sampled = llama_get_sampled_token_ith(self.ptr, i) >= 0 or (
                    llama_get_sampled_logits_ith(self.ptr, i) is not NULL)
        log.flush()
        return sampled

    def sampled_token(self, i=-1):
        """Return the token that the backend sampled for a row. Wraps ``llama_get_sampled_token_ith``.

        Parameters
        ----------
        i : int
            Index in the batch; negative counts back from the last row.

        Returns
        -------
        int or None
            None where :meth:`set_sampler` gave the row's sequence no chain, or one that selects on the CPU.
        """
        cdef int32_t row = integer("i", i, -INT32_MAX, INT32_MAX)
        self.enter()
        try:
            return llama_get_sampled_token_ith(self.ptr, row) if self.sampled_rows(row) and (
                llama_get_sampled_token_ith(self.ptr, row) >= 0) else None
        finally:
            self.leave()

    def sampled_probs(self, i=-1):
        """Copy the probabilities that the backend drew from. Wraps ``llama_get_sampled_probs_ith``.

        Wraps ``llama_get_sampled_probs_count_ith``. They are for :meth:`sampled_candidates`; parameters as in
        :meth:`sampled_token`.

        Returns
        -------
        numpy.ndarray or None
            float32; None where there are none.
        """
        cdef int32_t row = integer("i", i, -INT32_MAX, INT32_MAX)
        cdef int n
        self.enter()
        try:
            n = llama_get_sampled_probs_count_ith(self.ptr, row) if self.sampled_rows(row) else 0
            return copied(llama_get_sampled_probs_ith(self.ptr, row), n) if n else None
        finally:
            self.leave()

    def sampled_logits(self, i=-1):
        """Copy the logits that the backend's samplers left. Wraps ``llama_get_sampled_logits_ith``.

        Wraps ``llama_get_sampled_logits_count_ith``. They are for :meth:`sampled_candidates`; parameters as in
        :meth:`sampled_token`.

        Returns
        -------
        numpy.ndarray or None
            float32; None where there are none.
        """
        cdef int32_t row = integer("i", i, -INT32_MAX, INT32_MAX)
        cdef int n
        self.enter()
        try:
            n = llama_get_sampled_logits_count_ith(self.ptr, row) if self.sampled_rows(row) else 0
            return copied(llama_get_sampled_logits_ith(self.ptr, row), n) if n else None
        finally:
            self.leave()

    def sampled_candidates(self, i=-1):
        """Copy the tokens that the backend chose among. Wraps ``llama_get_sampled_candidates_ith``.

        All of them where nothing was cut; parameters as in :meth:`sampled_token`. Wraps
        ``llama_get_sampled_candidates_count_ith``.

        Returns
        -------
        numpy.ndarray or None
            int32; None where the row was not sampled on the backend.
        """
        cdef int32_t row = integer("i", i, -INT32_MAX, INT32_MAX)
        cdef int n
        cdef int32_t[::1] target
        self.enter()
        try:
            if not self.sampled_rows(row):
                return None
            n = llama_get_sampled_candidates_count_ith(self.ptr, row) or self.n_vocab
            array = np.empty(n, dtype=np.int32)
            target = array
            memcpy(&target[0], llama_get_sampled_candidates_ith(self.ptr, row), n * sizeof(int32_t))
            return array
        finally:
            self.leave()

    def embeddings(self, i=-1):
        """Copy the embedding of one row. Wraps ``llama_get_embeddings_ith``.

        Parameters
        ----------
        i : int
            Index in the batch; negative counts back from the last row.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(model.n_embd_out,)``.

        Raises
        ------
        ValueError
            The row has no embedding, or the context pools them.
        """
        cdef int32_t index = integer("i", i, -INT32_MAX, INT32_MAX)
        cdef const float * values = NULL
        self.enter()
        try:
            self.check_embeddings(False)
            if self.n_rows:
                with nogil:
                    values = llama_get_embeddings_ith(self.ptr, index)
            if values is NULL:
                log.flush()
                raise ValueError(f"row {index} has no embedding: it was not computed last")
            return copied(values, llama_model_n_embd_out(self.handle.ptr))
        finally:
            self.leave()

    def embeddings_all(self):
        """Copy the embeddings of all rows, in the order of the batch. Wraps ``llama_get_embeddings``.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(rows, model.n_embd_out)``. Plain tokens are decoded `n_ubatch` at a time, and these are
            the rows of the last piece.

        Raises
        ------
        ValueError
            The context was not asked for embeddings, or it pools them.
        """
        cdef const float * values = NULL
        cdef int width
        self.enter()
        try:
            width = llama_model_n_embd_out(self.handle.ptr)
            self.check_embeddings(False)
            if self.n_rows:
                with nogil:
                    values = llama_get_embeddings(self.ptr)
            return copied(values, <Py_ssize_t> self.n_rows * width).reshape(self.n_rows, width)
        finally:
            self.leave()

    def embeddings_seq(self, seq_id=0):
        """Copy the pooled embedding of a sequence. Wraps ``llama_get_embeddings_seq``.

        Parameters
        ----------
        seq_id : int
            A sequence of the last computation.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(model.n_embd_out,)``; with pooling_type "rank" one score for each classifier output.

        Raises
        ------
        ValueError
            The sequence was not computed last, or the context does not pool.
        """
        cdef int c_seq = self.check_seq(seq_id, 0)
        cdef const float * values = NULL
        self.enter()
        try:
            self.check_embeddings(True)
            if self.n_rows:
                with nogil:
                    values = llama_get_embeddings_seq(self.ptr, c_seq)
            if values is NULL:
                raise ValueError(f"sequence {c_seq} has no embedding from the last decode")
            if llama_pooling_type(self.ptr) == LLAMA_POOLING_TYPE_RANK:
                return copied(values, llama_model_n_cls_out(self.handle.ptr))
            return copied(values, llama_model_n_embd_out(self.handle.ptr))
        finally:
            self.leave()

    def set_embeddings(self, value):
        """Give embeddings from the next decode on, or none any more. Wraps ``llama_set_embeddings``.

        Parameters
        ----------
        value : bool
            With embeddings each token is an output, so a batch must fit into `n_outputs_max`.

        Raises
        ------
        ContextError
            The micro-batch does not fit: `n_ubatch` must be a multiple of `n_seq_max`, and not more than
            `n_outputs_max` where embeddings are pooled.
        """
        cdef bint wanted = flag("value", value)
        self.enter()
        try:
            # As for a context that begins with embeddings: llama.cpp would assert when it builds the largest graph.
            if wanted and self.n_ubatch % self.n_seq_max:
                raise ContextError(
                    f"n_ubatch {self.n_ubatch} is not a multiple of n_seq_max {self.n_seq_max}, as embeddings need"
                )
            if wanted and self.n_outputs_max < self.n_ubatch:
                raise ContextError(
                    f"n_ubatch {self.n_ubatch} is more than n_outputs_max {self.n_outputs_max}: with embeddings each "
                    "token is an output"
                )
            llama_set_embeddings(self.ptr, wanted)
            self.embed(wanted)
        finally:
            self.leave()

    @property
    def causal_attn(self):
        """Whether a token sees only those before it. Wraps ``llama_get_causal_attn``."""
        return llama_get_causal_attn(self.alive())

    def set_causal_attn(self, value):
        """Let a token see only those before it, or all of its decode. Wraps ``llama_set_causal_attn``.

        Parameters
        ----------
        value : bool
            Without it, the tokens of one decode must fit into `n_ubatch`. An encoder sees both ways in any case.
        """
        cdef bint wanted = flag("value", value)
        self.enter()
        try:
            if wanted != llama_get_causal_attn(self.ptr):
                # What is in memory was computed the other way, so no later prompt may reuse it.
                self.epoch += 1
                llama_set_causal_attn(self.ptr, wanted)
        finally:
            self.leave()
