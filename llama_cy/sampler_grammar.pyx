"""Samplers that look into a vocabulary."""

from libc.stdint cimport int32_t
from libcpp.vector cimport vector
from llama cimport (
    import_llama_cy,
    llama_sampler,
    llama_sampler_init_dry,
    llama_sampler_init_grammar,
    llama_sampler_init_infill,
    llama_token,
    llama_vocab,
)

from llama_cy.abort cimport guard, unguard
from llama_cy.lifetime cimport enter_native, leave_native
from llama_cy.sampler cimport Sampler
from llama_cy.vocab cimport Vocab

import re

from . import log
from .checks import INT32_MAX, each, integer, real
from .errors import GrammarError
from .gbnf import read_grammar

import_llama_cy()

cdef extern from "kernels/lazy_grammar.h" namespace "llama_cy" nogil:
    void (*guard_thread)(int scope) noexcept nogil
    void (*unguard_thread)() noexcept nogil
    llama_sampler * init_lazy_grammar(
        const llama_vocab * vocab, const char * grammar, const char * root, vector[const char *] & patterns,
        const vector[llama_token] & tokens, size_t states, size_t pattern_bytes) except +

guard_thread, unguard_thread = guard, unguard

# Of one trigger pattern, counting what it repeats; std::regex itself refuses more than about so many.
MAX_STATES = 100_000
COUNTS = re.compile(r"\{(\d+)(?:,(\d*))?\}")

# As llama.cpp cuts them off.
MAX_BREAKER = 40


cdef Sampler created(llama_sampler * ptr, Vocab vocab):
    cdef Sampler sampler = Sampler.__new__(Sampler)
    sampler.own(ptr)
    sampler.handle = vocab.handle
    sampler.n_vocab = vocab.n_tokens
    return sampler


cdef bytes text_of(str name, object text):
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str, not {type(text).__name__}")
    data = text.encode("utf-8")
    if b"\0" in data:
        raise ValueError(f"{name} has a null character: {text!r}")
    return data


cdef bytes checked(Vocab vocab, object grammar, object root):
    """Refuse a grammar that llama.cpp could not use, or should not."""
    if not isinstance(grammar, str):
        raise TypeError(f"grammar must be str, not {type(grammar).__name__}")
    vocab.check_texts()
    for token in read_grammar(grammar, root):
        if token.id is not None:
            fits = token.id < vocab.n_tokens
        else:
            fits = len(vocab.tokenize(token.text, parse_special=True)) == 1
        if not fits:
            error = GrammarError(f"line {token.line}, column {token.column}: the vocabulary has no token {token.text}")
            error.line, error.column = token.line, token.column
            raise error
    return grammar.encode("utf-8")


cdef Sampler grammar_of(llama_sampler * ptr, Vocab vocab):
    if ptr is NULL:
        raise GrammarError("llama.cpp refuses the grammar", log=log.tail())
    return created(ptr, vocab)


def grammar(Vocab vocab not None, grammar, root):
    """Do what :meth:`Sampler.grammar` says."""
    cdef bytes c_root = text_of("root", root)
    cdef bytes c_grammar = checked(vocab, grammar, root)
    cdef const char * rules = c_grammar
    cdef const char * first = c_root
    cdef llama_sampler * ptr
    log.begin()
    enter_native()
    try:
        with nogil:
            ptr = llama_sampler_init_grammar(vocab.ptr, rules, first)
        return grammar_of(ptr, vocab)
    finally:
        leave_native()


cdef size_t states_of(str pattern) except 0:
    """Count the states that a regular expression has at most."""
    states = 2 * len(pattern.encode("utf-8")) + 4
    for low, high in COUNTS.findall(pattern):
        states *= max(1, *(int(number[:9]) for number in (low, high) if number))
    if states > MAX_STATES:
        raise GrammarError(f"the trigger pattern {pattern[:50]!r} is too long, or repeats too much; make it simpler")
    return states


def grammar_lazy(Vocab vocab not None, grammar, root, trigger_patterns, trigger_tokens):
    """Do what :meth:`Sampler.grammar_lazy` says."""
    cdef bytes c_root = text_of("root", root)
    cdef bytes c_grammar = checked(vocab, grammar, root)
    cdef vector[llama_token] tokens
    cdef vector[const char *] patterns
    cdef bytes data
    kept = [text_of("a trigger pattern", pattern)
            for pattern in each("trigger_patterns", trigger_patterns, "an iterable of str")]
    for data in kept:
        patterns.push_back(data)
    vocab.collect(trigger_tokens, tokens)
    if tokens.empty() and patterns.empty():
        raise ValueError("there is nothing to trigger the grammar: pass trigger_patterns or trigger_tokens")
    cdef size_t states = max([states_of(data.decode()) for data in kept], default=1)
    cdef size_t size = sum(map(len, kept))
    cdef const char * rules = c_grammar
    cdef const char * first = c_root
    cdef llama_sampler * ptr
    log.begin()
    enter_native()
    try:
        with nogil:
            ptr = init_lazy_grammar(vocab.ptr, rules, first, patterns, tokens, states, size)
        return grammar_of(ptr, vocab)
    except RuntimeError as error:
        if isinstance(error, GrammarError):
            raise
        # std::regex says what it does not like about a pattern.
        raise GrammarError(f"a trigger pattern is no regular expression: {error}") from None
    finally:
        leave_native()


def dry(Vocab vocab not None, multiplier, base, allowed_length, last_n, seq_breakers):
    """Do what :meth:`Sampler.dry` says."""
    cdef vector[const char *] breakers
    cdef bytes data
    cdef float c_multiplier = real("multiplier", multiplier, 0)
    cdef float c_base = real("base", base, 1)
    cdef int32_t c_length = integer("allowed_length", allowed_length, 1, INT32_MAX)
    cdef int32_t c_last_n = integer("last_n", last_n, 0, 2**20)
    cdef llama_sampler * ptr
    vocab.check_texts()
    kept = [text_of("a sequence breaker", text) for text in each("seq_breakers", seq_breakers, "an iterable of str")]
    for data in kept:
        if not 1 <= len(data) <= MAX_BREAKER:
            raise ValueError(f"the sequence breaker {data.decode()!r} is {len(data)} bytes long; expected 1 to {MAX_BREAKER}")
        breakers.push_back(data)
    enter_native()
    try:
        with nogil:
            ptr = llama_sampler_init_dry(
                vocab.ptr, c_multiplier, c_base, c_length, c_last_n, breakers.data(), breakers.size())
        return created(ptr, vocab)
    finally:
        leave_native()


def infill(Vocab vocab not None):
    """Do what :meth:`Sampler.infill` says."""
    vocab.check_texts()
    if vocab.eot is None and vocab.eos is None:
        raise ValueError("the vocabulary has no end of turn and no end of text, which infill() would choose")
    return created(llama_sampler_init_infill(vocab.ptr), vocab)
