# distutils: language = c++
"""llama.cpp's own grammar sampler, to hold ours against."""

from llama cimport (
    import_llama_cy,
    llama_sampler,
    llama_sampler_accept,
    llama_sampler_apply,
    llama_sampler_free,
    llama_sampler_init_grammar,
    llama_sampler_init_grammar_lazy_patterns,
    llama_sampler_reset,
    llama_token,
    llama_token_data,
    llama_token_data_array,
)
from libc.math cimport isinf
from libc.stdint cimport int64_t
from libcpp.vector cimport vector

from llama_cy.sampler_handle cimport SamplerHandle
from llama_cy.vocab cimport Vocab

from time import perf_counter_ns

import_llama_cy()


cdef int64_t apply_to_all(llama_sampler * sampler, int n_tokens) except -1:
    """Let a sampler change a whole vocabulary; return the nanoseconds it took."""
    cdef vector[llama_token_data] data
    cdef llama_token_data_array array
    cdef int token
    data.resize(n_tokens)
    for token in range(n_tokens):
        data[token].id = token
    array.data, array.size, array.selected, array.sorted = data.data(), data.size(), -1, False
    begin = perf_counter_ns()
    with nogil:
        llama_sampler_apply(sampler, &array)
    return perf_counter_ns() - begin


def nanoseconds(SamplerHandle sampler, int n_tokens):
    """Return what one of our samplers takes for a whole vocabulary."""
    return apply_to_all(sampler.ptr, n_tokens)


cdef class LlamaGrammar:
    cdef llama_sampler * ptr
    cdef Vocab vocab

    def __init__(self, Vocab vocab, bytes grammar, bytes pattern=b"", token=None):
        cdef const char * text = grammar
        cdef const char * trigger = pattern
        cdef llama_token trigger_token = -1 if token is None else token
        self.vocab = vocab
        if not pattern and token is None:
            self.ptr = llama_sampler_init_grammar(vocab.ptr, text, b"root")
        else:
            self.ptr = llama_sampler_init_grammar_lazy_patterns(
                vocab.ptr, text, b"root", &trigger, 1 if pattern else 0, &trigger_token, 0 if token is None else 1)
        if self.ptr is NULL:
            raise ValueError("refused")

    def __dealloc__(self):
        if self.ptr is not NULL:
            llama_sampler_free(self.ptr)

    def allowed(self, tokens):
        """Return those of some tokens that may come next."""
        cdef vector[llama_token_data] data
        cdef llama_token_data one
        cdef llama_token_data_array array
        cdef llama_token token
        for token in tokens:
            one.id, one.logit, one.p = token, 0, 0
            data.push_back(one)
        array.data, array.size, array.selected, array.sorted = data.data(), data.size(), -1, False
        with nogil:
            llama_sampler_apply(self.ptr, &array)
        return [one.id for one in data if not isinf(one.logit)]

    def nanoseconds(self):
        """Return what it takes for its whole vocabulary."""
        return apply_to_all(self.ptr, self.vocab.n_tokens)

    def accept(self, llama_token token):
        llama_sampler_accept(self.ptr, token)

    def reset(self):
        llama_sampler_reset(self.ptr)
