"""Chains that sample where the model computes, a sequence each."""

cimport cython
from libcpp cimport bool
from llama cimport (
    import_llama_cy,
    llama_get_logits,
    llama_sampler,
    llama_sampler_chain_add,
    llama_sampler_chain_default_params,
    llama_sampler_chain_init,
    llama_sampler_chain_n,
    llama_sampler_chain_params,
    llama_sampler_chain_remove,
    llama_sampler_clone,
    llama_sampler_free,
    llama_set_sampler,
)

from llama_cy.context cimport Context
from llama_cy.context_handle cimport Attachment
from llama_cy.lifetime cimport SAMPLER, unused, used
from llama_cy.sampler_chain cimport SamplerChain
from llama_cy.sampler_failure cimport raise_failure, tell_failure
from llama_cy.sampler_handle cimport SamplerHandle

from . import log
from .errors import ContextError, LlamaError

import_llama_cy()

cdef extern from "kernels/sampler_tree.h" namespace "llama_cy" nogil:
    bool can_clone(llama_sampler * sampler) except +
    const char * sampler_name(const llama_sampler * sampler) except +


@cython.no_gc_clear
@cython.final
cdef class ChainAttachment(Attachment):
    """A chain that a context samples with, kept alive and kept to itself."""
    cdef SamplerChain chain

    cdef void end(self) noexcept:
        chain, self.chain = self.chain, None
        if chain is not None:
            (<SamplerChain> chain).user = NULL
            try:
                renew(chain)
            except BaseException as error:
                tell_failure(error, self)


cdef int renew(SamplerChain chain) except -1:
    """Make a chain one for the CPU again: what was prepared for a backend can't be prepared twice, nor sample here."""
    cdef llama_sampler_chain_params params = llama_sampler_chain_default_params()
    cdef llama_sampler * old = chain.ptr
    cdef llama_sampler * fresh
    cdef llama_sampler * member
    cdef llama_sampler * twin
    params.no_perf = chain.no_perf
    fresh = llama_sampler_chain_init(params)
    while llama_sampler_chain_n(old):
        member = llama_sampler_chain_remove(old, 0)
        if member.iface.backend_init is not NULL:
            twin = llama_sampler_clone(member)
            llama_sampler_free(member)
            member = twin
        llama_sampler_chain_add(fresh, member)
    unused(old)
    chain.ptr = fresh
    used(SAMPLER, fresh)
    chain.owned(fresh)
    llama_sampler_free(old)
    return raise_failure()


cdef int check_chain(Context context, SamplerChain chain) except -1:
    """Refuse what llama.cpp would assert on, or sample wrongly with."""
    cdef SamplerHandle member
    if not len(chain):
        raise ValueError("the chain is empty; expected at least one sampler")
    for member in chain.members:
        if isinstance(member, SamplerChain):
            raise ValueError("there is a chain in the chain; expected samplers only")
        name = sampler_name(member.ptr)
        if name in (b"penalties", b"logit-bias") and not member.n_vocab:
            raise ValueError(f"{name.decode()} needs to know the vocabulary; expected n_vocab={context.n_vocab} where it is made")
    chain.fits(context.n_vocab)
    if not can_clone(chain.ptr):
        raise LlamaError("the chain has a sampler that does not support cloning")
    return 0


def set_sampler(Context context not None, seq_id, SamplerChain chain):
    """Do what :meth:`Context.set_sampler` says."""
    cdef int seq = context.check_seq(seq_id, 0)
    cdef ChainAttachment attachment
    cdef bool on_backend
    context.enter()
    try:
        if context.mem is NULL or context.predicts:
            raise ContextError("this context generates no tokens, so there is nothing to sample")
        context.check_exports("change the sampler")
        if chain is not None:
            chain.enter()
            try:
                check_chain(context, chain)
            finally:
                chain.leave()
        if context.n_rows:
            # llama.cpp puts rows in order when one is asked for, and would look for what was sampled of each.
            with nogil:
                llama_get_logits(context.ptr)
        detach(context, seq)
        if chain is None:
            return
        attachment = ChainAttachment.__new__(ChainAttachment)
        attachment.chain = chain
        log.begin()
        context.computing.due = True
        try:
            with nogil:
                on_backend = llama_set_sampler(context.ptr, seq, chain.ptr)
        except RuntimeError as error:
            attachment.end()
            raise ContextError(f"llama.cpp can't sample with this chain: {error}", log=log.tail()) from None
        if not on_backend:
            raise ContextError("the backend can't sample with this chain", log=log.tail())
        chain.user = <void *> context
        context.attached[seq] = attachment
    finally:
        context.leave()


cdef int detach(Context context, int seq) except -1:
    if context.attached is None:
        context.attached = {}
    # Of what was sampled there are no logits.
    cdef bint sampled = seq in context.attached and any([context.sampled_rows(row) for row in range(context.n_rows)])
    attachment = context.attached.pop(seq, None)
    if attachment is not None:
        if sampled:
            context.n_rows = 0
        context.computing.due = True
        with nogil:
            llama_set_sampler(context.ptr, seq, NULL)
        (<Attachment> attachment).end()
    return 0


def samplers_of(Context context not None):
    """Do what :attr:`Context.samplers` says."""
    context.alive()
    return {seq: (<ChainAttachment> one).chain for seq, one in (context.attached or {}).items()}
