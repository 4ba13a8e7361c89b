"""Samplers one after another, and the usual ones in a sane order."""

cimport cython
from llama cimport (
    import_llama_cy,
    llama_sampler_chain_add,
    llama_sampler_chain_default_params,
    llama_sampler_chain_get,
    llama_sampler_chain_init,
    llama_sampler_chain_n,
    llama_sampler_clone,
    llama_sampler_name,
)

from llama_cy.lifetime cimport SAMPLER, died
from llama_cy.sampler cimport Sampler

import_llama_cy()


# A collected cycle must not take `members` away before the chain has told them that it is gone.
@cython.no_gc_clear
cdef class SamplerChain(Sampler):
    """Samplers applied one after another. Wraps ``llama_sampler_chain_init``.

    Parameters
    ----------
    *samplers : Sampler
        In the order of use; each moves into the chain. The last one must select: ``greedy`` or ``dist``.
    """

    def __cinit__(self, *args, **kwargs):
        self.members = []

    def __init__(self, *samplers):
        if self.ptr is not NULL:
            raise TypeError("a SamplerChain is initialised once")
        self.own(llama_sampler_chain_init(llama_sampler_chain_default_params()))
        for sampler in samplers:
            self.add(sampler)

    def add(self, Sampler sampler not None):
        """Move a sampler to the end of the chain. Wraps ``llama_sampler_chain_add``.

        Parameters
        ----------
        sampler : Sampler
            Not in use, not closed and not in a chain.

        Returns
        -------
        SamplerChain
            Itself.
        """
        sampler.alive()
        if sampler is self:
            raise ValueError("a chain can't be added to itself")
        self.enter()
        try:
            sampler.enter()
            try:
                llama_sampler_chain_add(self.ptr, sampler.ptr)
                self.picker.plan.add(sampler.picker.plan)
                sampler.moved = True
                self.members.append(sampler)
                died(SAMPLER)
            finally:
                sampler.leave()
        finally:
            self.leave()
        return self

    cdef bint composed(self) noexcept:
        return True

    cdef void forget(self) noexcept:
        cdef Sampler member
        self.ptr = NULL
        for member in self.members:
            member.forget()

    def __dealloc__(self):
        # Here and not in the base, whose __dealloc__ runs when `members` is gone already.
        if self.ptr is not NULL:
            self.release()

    def clone(self):
        """Copy the chain, its samplers and their state. Wraps ``llama_sampler_clone``."""
        cdef SamplerChain twin = SamplerChain.__new__(SamplerChain)
        self.enter()
        try:
            twin.own(llama_sampler_clone(self.ptr))
            twin.picker = self.picker
        finally:
            self.leave()
        return twin

    def __len__(self):
        return llama_sampler_chain_n(self.alive())

    def __repr__(self):
        if self.ptr is NULL:
            return "<SamplerChain, closed>"
        steps = [llama_sampler_name(llama_sampler_chain_get(self.ptr, i)).decode() for i in range(len(self))]
        return f"<SamplerChain {' → '.join(steps) or 'empty'}>"


def sampling(*, temperature=0.8, top_k=40, top_p=0.95, min_p=0.05, repeat_penalty=1.0, frequency_penalty=0.0,
             presence_penalty=0.0, penalty_last_n=64, logit_bias=None, seed=None):  # fmt: skip
    """Build the usual chain, in an order that cuts before it sorts.

    bias → penalties → top-k → top-p → min-p → temperature → draw; what is turned off is left out.

    Parameters
    ----------
    temperature : float
        0 takes the most probable token each time.
    top_k, top_p, min_p, repeat_penalty, frequency_penalty, presence_penalty, penalty_last_n, logit_bias, seed
        As in the :class:`Sampler` of that name.

    Returns
    -------
    SamplerChain
    """
    steps = []
    if logit_bias:
        steps.append(Sampler.logit_bias(logit_bias))
    if repeat_penalty != 1.0 or frequency_penalty != 0.0 or presence_penalty != 0.0:
        steps.append(Sampler.penalties(penalty_last_n, repeat_penalty, frequency_penalty, presence_penalty))
    truncating = [Sampler.top_k(top_k), Sampler.top_p(top_p), Sampler.min_p(min_p), Sampler.temp(temperature)]
    if temperature == 0:
        return SamplerChain(*steps, Sampler.greedy())
    active = (top_k != 0, top_p != 1, min_p != 0, temperature != 1)
    steps += [step for step, on in zip(truncating, active) if on]
    return SamplerChain(*steps, Sampler.dist(seed))
