"""Samplers that look into a vocabulary."""

from libc.stdint cimport int32_t, uint32_t
from libcpp cimport bool
from libcpp.memory cimport make_shared, shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport (
    import_llama_cy,
    llama_sampler,
    llama_sampler_init_dry,
    llama_sampler_init_infill,
    llama_token,
    llama_vocab,
)

from llama_cy.abort cimport guard, unguard
from llama_cy.lifetime cimport enter_native, leave_native
from llama_cy.sampler cimport Sampler
from llama_cy.vocab cimport Vocab

import re

from .checks import INT32_MAX, each, integer, real
from .errors import GrammarError
from .gbnf import read_grammar
from .gbnf_rules import CharSet

import_llama_cy()

cdef extern from "kernels/grammar_rules.h" namespace "llama_cy" nogil:
    cdef enum grammar_kind:
        GRAMMAR_END
        GRAMMAR_ALTERNATE
        GRAMMAR_RULE
        GRAMMAR_CHAR
        GRAMMAR_TOKEN
        GRAMMAR_OTHER_TOKEN

    cdef cppclass grammar_rules:
        void add_set(bool negated) except +
        void add_range(uint32_t low, uint32_t high) except +
        void begin_rule(bool can_be_empty) except +
        void add(grammar_kind kind, uint32_t value) except +
        void finish(uint32_t root) except +

cdef extern from "kernels/grammar_sampler.h" namespace "llama_cy" nogil:
    void (*guard_thread)(int scope) noexcept nogil
    void (*unguard_thread)() noexcept nogil
    llama_sampler * init_grammar(const llama_vocab * vocab, shared_ptr[grammar_rules] rules) except +
    llama_sampler * init_lazy_grammar(
        const llama_vocab * vocab, shared_ptr[grammar_rules] rules, const vector[string] & patterns,
        const vector[llama_token] & tokens, size_t states) except +

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


cdef int token_of(Vocab vocab, object reference) except -1:
    """Return the token that a grammar names."""
    if reference.id is not None:
        if reference.id < vocab.n_tokens:
            return reference.id
    else:
        found = vocab.tokenize(reference.text, parse_special=True)
        if len(found) == 1:
            return found[0]
    place = f"line {reference.line}, column {reference.column}"
    error = GrammarError(f"{place}: the vocabulary has no token {reference.text}")
    error.line, error.column = reference.line, reference.column
    raise error


cdef shared_ptr[grammar_rules] rules_of(Vocab vocab, object grammar, object root) except *:
    """Refuse a grammar that cannot be used, or should not be; write its rules out."""
    cdef shared_ptr[grammar_rules] rules = make_shared[grammar_rules]()
    cdef grammar_rules * writing = rules.get()
    cdef uint32_t first
    if not isinstance(grammar, str):
        raise TypeError(f"grammar must be str, not {type(grammar).__name__}")
    vocab.check_texts()
    read = read_grammar(grammar, root)
    tokens = {reference: token_of(vocab, reference) for reference in read.tokens}
    sets = {}
    for number in range(len(read.rules)):
        writing.begin_rule(number in read.can_be_empty)
        for behind, items in enumerate(read.rules[number].alternates):
            if behind:
                writing.add(GRAMMAR_ALTERNATE, 0)
            for item in items:
                if item.rule is not None:
                    writing.add(GRAMMAR_RULE, item.rule)
                for terminal in item.terminals:
                    if not isinstance(terminal, CharSet):
                        writing.add(GRAMMAR_OTHER_TOKEN if terminal.negated else GRAMMAR_TOKEN, tokens[terminal])
                        continue
                    if terminal not in sets:
                        sets[terminal] = len(sets)
                        writing.add_set(terminal.negated)
                        for low, high in terminal.ranges:
                            writing.add_range(low, high)
                    writing.add(GRAMMAR_CHAR, sets[terminal])
        writing.add(GRAMMAR_END, 0)
    first = read.root
    with nogil:
        writing.finish(first)
    return rules


def grammar(Vocab vocab not None, grammar, root):
    """Do what :meth:`Sampler.grammar` says."""
    text_of("root", root)
    cdef shared_ptr[grammar_rules] rules = rules_of(vocab, grammar, root)
    cdef llama_sampler * ptr
    enter_native()
    try:
        with nogil:
            ptr = init_grammar(vocab.ptr, rules)
        return created(ptr, vocab)
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
    text_of("root", root)
    cdef shared_ptr[grammar_rules] rules = rules_of(vocab, grammar, root)
    cdef vector[llama_token] tokens
    cdef vector[string] patterns
    cdef size_t states = 1
    cdef llama_sampler * ptr
    for pattern in each("trigger_patterns", trigger_patterns, "an iterable of str"):
        patterns.push_back(text_of("a trigger pattern", pattern))
        states = max(states, states_of(pattern))
    vocab.collect(trigger_tokens, tokens)
    if tokens.empty() and patterns.empty():
        raise ValueError("there is nothing to trigger the grammar: pass trigger_patterns or trigger_tokens")
    enter_native()
    try:
        with nogil:
            ptr = init_lazy_grammar(vocab.ptr, rules, patterns, tokens, states)
        return created(ptr, vocab)
    except RuntimeError as error:
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
