"""A model at work: its memory, its decodes and what they give."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int8_t, int32_t
from libc.string cimport memcpy, memset
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_POOLING_TYPE_NONE,
    LLAMA_POOLING_TYPE_RANK,
    import_llama_cy,
    llama_batch,
    llama_context,
    llama_decode,
    llama_encode,
    llama_get_causal_attn,
    llama_get_embeddings_ith,
    llama_get_embeddings_seq,
    llama_get_logits_ith,
    llama_get_memory,
    llama_init_from_model,
    llama_memory_seq_pos_max,
    llama_memory_seq_pos_min,
    llama_model,
    llama_model_has_encoder,
    llama_model_is_recurrent,
    llama_model_n_cls_out,
    llama_model_n_embd_out,
    llama_n_batch,
    llama_n_ctx,
    llama_n_ctx_seq,
    llama_n_seq_max,
    llama_n_ubatch,
    llama_pooling_type,
    llama_token,
)

from llama_cy.batch cimport Batch
from llama_cy.context_handle cimport ContextHandle, should_abort
from llama_cy.context_params cimport ContextParams
from llama_cy.handle cimport ModelHandle
from llama_cy.lifetime cimport check_exit, enter_native, leave_native
from llama_cy.model cimport Model
from llama_cy.threadpool cimport Threadpool

import numpy as np

from . import log
from .checks import INT32_MAX, integer
from .enums import PoolingType
from .errors import (
    ContextError,
    DecodeAborted,
    DecodeError,
    InvalidBatchError,
    KVCacheFullError,
)

import_llama_cy()

LEARNED_POSITIONS = ("bert", "gpt2", "mpt", "starcoder")


cdef object copied(const float * values, int n):
    array = np.empty(n, dtype=np.float32)
    cdef float[::1] target = array
    if n:
        memcpy(&target[0], values, n * sizeof(float))
    return array


@cython.no_gc_clear
cdef class Context(ContextHandle):
    """A model's memory and its computation. Wraps ``llama_init_from_model``.

    Parameters
    ----------
    model : Model
    n_ctx : int, optional
        Tokens that fit into memory; llama.cpp rounds it up, :attr:`n_ctx` tells. By default what the model was trained
        with, or less if half of the free memory holds less.
    n_batch, n_ubatch : int
        Tokens per decode and per step of its computation.
    n_threads, n_threads_batch : int, optional
        For one token and for many; by default the physical cores that this process may use.
    poll : int
        How long idle threads spin before they sleep, 0 to 100.
    **params
        The other members of ``llama_context_params``, under their names; enums also by name, as in
        ``type_k="q8_0", pooling_type="mean"``.

    Attributes
    ----------
    model : Model
    vocab : Vocab
    n_vocab : int
        Logits in a row.
    n_ctx_seq : int
        Tokens that fit into memory for one sequence.
    n_seq_max : int
        Sequences that fit into memory at once.

    Raises
    ------
    ContextError
        llama.cpp could not create it; with its last log lines.

    Notes
    -----
    A context is used by one thread at a time: a second one gets a :class:`ContextBusyError`. Contexts of one model
    may run in parallel.
    """

    def __cinit__(self, Model model not None, **params):
        cdef ContextParams settings = ContextParams(params)
        # Held from here on: another thread may close the model while Python code runs.
        model.ptr()
        cdef ModelHandle handle = model.handle
        cdef llama_model * weights = handle.alive()
        if model.vocab_only:
            raise ContextError("the model was loaded with vocab_only, so there is nothing to compute with")
        metadata = model.metadata
        settings.fit(weights, metadata)
        cdef llama_context * ptr
        self.model = model
        self.own_vocab = model.vocab
        settings.c.abort_callback = should_abort
        settings.c.abort_callback_data = &self.cancelled
        log.begin()
        enter_native()
        try:
            with nogil:
                ptr = llama_init_from_model(weights, settings.c)
        finally:
            leave_native()
        if ptr is NULL:
            raise ContextError("cannot create a context", log=log.tail())
        self.own(ptr, handle)
        log.flush()
        self.mem = llama_get_memory(self.ptr)
        self.n_vocab = self.own_vocab.n_tokens
        self.n_ctx = llama_n_ctx(self.ptr)
        self.n_ctx_seq = llama_n_ctx_seq(self.ptr)
        self.n_batch = llama_n_batch(self.ptr)
        self.n_ubatch = llama_n_ubatch(self.ptr)
        self.n_seq_max = llama_n_seq_max(self.ptr)
        self.unified = settings.c.kv_unified
        self.signature = f"{settings.c.type_k} {settings.c.type_v} {self.unified} {settings.c.swa_full}"
        self.encoder = llama_model_has_encoder(weights) and self.mem is not NULL
        self.embedding = settings.c.embeddings
        self.n_outputs_max = (0 if self.encoder else settings.c.n_outputs_max) or self.n_batch
        # With learned positions, one beyond the table would be read out of bounds.
        learned = metadata.get("general.architecture") in LEARNED_POSITIONS
        self.n_pos_max = model.n_ctx_train if learned else INT32_MAX
        self.bounded = self.mem is not NULL and not llama_model_is_recurrent(weights)
        self.attach(Threadpool(settings.c.n_threads, poll=settings.poll),
                    Threadpool(settings.c.n_threads_batch, poll=settings.poll)
                    if settings.c.n_threads_batch != settings.c.n_threads else None)

    def __repr__(self):
        if self.ptr is NULL:
            return "<Context, closed>"
        return f"<Context of {self.n_ctx} tokens, {self.n_seq_max} sequences, {self.pool.n_threads} threads>"

    cdef int check_seq(self, object seq_id, int low) except -2:
        return integer("seq_id", seq_id, low, self.n_seq_max - 1)

    cdef int n_used(self) noexcept:
        """Count the places that sequence 0 takes."""
        cdef int highest = llama_memory_seq_pos_max(self.mem, 0)
        return 0 if highest < 0 else highest - llama_memory_seq_pos_min(self.mem, 0) + 1

    cdef int check_room(self, int needed) except -1:
        """Refuse before C does, with both counts; only attention keeps an entry for each token."""
        if not self.bounded:
            return 0
        cdef int used = self.n_used()
        if used + needed > self.n_ctx_seq:
            error = KVCacheFullError(
                f"{needed} tokens do not fit: the context holds {self.n_ctx_seq}, {used} of them in use"
            )
            error.needed, error.available = needed, self.n_ctx_seq - used
            raise error
        return 0

    cdef int failed(self, int code, str what) except -1:
        """Raise the exception for a return code of ``llama_decode`` or ``llama_encode``."""
        lines = log.tail()
        check_exit()
        if code == 2 or self.cancelled.load():
            self.cancelled.store(False)
            raise DecodeAborted(f"{what} was cancelled", code=code)
        if code == 1:
            raise KVCacheFullError(f"{what}: no free place in a memory of {self.n_ctx} tokens", code=code, log=lines)
        if code == -1:
            raise InvalidBatchError(f"{what}: invalid batch", code=code, log=lines)
        raise DecodeError(f"{what} failed", code=code, log=lines)

    cdef bint whole(self, bint encode):
        """Whether all tokens must be computed in one piece, so that each can attend to each."""
        return encode or self.mem is NULL or not llama_get_causal_attn(self.ptr)

    cdef int check_input(self, int n, int n_outputs, int highest_pos, bint encode) except -1:
        """Refuse what llama.cpp would assert on."""
        limit, name = (self.n_ubatch, "n_ubatch") if self.whole(encode) else (self.n_batch, "n_batch")
        if n == 0:
            raise InvalidBatchError("the batch is empty: there is no token to compute")
        if n > limit:
            raise InvalidBatchError(f"{n} tokens are more than {name}, which is {limit}")
        if n_outputs > self.n_outputs_max:
            raise InvalidBatchError(f"{n_outputs} outputs are more than n_outputs_max, which is {self.n_outputs_max}")
        if highest_pos >= self.n_pos_max:
            raise InvalidBatchError(f"position {highest_pos} is out of range [0, {self.n_pos_max}), as trained")
        if self.encoder and not encode and not self.encoded:
            raise InvalidBatchError("an encoder-decoder model decodes after encode() only")
        return 0

    cdef int decode_tokens(self, llama_token * tokens, int n) except -1:
        """Append tokens to sequence 0, a micro-batch at a time, so that Ctrl-C and cancel() come through."""
        cdef int step = self.n_ubatch
        cdef int done = 0
        cdef int used = 0 if self.mem is NULL else llama_memory_seq_pos_max(self.mem, 0) + 1
        cdef int code = 0
        cdef llama_batch batch
        cdef vector[int8_t] silent
        self.check_exports("decode")
        if self.embedding:
            step = min(step, self.n_outputs_max)
        self.check_input(n if self.whole(False) else min(n, step), 1, used + n - 1, False)
        self.check_room(n)
        silent.resize(step)
        memset(&batch, 0, sizeof(batch))
        self.epoch += 1
        while done < n:
            batch.token = tokens + done
            batch.n_tokens = min(step, n - done)
            batch.logits = silent.data()
            if done + batch.n_tokens == n:
                batch.logits = NULL
            with nogil:
                code = llama_decode(self.ptr, batch)
            if code != 0:
                self.failed(code, f"decoding tokens {done} to {done + batch.n_tokens} of {n}")
            done += batch.n_tokens
            self.stale = self.shift_deferred = self.copy_deferred = False
            PyErr_CheckSignals()
            if self.cancelled.load() and done < n:
                self.failed(2, f"decoding after {done} of {n} tokens")
        return 0

    cdef int compute(self, llama_batch batch, bint encode) except -1:
        cdef int code
        self.epoch += 1
        with nogil:
            code = llama_encode(self.ptr, batch) if encode else llama_decode(self.ptr, batch)
        if code != 0:
            self.failed(code, "encode" if encode else "decode")
        self.stale = False
        if encode:
            self.encoded = True
        else:
            self.shift_deferred = self.copy_deferred = False
        PyErr_CheckSignals()
        return 0

    cdef int compute_batch(self, Batch batch, bint encode) except -1:
        batch.enter()
        try:
            if batch.highest_token >= self.n_vocab:
                raise InvalidBatchError(f"token {batch.highest_token} is out of range [0, {self.n_vocab})")
            if batch.most_seq_ids > 1 and self.mem is not NULL and self.n_seq_max > 1 and not self.unified:
                raise InvalidBatchError("a token in several sequences needs a context with kv_unified=True")
            outputs = batch.c.n_tokens if encode or self.embedding else batch.n_outputs
            self.check_input(batch.c.n_tokens, outputs, batch.highest_pos, encode)
            self.compute(batch.c, encode)
        finally:
            batch.leave()
        return 0

    def decode(self, tokens):
        """Compute tokens and keep them in memory. Wraps ``llama_decode``.

        Parameters
        ----------
        tokens : iterable of int, int32 buffer, or Batch
            Plain tokens go behind sequence 0, in pieces of `n_ubatch`, and the last one has logits. A Batch says
            positions, sequences and outputs itself, and must fit into `n_batch`.

        Raises
        ------
        KVCacheFullError
            They do not fit; nothing was decoded of a plain list.
        InvalidBatchError
            llama.cpp refuses the batch; nothing was decoded.
        DecodeAborted
            :meth:`cancel` was called; whole pieces decoded before stay in memory.
        DecodeError
            The computation failed.
        """
        cdef vector[llama_token] ids
        self.prepare("decode")
        try:
            if isinstance(tokens, Batch):
                self.compute_batch(tokens, False)
            else:
                self.own_vocab.collect(tokens, ids)
                self.decode_tokens(ids.data(), <int> ids.size())
        finally:
            self.leave()

    def encode(self, tokens):
        """Run the encoder over tokens, in one piece of at most `n_ubatch`. Wraps ``llama_encode``.

        Parameters
        ----------
        tokens : iterable of int, int32 buffer, or Batch
        """
        cdef vector[llama_token] ids
        cdef llama_batch batch
        self.prepare("encode")
        try:
            if not self.encoder and self.mem is not NULL:
                raise ContextError(f"the model has no encoder: {self.model!r}")
            if isinstance(tokens, Batch):
                self.compute_batch(tokens, True)
            else:
                self.own_vocab.collect(tokens, ids)
                self.check_input(<int> ids.size(), <int> ids.size(), <int> ids.size() - 1, True)
                memset(&batch, 0, sizeof(batch))
                batch.token, batch.n_tokens = ids.data(), <int32_t> ids.size()
                self.compute(batch, True)
        finally:
            self.leave()

    cdef int prepare(self, str what) except -1:
        self.enter()
        try:
            self.check_exports(what)
            self.cancelled.store(False)
            log.begin()
        except BaseException:
            self.leave()
            raise
        return 0

    cdef const float * row(self, int32_t i) except NULL:
        cdef const float * values
        self.check_fresh()
        with nogil:
            values = llama_get_logits_ith(self.ptr, i)
        if values is NULL:
            log.flush()
            raise ValueError(f"row {i} has no logits: it was not decoded last, or logits were not asked for it")
        return values

    cdef int check_fresh(self) except -1:
        if self.stale:
            raise ValueError("the outputs are those of before the restore; decode something first")
        return 0

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

    def embeddings(self, i=-1):
        """Copy the embedding of one row. Wraps ``llama_get_embeddings_ith``.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(model.n_embd_out,)``.
        """
        cdef int32_t index = integer("i", i, -INT32_MAX, INT32_MAX)
        cdef const float * values
        self.enter()
        try:
            self.check_fresh()
            with nogil:
                values = llama_get_embeddings_ith(self.ptr, index)
            if values is NULL:
                log.flush()
                raise ValueError(f"row {index} has no embedding; is the context one with embeddings=True, unpooled?")
            return copied(values, llama_model_n_embd_out(self.handle.ptr))
        finally:
            self.leave()

    def embeddings_seq(self, seq_id=0):
        """Copy the pooled embedding of a sequence. Wraps ``llama_get_embeddings_seq``.

        Returns
        -------
        numpy.ndarray
            float32, shape ``(model.n_embd_out,)``; with pooling_type "rank" one score for each classifier output.
        """
        cdef int c_seq = self.check_seq(seq_id, 0)
        cdef const float * values
        self.enter()
        try:
            self.check_fresh()
            if llama_pooling_type(self.ptr) == LLAMA_POOLING_TYPE_NONE:
                raise ValueError("there is no pooling in this context; pass pooling_type, or use embeddings()")
            with nogil:
                values = llama_get_embeddings_seq(self.ptr, c_seq)
            if values is NULL:
                raise ValueError(f"sequence {c_seq} has no embedding from the last decode")
            if llama_pooling_type(self.ptr) == LLAMA_POOLING_TYPE_RANK:
                return copied(values, llama_model_n_cls_out(self.handle.ptr))
            return copied(values, llama_model_n_embd_out(self.handle.ptr))
        finally:
            self.leave()

    @property
    def memory(self):
        """The tokens it remembers, a :class:`Memory`. Wraps ``llama_get_memory``."""
        from .memory import Memory

        return Memory(self)

    @property
    def state(self):
        """Saving and restoring, a :class:`State`."""
        from .state import State

        return State(self)

    @property
    def pooling_type(self):
        """How embeddings are pooled, a :class:`PoolingType`. Wraps ``llama_pooling_type``."""
        return PoolingType(<int> llama_pooling_type(self.alive()))

    def generate(self, prompt, sampler=None, **options):
        """Decode a prompt and return an iterator of token ids; see :class:`TokenLoop`."""
        from .loop import TokenLoop

        return TokenLoop(self, prompt, sampler, **options)

    def stream(self, prompt, sampler=None, **options):
        """Decode a prompt and return an iterator of text; see :class:`TextStream`."""
        from .loop import TextStream

        return TextStream(self, prompt, sampler, **options)

    def complete(self, prompt, sampler=None, **options):
        """Decode a prompt, generate to the end and return a :class:`Completion`; options as in :class:`TextStream`."""
        from .loop import TextStream

        return TextStream(self, prompt, sampler, **options).complete()
