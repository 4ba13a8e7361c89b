"""How probable a model finds a text."""

from libc.stdint cimport int8_t, int32_t
from libc.string cimport memset
from libcpp.pair cimport pair
from libcpp.vector cimport vector
from llama cimport import_llama_cy, llama_batch, llama_get_logits_ith, llama_memory_seq_rm, llama_token

from llama_cy.context cimport Context
from llama_cy.vocab cimport Vocab

from .checks import integer
from .completion import TokenLogprob
from .loop import prompt_tokens

import_llama_cy()

cdef extern from "kernels/logprobs.h" namespace "llama_cy" nogil:
    cdef cppclass token_logprob:
        int32_t token
        float logprob
        vector[pair[int32_t, float]] best

    cdef cppclass logprob_reader:
        token_logprob read(const float *, size_t, int32_t, size_t) except +

# So many rows of logits are in memory at once.
ROWS = 32


def logprobs(Context context not None, text, top):
    """Do what :meth:`Context.logprobs` says."""
    cdef vector[llama_token] tokens
    cdef vector[token_logprob] found
    cdef vector[int8_t] wanted
    cdef logprob_reader reader
    cdef llama_batch batch
    cdef const float * row = NULL
    cdef int n_best = integer("top", top, 0, context.n_vocab)
    cdef int done = 0, n, i, last
    cdef int n_vocab = context.n_vocab
    # Held: what iterates over the tokens may close the context.
    cdef Vocab vocab = context.vocab
    if isinstance(text, (str, bytes)):
        vocab.collect(prompt_tokens(vocab, text), tokens)
    else:
        vocab.collect(text, tokens)
    n = <int> tokens.size()
    if n < 2:
        raise ValueError(f"there are {n} tokens; expected at least 2, as the first is given")
    context.prepare("decode")
    try:
        if context.attached:
            raise ValueError("a chain samples on the backend, which leaves no logits; set_sampler(seq_id, None) first")
        if context.mem is NULL:
            raise ValueError("the model only encodes, so no token comes behind another")
        if context.whole(False):
            raise ValueError("log probabilities need causal attention and embeddings that are not pooled")
        with nogil:
            llama_memory_seq_rm(context.mem, 0, -1, -1)
        context.epoch += 1
        context.check_room(n)
        wanted.assign(ROWS, 1)
        memset(&batch, 0, sizeof(batch))
        batch.logits = wanted.data()
        while done < n:
            batch.token = tokens.data() + done
            batch.n_tokens = min(ROWS, n - done, context.n_ubatch, context.n_outputs_max)
            context.check_input(batch.n_tokens, batch.n_tokens, done + batch.n_tokens - 1, False)
            context.compute(batch, batch.n_tokens, False)
            last = min(batch.n_tokens, n - 1 - done)
            with nogil:
                for i in range(last):
                    row = llama_get_logits_ith(context.ptr, i)
                    if row is NULL:
                        break
                    found.push_back(reader.read(row, n_vocab, tokens[done + i + 1], n_best))
            if last and row is NULL:
                raise ValueError("the context gives no logits: pass a model that generates text")
            done += batch.n_tokens
    finally:
        context.leave()
    result = []
    for i in range(n - 1):
        best = tuple([(found[i].best[k].first, found[i].best[k].second) for k in range(found[i].best.size())])
        result.append(TokenLogprob(found[i].token, found[i].logprob, best))
    return result
