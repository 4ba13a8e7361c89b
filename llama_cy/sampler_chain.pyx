"""Samplers one after another, and the usual ones in a sane order."""

cimport cython
from llama cimport (
    import_llama_cy,
    llama_perf_sampler,
    llama_perf_sampler_data,
    llama_perf_sampler_reset,
    llama_sampler,
    llama_sampler_chain_add,
    llama_sampler_chain_default_params,
    llama_sampler_chain_get,
    llama_sampler_chain_init,
    llama_sampler_chain_n,
    llama_sampler_chain_params,
    llama_sampler_chain_remove,
)

from llama_cy.lifetime cimport SAMPLER, born, died
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_handle cimport SamplerHandle

from .checks import flag, integer
from .completion import SamplerPerf

import_llama_cy()

# Each chain in a chain takes some of the stack of whatever walks through them.
MAX_DEPTH = 64


# A collected cycle must not take `members` away before the chain has told them that it is gone.
@cython.no_gc_clear
cdef class SamplerChain(Sampler):
    """Samplers applied one after another. Wraps ``llama_sampler_chain_init``.

    Parameters
    ----------
    *samplers : Sampler
        In the order of use; each moves into the chain. One of the last must select: ``greedy``, ``dist``, ``mirostat``,
        ``mirostat_v2`` or ``adaptive_p``.
    no_perf : bool, optional
        Do not measure the time that they take; llama.cpp's default. Wraps ``llama_sampler_chain_default_params``.

    Notes
    -----
    ``len(chain)`` tells how many there are. Wraps ``llama_sampler_chain_n``.
    """

    def __cinit__(self, *args, **kwargs):
        self.members = []
        self.depth = 1

    def __init__(self, *samplers, no_perf=None):
        cdef llama_sampler_chain_params params = llama_sampler_chain_default_params()
        if self.ptr is not NULL:
            raise TypeError("a SamplerChain is initialised once")
        if no_perf is not None:
            params.no_perf = flag("no_perf", no_perf)
        self.no_perf = params.no_perf
        # A chain that was closed is without.
        self.members = []
        self.own(llama_sampler_chain_init(params))
        try:
            for sampler in samplers:
                self.add(sampler)
        except BaseException:
            # Whoever made them has them back.
            while self.members:
                self.remove(-1)
            raise

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

        Raises
        ------
        ValueError
            It is the chain itself, or made for another number of tokens than one in the chain, or the 64th chain in a chain.
        """
        sampler.alive()
        if sampler is self:
            raise ValueError("a chain can't be added to itself")
        self.enter()
        try:
            sampler.enter()
            try:
                if sampler.depth >= MAX_DEPTH:
                    raise ValueError(f"there are {sampler.depth} chains in one another; at most {MAX_DEPTH} can be")
                if self.n_vocab and sampler.n_vocab:
                    sampler.fits(self.n_vocab)
                self.members.append(sampler)
                try:
                    llama_sampler_chain_add(self.ptr, sampler.ptr)
                except BaseException:
                    self.members.pop()
                    raise
                # Whatever fails from here on, the chain frees it.
                sampler.moved = True
                died(SAMPLER, sampler.ptr)
                try:
                    self.picker.plan.add(sampler.picker.plan)
                finally:
                    self.refresh()
            finally:
                sampler.leave()
        finally:
            self.leave()
        return self

    cdef int refresh(self) except -1:
        """Gather what the members need."""
        cdef SamplerHandle member
        self.n_vocab = max([(<SamplerHandle> one).n_vocab for one in self.members], default=0)
        self.depth = 1 + max([(<SamplerHandle> one).depth for one in self.members], default=0)
        for member in self.members:
            self.picker.lost |= member.picker.lost
            self.custom |= member.custom
        return SamplerHandle.owned(self, self.ptr)

    cdef bint composed(self) noexcept:
        return True

    cdef int resemble(self, SamplerHandle other) except -1:
        cdef SamplerHandle member, twin
        cdef list members = (<SamplerChain> other).members
        # A copy keeps its members, which somebody may hold.
        for member in members[len(self.members):]:
            twin = type(member).__new__(type(member))
            twin.moved = True
            self.members.append(twin)
        for member, twin in zip(members, self.members):
            twin.resemble(member)
        self.n_vocab, self.custom, self.no_perf = other.n_vocab, other.custom, (<SamplerChain> other).no_perf
        self.depth = other.depth
        self.picker.resemble(other.picker)
        return 0

    cdef int owned(self, llama_sampler * ptr) except -1:
        """Show the members where C keeps them."""
        cdef SamplerHandle member
        cdef int i
        for i, member in enumerate(self.members):
            member.ptr = llama_sampler_chain_get(ptr, i)
            member.owned(member.ptr)
        return SamplerHandle.owned(self, ptr)

    cdef int index(self, object i) except -1:
        cdef int n = llama_sampler_chain_n(self.ptr)
        if not n:
            raise IndexError("the chain is empty")
        try:
            number = integer("i", i, -n, n - 1)
        except ValueError as error:
            raise IndexError(str(error)) from None
        return number + n if number < 0 else number

    def get(self, i):
        """Look at a sampler in the chain, which it stays in. Wraps ``llama_sampler_chain_get``.

        Parameters
        ----------
        i : int
            From 0, or from the end when negative.

        Returns
        -------
        Sampler
            It tells its name and seed.

        Raises
        ------
        IndexError
            There are not so many.
        """
        self.alive()
        cdef int number = self.index(i)
        cdef SamplerHandle member = self.members[number]
        member.ptr = llama_sampler_chain_get(self.ptr, number)
        return member

    def remove(self, i):
        """Move a sampler out of the chain again, with its state. Wraps ``llama_sampler_chain_remove``.

        Parameters
        ----------
        i : int
            As in :meth:`get`.

        Returns
        -------
        Sampler
            For use by itself or in another chain.
        """
        cdef SamplerHandle member
        cdef int number
        self.enter()
        try:
            number = self.index(i)
            member = self.members.pop(number)
            member.ptr = llama_sampler_chain_remove(self.ptr, number)
            member.moved = False
            member.picker.lost = self.picker.lost and member.picker.grammars.size()
            born(SAMPLER, member.ptr)
            self.picker.lost = self.custom = False
            self.picker.plan.distrust(b"a sampler was taken out")
            member.picker.plan.distrust(b"the sampler was in a chain")
            self.refresh()
        finally:
            self.leave()
        return member

    cdef void forget(self) noexcept:
        cdef SamplerHandle member
        self.ptr = NULL
        self.picker.grammars.clear()
        for member in self.members:
            member.forget()

    def __dealloc__(self):
        # Here and not in the base, whose __dealloc__ runs when `members` is gone already.
        if self.ptr is not NULL:
            self.release()

    def __len__(self):
        """Count the samplers. Wraps ``llama_sampler_chain_n``."""
        return llama_sampler_chain_n(self.alive())

    def __repr__(self):
        if self.ptr is NULL:
            return "<SamplerChain, closed>"
        steps = [self.members[i].name for i in range(llama_sampler_chain_n(self.ptr))]
        return f"<SamplerChain {' → '.join(steps) or 'empty'}>"

    def perf(self):
        """Return what it took since the start or the last :meth:`perf_reset`. Wraps ``llama_perf_sampler``.

        Returns
        -------
        SamplerPerf
        """
        cdef llama_perf_sampler_data data = llama_perf_sampler(self.alive())
        return SamplerPerf(data.t_sample_ms / 1e3, data.n_sample)

    def perf_reset(self):
        """Count from now on. Wraps ``llama_perf_sampler_reset``."""
        self.enter()
        try:
            llama_perf_sampler_reset(self.ptr)
        finally:
            self.leave()


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
