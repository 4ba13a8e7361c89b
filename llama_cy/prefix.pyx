"""What a context keeps of the last prompt, for the next one."""

cimport cython
from libc.string cimport memset
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_TOKEN_NULL,
    import_llama_cy,
    llama_batch,
    llama_get_causal_attn,
    llama_get_logits_ith,
    llama_memory_seq_pos_max,
    llama_memory_seq_pos_min,
    llama_memory_seq_rm,
    llama_model,
    llama_model_is_hybrid,
    llama_model_is_recurrent,
    llama_model_n_swa,
    llama_token,
)

from llama_cy.decoder cimport Decoder, decode_caught

from .errors import ContextError

import_llama_cy()


@cython.no_gc_clear
cdef class PrefixKeeper(Decoder):
    """What a :class:`Context` remembers of prompts, so that only what changed is decoded."""

    cdef int keep_prefix(self, const vector[llama_token] & prompt, bint exact) except -1:
        """Make sequence 0 hold the longest start of a prompt that it has already, and return how many tokens that is.

        The last token of the prompt is kept only with its logits. `exact` keeps no more than whole micro-batches, after
        which the rest is computed in the very steps of a fresh run.
        """
        cdef llama_model * weights = self.handle.alive()
        cdef int kept = 0
        cdef int held = <int> self.history.size()
        cdef int n = <int> prompt.size()
        cdef int n_swa
        if self.history_epoch == self.epoch and not self.shift_deferred and not self.copy_deferred:
            while kept < min(held, n) and prompt[kept] == self.history[kept]:
                kept += 1
        if not llama_get_causal_attn(self.ptr):
            # What was computed of a start has seen what came behind it.
            kept = 0
        if kept == n and (self.kept_at != n or self.embedding or exact and not self.kept_exact):
            kept = n - 1
        if exact and kept < n:
            kept = min(kept, self.history_aligned) // self.n_ubatch * self.n_ubatch
        if kept < held and kept:
            # A recurrent state can't go back, and a window has dropped what lies before it.
            n_swa = llama_model_n_swa(weights)
            if llama_model_is_recurrent(weights) or llama_model_is_hybrid(weights):
                kept = 0
            elif n_swa and llama_memory_seq_pos_min(self.mem, 0) > max(0, kept - n_swa):
                kept = 0
        self.epoch += 1
        if kept < held or not kept:
            with nogil:
                if not llama_memory_seq_rm(self.mem, 0, kept if kept else -1, -1):
                    kept = 0
                    llama_memory_seq_rm(self.mem, 0, -1, -1)
        self.history.resize(kept)
        self.history_aligned = min(self.history_aligned, kept)
        self.history_epoch = self.epoch
        if kept < self.kept_at:
            self.kept_at = 0
        return kept

    cdef int decode_prompt(self, vector[llama_token] & prompt, int reused) except -1:
        """Decode what :meth:`keep_prefix` did not find, or show the logits that it did find."""
        cdef int n = <int> prompt.size()
        cdef bint exact = reused % self.n_ubatch == 0 and reused <= self.history_aligned
        if reused == n:
            self.shows(1, False)
            self.shown = self.kept_logits.data()
            return 0
        self.decode_tokens(prompt.data() + reused, n - reused)
        return self.keep_logits(exact)

    cdef int keep_logits(self, bint exact) except -1:
        cdef const float * logits = NULL
        self.kept_at = 0
        if self.history_epoch != self.epoch or self.embedding or not self.gave_logits:
            return 0
        if self.attached and 0 in self.attached:
            # It was sampled on the backend, and what is in memory there is of another decode.
            return 0
        with nogil:
            logits = llama_get_logits_ith(self.ptr, -1)
        if logits is not NULL:
            self.kept_logits.assign(logits, logits + self.n_vocab)
            self.kept_at = <int> self.history.size()
            self.kept_exact = exact
        return 0

    cdef void disown_loops(self) noexcept:
        """Let no other loop go on from what is held, which stays known."""
        cdef bint known = self.history_epoch == self.epoch
        self.epoch += 1
        if known:
            self.history_epoch = self.epoch

    cdef int see(self, llama_token last) except -1:
        """Note what the caller has seen, before a thread decodes ahead: the last token of the loop, null before the first."""
        cdef const float * logits = self.shown
        self.seen_past = llama_memory_seq_pos_max(self.mem, 0) + 1
        self.seen_token = last
        if last == LLAMA_TOKEN_NULL:
            # What came before was decoded in one go with others, and rounds otherwise by itself.
            if logits is NULL:
                with nogil:
                    logits = llama_get_logits_ith(self.ptr, -1)
            if logits is NULL:
                raise ValueError("there are no logits to sample from; decode something first")
            self.seen_logits.assign(logits, logits + self.n_vocab)
        return 0

    cdef void saw(self, llama_token token) noexcept nogil:
        """Note that the caller has got a token that was decoded ahead."""
        self.seen_past += 1
        self.seen_token = token

    cdef int settle(self) except -1:
        """Go back to what the caller has seen, with its logits: the last token is decoded once more."""
        cdef llama_batch batch
        cdef int first = self.seen_past if self.seen_token == LLAMA_TOKEN_NULL else self.seen_past - 1
        cdef int code = 0
        cdef bint removed, cancelled
        if not self.unsettled:
            return 0
        self.check_exports("go back")
        memset(&batch, 0, sizeof(batch))
        batch.n_tokens, batch.token = 1, &self.seen_token
        # A cancel() was meant for the loop.
        cancelled = self.cancelled.load()
        self.cancelled.store(False)
        with nogil:
            removed = llama_memory_seq_rm(self.mem, 0, first, -1)
            if removed and self.seen_token != LLAMA_TOKEN_NULL:
                code = decode_caught(self.ptr, batch, self.computing, self.thrown)
        if cancelled:
            self.cancelled.store(True)
        self.unsettled = False
        if not removed or code != 0:
            self.history_epoch = 0
            self.epoch += 1
            self.lose(code if code else 2)
            raise ContextError("the memory could not go back to the last token seen; clear it")
        if self.seen_token == LLAMA_TOKEN_NULL:
            self.shows(1, False)
            self.shown = self.seen_logits.data()
        else:
            self.gave(1, False)
        return 0
