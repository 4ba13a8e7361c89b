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
from libcpp.vector cimport vector

from llama_cy.vocab cimport Vocab

import_llama_cy()


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

    def accept(self, llama_token token):
        llama_sampler_accept(self.ptr, token)

    def reset(self):
        llama_sampler_reset(self.ptr)
