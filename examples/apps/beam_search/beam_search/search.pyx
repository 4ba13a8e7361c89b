"""The search: a loop without the GIL that calls llama.cpp through llama_cy's table."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport exp, log
from libcpp cimport bool
from libcpp.algorithm cimport partial_sort
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_CY_CONTEXT_CAPSULE,
    import_llama_cy,
    llama_batch,
    llama_batch_free,
    llama_batch_init,
    llama_context,
    llama_decode,
    llama_get_logits_ith,
    llama_get_memory,
    llama_get_model,
    llama_memory_seq_cp,
    llama_memory_seq_rm,
    llama_memory_t,
    llama_model_get_vocab,
    llama_token,
    llama_vocab,
    llama_vocab_is_eog,
)

from llama_cy cimport Context

from typing import NamedTuple

import llama_cy

import_llama_cy()


class Beam(NamedTuple):
    """A continuation: its tokens, the logarithm of its probability, and whether the model ended it."""

    tokens: list
    score: float
    ended: bool


cdef cppclass Candidate:
    int parent
    llama_token token
    double score


cdef bool likelier(const Candidate & a, const Candidate & b) noexcept nogil:
    if a.score != b.score:
        return a.score > b.score
    # Equal ones in a fixed order, so that the search gives the same beams each time.
    return a.parent < b.parent or a.parent == b.parent and a.token < b.token


cdef cppclass Branch:
    vector[llama_token] tokens
    double score


cdef void add_candidates(vector[Candidate] & found, int parent, double score, const float * logits, int n) noexcept nogil:
    """Add all continuations of one beam, with the logarithm of their probability."""
    cdef double most = logits[0], total = 0
    cdef Candidate candidate
    cdef int token
    for token in range(n):
        most = max(most, logits[token])
    for token in range(n):
        total += exp(logits[token] - most)
    candidate.parent = parent
    for token in range(n):
        candidate.token = token
        candidate.score = score + logits[token] - most - log(total)
        found.push_back(candidate)


cdef class Search:
    """Beams in progress, in the first or second `n_beams` sequences by turns."""

    cdef llama_context * ctx
    cdef const llama_vocab * vocab
    cdef llama_memory_t memory
    cdef llama_batch batch
    cdef int n_beams, n_vocab, bank, pos
    cdef vector[Branch] beams, ended

    def __dealloc__(self):
        if self.batch.token is not NULL:
            llama_batch_free(self.batch)

    cdef int step(self, bint first) except -1 nogil:
        """Choose the best continuations of all beams and move each into a sequence of its own."""
        cdef vector[Candidate] found
        cdef vector[Branch] chosen
        cdef Branch branch
        cdef Candidate candidate
        cdef int i, target
        for i in range(<int> self.beams.size()):
            add_candidates(
                found, i, self.beams[i].score, llama_get_logits_ith(self.ctx, -1 if first else i), self.n_vocab)
        # An end takes the place of a beam, so there may be as many ends as beams.
        cdef size_t n = min(found.size(), <size_t> (2 * self.n_beams))
        partial_sort(found.begin(), found.begin() + n, found.end(), likelier)
        target = self.n_beams - self.bank
        for i in range(<int> n):
            if <int> chosen.size() == self.n_beams:
                break
            candidate = found[i]
            branch = self.beams[candidate.parent]
            branch.score = candidate.score
            if llama_vocab_is_eog(self.vocab, candidate.token):
                self.ended.push_back(branch)
                continue
            branch.tokens.push_back(candidate.token)
            llama_memory_seq_cp(
                self.memory, self.bank + candidate.parent, target + <int> chosen.size(), -1, -1)
            chosen.push_back(branch)
        for i in range(<int> self.beams.size()):
            llama_memory_seq_rm(self.memory, self.bank + i, -1, -1)
        self.beams = chosen
        self.bank = target
        return 0

    cdef int decode(self) except -100 nogil:
        """Decode the last token of each beam, all in one batch."""
        cdef int i
        self.batch.n_tokens = <int> self.beams.size()
        for i in range(self.batch.n_tokens):
            self.batch.token[i] = self.beams[i].tokens.back()
            self.batch.pos[i] = self.pos
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = self.bank + i
            self.batch.logits[i] = True
        self.pos += 1
        return llama_decode(self.ctx, self.batch)

    cdef int run(self, int max_tokens) except -100 nogil:
        cdef int _i, code
        self.step(True)
        for _i in range(max_tokens - 1):
            if self.beams.empty() or <int> self.ended.size() >= self.n_beams:
                return 0
            code = self.decode()
            if code != 0:
                return code
            self.step(False)
        return 0

    cdef list result(self):
        cdef Branch branch
        cdef llama_token token
        found = [Beam([token for token in branch.tokens], branch.score, True) for branch in self.ended]
        found += [Beam([token for token in branch.tokens], branch.score, False) for branch in self.beams]
        return sorted(found, key=lambda beam: -beam.score)[:self.n_beams]


def beam_search(Context context not None, prompt, int n_beams=4, int max_tokens=32):
    """Return the likeliest continuations that were found, best first.

    Parameters
    ----------
    context : Context
        With room for twice as many sequences as beams, made with ``kv_unified=True``. Its memory is cleared.
    prompt : iterable of int
    n_beams, max_tokens : int

    Returns
    -------
    list of Beam
    """
    tokens = list(prompt)
    if n_beams < 1 or 2 * n_beams > context.n_seq_max:
        raise ValueError(f"n_beams is {n_beams}; the context has {context.n_seq_max} sequences, two for each beam")
    if max_tokens < 1 or len(tokens) + max_tokens > context.n_ctx_seq:
        raise ValueError(f"max_tokens is {max_tokens}; the context has room for {context.n_ctx_seq - len(tokens)}")
    context.memory.clear()
    context.decode(tokens)
    # From here to the end of the lease the context is ours alone.
    lease = llama_cy.to_capsule(context)
    cdef Search search = Search()
    cdef Branch root
    cdef int code
    search.ctx = <llama_context *> PyCapsule_GetPointer(lease, LLAMA_CY_CONTEXT_CAPSULE)
    search.vocab = llama_model_get_vocab(llama_get_model(search.ctx))
    search.memory = llama_get_memory(search.ctx)
    search.n_beams, search.n_vocab, search.pos = n_beams, context.n_vocab, len(tokens)
    search.batch = llama_batch_init(n_beams, 0, 1)
    root.score = 0
    search.beams.push_back(root)
    try:
        with nogil:
            code = search.run(max_tokens)
    finally:
        del lease
    if code != 0:
        raise RuntimeError(f"llama_decode returned {code}")
    return search.result()
