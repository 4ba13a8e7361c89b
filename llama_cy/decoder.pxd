from libc.stdint cimport uint64_t
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport llama_batch, llama_batch_ext, llama_context, llama_context_params, llama_memory_t, llama_pos, llama_process_type, llama_token

from llama_cy.batch cimport Batch
from llama_cy.batch_ext cimport BatchExt
from llama_cy.computation cimport computation
from llama_cy.context_handle cimport ContextHandle

cdef extern from "kernels/compute.h" namespace "llama_cy" nogil:
    int THROWN
    int decode_caught "llama_cy::decode" (
        llama_context * context, llama_batch batch, computation & computing, string & thrown) noexcept
    int encode_caught "llama_cy::encode" (
        llama_context * context, llama_batch batch, computation & computing, string & thrown) noexcept
    int process_caught "llama_cy::process" (
        llama_context * context, llama_process_type type, llama_batch_ext * batch, computation & computing, string & thrown
    ) noexcept
    void mark(llama_context * context, vector[llama_pos] & ends)
    void take_back(llama_context * context, const vector[llama_pos] & ends)


cdef class Decoder(ContextHandle):
    cdef llama_memory_t mem
    cdef readonly object model
    cdef llama_context_params params
    cdef str arch
    cdef readonly int n_vocab
    cdef readonly int n_ctx
    cdef readonly int n_ctx_seq
    cdef readonly int n_batch
    cdef readonly int n_ubatch
    cdef readonly int n_seq_max
    cdef readonly int n_rs_seq
    # Attention keeps an entry for each token; a recurrent state has no such limit.
    cdef bint bounded
    cdef bint unified
    cdef bint encoder
    cdef bint encoded
    # An MTP context predicts from a token and the hidden state that came before it.
    cdef bint predicts
    cdef bint embedding
    # Whether embeddings are those of whole sequences, which a micro-batch must then hold whole.
    cdef bint pooled
    # Rows that the last computation gave, and of what.
    cdef int n_rows
    cdef bint gave_logits
    cdef bint gave_embeddings
    # Whether there is a row of logits to each token; what only encodes gives none.
    cdef bint generative
    # A state carries the memory only, so outputs are another text's after a restore.
    cdef bint stale
    # llama.cpp puts these off to the next decode, and its state functions know nothing of them.
    cdef bint shift_deferred
    cdef bint copy_deferred
    # The tokens of sequence 0 by position, true while its epoch is the context's.
    cdef vector[llama_token] history
    cdef uint64_t history_epoch
    # So many of them were computed as a fresh run would, in whole micro-batches from the start.
    cdef int history_aligned
    # So many of them, at the end of a prompt, gave logits that are kept; 0 where none are.
    cdef int kept_at
    # The logits to read where they are not llama.cpp's latest: those of a prompt that was not decoded again.
    cdef const float * shown
    # Whether its memory can't go back by some tokens: a recurrent state, or a window that drops what leaves it.
    cdef bint forgets
    cdef int n_outputs_max
    cdef int n_pos_max
    # What the last computation threw.
    cdef string thrown
    # Where each sequence ended before a computation that a callback may end.
    cdef vector[llama_pos] ends

    cdef int check_seq(self, object seq_id, int low) except -2
    cdef int decode_tokens(self, llama_token * tokens, int n) except -1
    cdef bint whole(self, bint encode)
    cdef int prepare(self, str what) except -1
    cdef int check_input(self, int n, int n_outputs, int highest_pos, bint encode, bint paired=*) except -1
    cdef int check_sequences(self, Batch batch, bint encode) except -1
    cdef void gave(self, int n_rows, bint encode) noexcept nogil
    cdef void shows(self, int n_rows, bint encode) noexcept nogil
    cdef void lose(self, int code) noexcept nogil
    cdef void before(self) noexcept nogil
    cdef int check_outcome(self, int code, str what) except -1
    cdef int compute(self, llama_batch batch, int n_rows, bint encode) except -1
    cdef int compute_ext(self, BatchExt batch, bint encode) except -1
    cdef int compute_batch(self, Batch batch, bint encode) except -1
    cdef int n_used(self) noexcept
    cdef int check_room(self, int needed) except -1
    cdef int failed(self, int code, str what) except -1
