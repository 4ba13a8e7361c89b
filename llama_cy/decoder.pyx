"""The computing half of a context: checks what C would assert on, then decodes."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int8_t, int32_t
from libc.string cimport memset
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_PROCESS_TYPE_DECODE,
    LLAMA_PROCESS_TYPE_ENCODE,
    import_llama_cy,
    llama_batch,
    llama_get_causal_attn,
    llama_memory_seq_pos_max,
    llama_memory_seq_pos_min,
    llama_model_is_hybrid,
    llama_token,
)

from llama_cy.batch cimport Batch
from llama_cy.batch_ext cimport BatchExt
from llama_cy.context_handle cimport ContextHandle
from llama_cy.lifetime cimport check_exit

from . import log
from .checks import choice, integer
from .enums import ProcessType
from .errors import ContextError, DecodeAborted, DecodeError, InvalidBatchError, KVCacheFullError

import_llama_cy()


@cython.no_gc_clear
cdef class Decoder(ContextHandle):
    """What a :class:`Context` computes with its tokens."""

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
        self.check_fork()
        if code == THROWN:
            self.broken = True
            raise DecodeError(f"{what} failed: {(<bytes> self.thrown).decode('utf-8', 'replace')}", log=lines)
        if self.stopped():
            self.resume()
            self.cancelled.store(False)
            raise DecodeAborted(f"{what} was ended by the eval callback", code=2)
        if code == 2 or self.cancelled.load():
            self.cancelled.store(False)
            raise DecodeAborted(f"{what} was cancelled", code=code)
        if code == 1:
            raise KVCacheFullError(f"{what}: no free place in a memory of {self.n_ctx} tokens", code=code, log=lines)
        if code == -1:
            raise InvalidBatchError(f"{what}: invalid batch", code=code, log=lines)
        raise DecodeError(f"{what} failed", code=code, log=lines)

    cdef bint whole(self, bint encode):
        """Whether all tokens must be computed in one piece, so that each can attend to each, or counts in the mean."""
        return encode or self.pooled or self.mem is NULL or not llama_get_causal_attn(self.ptr)

    cdef int check_input(self, int n, int n_outputs, int highest_pos, bint encode, bint paired=False) except -1:
        """Refuse what llama.cpp would assert on."""
        limit, name = (self.n_ubatch, "n_ubatch") if self.whole(encode) else (self.n_batch, "n_batch")
        if self.predicts and not paired:
            raise InvalidBatchError("a context with ctx_type='mtp' computes a BatchExt of tokens with embeddings only")
        if self.trains:
            raise ContextError("this context trains its model; make another one to compute with what it learned")
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
        cdef bint whole = self.whole(False)
        # Without a memory, a decode is an encode: each token has an output.
        cdef int outputs = n if whole and (self.embedding or self.mem is NULL) else 1
        self.check_input(n if whole else min(n, step), outputs, used + n - 1, False)
        self.check_room(n)
        silent.resize(step)
        memset(&batch, 0, sizeof(batch))
        if used == 0:
            self.history.clear()
            self.kept_at = 0
            self.history_aligned = 0
            self.history_epoch = self.epoch
        cdef bint known = self.history_epoch == self.epoch
        self.epoch += 1
        while done < n:
            batch.token = tokens + done
            batch.n_tokens = min(step, n - done)
            batch.logits = silent.data()
            if done + batch.n_tokens == n:
                batch.logits = NULL
            with nogil:
                self.before()
                code = decode_caught(self.ptr, batch, self.computing, self.thrown)
            if code != 0 or self.stopped():
                self.history_epoch = 0
                self.check_outcome(code, f"decoding tokens {done} to {done + batch.n_tokens} of {n}")
            if known:
                self.history.insert(self.history.end(), tokens + done, tokens + done + batch.n_tokens)
                self.history_epoch = self.epoch
                if used + done == self.history_aligned and batch.n_tokens == self.n_ubatch:
                    self.history_aligned += self.n_ubatch
            done += batch.n_tokens
            self.gave(batch.n_tokens if self.embedding or self.mem is NULL else done == n, False)
            self.shift_deferred = self.copy_deferred = False
            PyErr_CheckSignals()
            if self.cancelled.load() and done < n:
                self.failed(2, f"decoding after {done} of {n} tokens")
        return 0

    cdef void gave(self, int n_rows, bint encode) noexcept nogil:
        """Note that something was computed, and what there is to read from now on."""
        self.computed = True
        self.shows(n_rows, encode)

    cdef void shows(self, int n_rows, bint encode) noexcept nogil:
        """Note what there is to read from now on, of this computation or of an earlier one."""
        self.n_rows = n_rows
        # An encoder gives no logits, and what a decoder computes with is an encoder's embeddings.
        self.gave_logits = self.generative and (not encode or self.mem is NULL)
        self.gave_embeddings = self.embedding or encode and self.encoder
        self.shown = NULL
        self.stale = False

    cdef void lose(self, int code) noexcept nogil:
        """Note that a failed computation left nothing, unless it was refused beforehand."""
        if code != 1 and code != -1:
            self.n_rows = 0
            self.shown = NULL

    cdef void before(self) noexcept nogil:
        """Note where the sequences end, should a callback end the computation."""
        if self.watch is not None or self.abort is not None:
            mark(self.ptr, self.ends)

    cdef int check_outcome(self, int code, str what) except -1:
        """Raise what a computation failed with, or what ended it."""
        if code == 0 and not self.stopped():
            return 0
        self.lose(code)
        if code == 0:
            with nogil:
                take_back(self.ptr, self.ends)
        return self.failed(code, what)

    cdef int compute(self, llama_batch batch, int n_rows, bint encode) except -1:
        cdef int code
        self.epoch += 1
        with nogil:
            self.before()
            if encode:
                code = encode_caught(self.ptr, batch, self.computing, self.thrown)
            else:
                code = decode_caught(self.ptr, batch, self.computing, self.thrown)
        self.check_outcome(code, "encode" if encode else "decode")
        self.gave(n_rows, encode)
        if encode:
            self.encoded = True
        else:
            self.shift_deferred = self.copy_deferred = False
        PyErr_CheckSignals()
        return 0

    cdef int check_sequences(self, Batch batch, bint encode) except -1:
        """Refuse sequences that separate memories can't compute together."""
        cdef vector[int] counts
        cdef int i, k, longest, shortest
        if encode or self.mem is NULL or self.n_seq_max == 1 or self.unified:
            return 0
        if batch.most_seq_ids > 1:
            raise InvalidBatchError("a token in several sequences needs a context with kv_unified=True")
        # Memories with a recurrent part compute one sequence after the other.
        if not self.pooled or not self.bounded or llama_model_is_hybrid(self.handle.ptr):
            return 0
        counts.resize(256)
        for i in range(batch.work.n_tokens):
            counts[batch.work.seq_id[i][0]] += 1
        longest, shortest = 0, batch.work.n_tokens
        for k in range(256):
            if counts[k]:
                longest, shortest = max(longest, counts[k]), min(shortest, counts[k])
        if longest != shortest:
            # llama.cpp would split the longer ones, and pool over their last parts only.
            raise InvalidBatchError(
                f"sequences of {shortest} to {longest} tokens are pooled together with kv_unified=True only"
            )
        return 0

    cdef int compute_ext(self, BatchExt batch, bint encode) except -1:
        """Compute an extended batch, whose every entry was checked as it came."""
        cdef int n = <int> batch.has_id.size()
        cdef int i, code, outputs = 0
        for i in range(n):
            outputs += batch.output[i]
            if not batch.placed[i]:
                raise InvalidBatchError(f"entry {i} has no position: call set_pos()")
        if batch.n_ids not in (0, n) or batch.n_rows not in (0, n) or not batch.n_ids and not batch.n_rows:
            raise InvalidBatchError(
                f"{batch.n_ids} of {n} entries have a token and {batch.n_rows} an embedding; all have the same, or none"
            ) if n else InvalidBatchError("the batch is empty: there is no token to compute")
        if batch.n_ids and batch.n_rows and not self.predicts:
            raise InvalidBatchError("tokens together with embeddings are for contexts with ctx_type='mtp' only")
        if batch.most_seq_ids > 1 and not (self.unified or encode or self.mem is NULL or self.n_seq_max == 1):
            raise InvalidBatchError("a token in several sequences needs a context with kv_unified=True")
        if self.pooled and self.bounded and not (encode or self.unified or self.n_seq_max == 1):
            raise InvalidBatchError("an extended batch is pooled with kv_unified=True only")
        outputs = n if encode or self.embedding or self.mem is NULL else outputs
        self.check_input(n, outputs, batch.highest_pos, encode, batch.n_ids and batch.n_rows)
        self.epoch += 1
        with nogil:
            self.before()
            code = process_caught(
                self.ptr, LLAMA_PROCESS_TYPE_ENCODE if encode else LLAMA_PROCESS_TYPE_DECODE, batch.ptr, self.computing,
                self.thrown)
        self.check_outcome(code, "process")
        self.gave(outputs, encode)
        if encode:
            self.encoded = True
        else:
            self.shift_deferred = self.copy_deferred = False
        PyErr_CheckSignals()
        return 0

    cdef int compute_batch(self, Batch batch, bint encode) except -1:
        batch.enter()
        try:
            batch.prepare()
            if batch.highest_token >= self.n_vocab:
                raise InvalidBatchError(f"token {batch.highest_token} is out of range [0, {self.n_vocab})")
            self.check_sequences(batch, encode)
            outputs = batch.work.n_tokens if encode or self.embedding or self.mem is NULL else batch.n_outputs
            self.check_input(batch.work.n_tokens, outputs, batch.highest_pos, encode)
            self.compute(batch.work, outputs, encode)
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
            :meth:`cancel` was called, or the eval callback returned False; whole pieces decoded before stay in memory.
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
                self.compute(batch, batch.n_tokens, True)
        finally:
            self.leave()

    def process(self, BatchExt batch not None, type="decode"):
        """Compute an extended batch made for this context. Wraps ``llama_process``.

        Parameters
        ----------
        batch : BatchExt
            Stays as it is, and may be computed again.
        type : ProcessType or str
            ``"decode"``, or ``"encode"`` for the encoder of a model that has one.

        Raises
        ------
        InvalidBatchError
            The entries do not go together, or llama.cpp refuses them; and what :meth:`decode` raises.
        """
        cdef bint encode = choice("type", ProcessType, type) == LLAMA_PROCESS_TYPE_ENCODE
        self.prepare("process")
        try:
            if batch.context is not self:
                raise ValueError("the batch was made for another context")
            if encode and not self.encoder and self.mem is not NULL:
                raise ContextError(f"the model has no encoder: {self.model!r}")
            batch.enter()
            try:
                self.compute_ext(batch, encode)
            finally:
                batch.leave()
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
