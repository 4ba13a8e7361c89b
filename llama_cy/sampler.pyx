"""From logits to a token."""

from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint32_t
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_DEFAULT_SEED,
    LLAMA_TOKEN_NULL,
    import_llama_cy,
    llama_logit_bias,
    llama_sampler,
    llama_sampler_clone,
    llama_sampler_free,
    llama_sampler_get_seed,
    llama_sampler_init_dist,
    llama_sampler_init_greedy,
    llama_sampler_init_logit_bias,
    llama_sampler_init_min_p,
    llama_sampler_init_penalties,
    llama_sampler_init_temp,
    llama_sampler_init_top_k,
    llama_sampler_init_top_p,
    llama_sampler_name,
    llama_token,
)

from llama_cy.abort cimport GUARD_GRAPH, guard, unguard
from llama_cy.context cimport Context
from llama_cy.lifetime cimport SAMPLER, born, died

import math
from collections.abc import Mapping

import numpy as np

from .checks import FLOAT32_MIN, INT32_MAX, UINT32_MAX, integer, real
from .errors import ClosedError, ContextBusyError, LlamaError
from .sampling_plan import SamplingPlan

import_llama_cy()


cdef Sampler created(llama_sampler * ptr):
    cdef Sampler sampler = Sampler.__new__(Sampler)
    sampler.own(ptr)
    return sampler


cdef Sampler known(llama_sampler * ptr, step_kind kind, str label, int64_t count=0, float value=0):
    """Own a sampler and remember what it does."""
    cdef Sampler sampler = created(ptr)
    cdef sampler_step step
    step.label, step.count, step.value = label.encode(), count, value
    step.kind = kind
    sampler.remember(step)
    return sampler


cdef class Sampler:
    """One step on the way from logits to a token: ``Sampler.top_k(40)``, ``Sampler.dist(seed=1)``, ….

    A sampler that is added to a :class:`SamplerChain` moves into it and can't be used by itself any more.
    """

    def __init__(self):
        raise TypeError("make a Sampler with Sampler.greedy(), Sampler.top_k(40), Sampler.dist(seed=1), …")

    cdef int own(self, llama_sampler * ptr) except -1:
        if ptr is NULL:
            raise LlamaError("llama.cpp could not create the sampler")
        cdef sampler_step step
        self.ptr = ptr
        born(SAMPLER)
        if not self.composed():
            step.label = llama_sampler_name(ptr)
            self.picker.plan.add(step)
        return 0

    cdef int remember(self, sampler_step step) except -1:
        # What has nothing to do is another sampler in llama.cpp, which says so in front of its name.
        if llama_sampler_name(self.ptr)[0] == b"?":
            step.kind = STEP_NOTHING
        self.picker.plan.only(step)
        return 0

    cdef bint composed(self) noexcept:
        """Whether the plan is that of the samplers in it."""
        return False

    cdef llama_sampler * alive(self) except NULL:
        if self.moved:
            raise ClosedError("the sampler was moved into a chain; use the chain")
        if self.ptr is NULL:
            raise ClosedError("the sampler is closed")
        return self.ptr

    cdef int enter(self) except -1:
        self.alive()
        if self.busy:
            raise ContextBusyError("the sampler is in use by another thread")
        self.busy = True
        guard(GUARD_GRAPH)
        return 0

    cdef void leave(self) noexcept:
        unguard()
        self.busy = False

    cdef void release(self) noexcept:
        cdef llama_sampler * ptr = self.ptr
        self.forget()
        if ptr is not NULL and not self.moved:
            with nogil:
                llama_sampler_free(ptr)
            died(SAMPLER)

    cdef void forget(self) noexcept:
        self.ptr = NULL

    def __dealloc__(self):
        if self.ptr is not NULL:
            self.release()

    def close(self):
        """Free the sampler; may be called again; one inside a chain lives on in it. Wraps ``llama_sampler_free``."""
        if self.ptr is NULL or self.moved:
            return
        self.enter()
        self.leave()
        self.release()

    @property
    def closed(self):
        """Whether it can't be used by itself any more: closed, or moved into a chain."""
        return self.ptr is NULL or self.moved

    def __bool__(self):
        return not self.closed

    def __enter__(self):
        self.alive()
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        if self.ptr is NULL:
            return f"<{type(self).__name__}, closed>"
        return f"<{type(self).__name__} {self.name}{', in a chain' if self.moved else ''}>"

    @staticmethod
    def greedy():
        """Take the most probable token. Wraps ``llama_sampler_init_greedy``."""
        return known(llama_sampler_init_greedy(), STEP_GREEDY, "greedy")

    @staticmethod
    def dist(seed=None):
        """Draw a token by its probability. Wraps ``llama_sampler_init_dist``.

        Parameters
        ----------
        seed : int, optional
            In ``[0, 2**32 - 2]``. By default one is drawn from the system's entropy, and another one at each reset;
            :attr:`seed` tells which.
        """
        return created(llama_sampler_init_dist(
            LLAMA_DEFAULT_SEED if seed is None else <uint32_t> integer("seed", seed, 0, UINT32_MAX - 1)))  # fmt: skip

    @staticmethod
    def top_k(k):
        """Keep the `k` most probable tokens; 0 keeps all. Wraps ``llama_sampler_init_top_k``.

        `k` = 0 leaves the whole vocabulary to the samplers behind, which then sort all of it: costly where the
        vocabulary is large. Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
        """
        cdef int32_t c_k = integer("k", k, 0, INT32_MAX)
        return known(llama_sampler_init_top_k(c_k), STEP_TOP_K if c_k else STEP_NOTHING, f"top_k({c_k})", c_k)

    @staticmethod
    def top_p(p, min_keep=1):
        """Keep the most probable tokens that sum to `p`, at least `min_keep`. Wraps ``llama_sampler_init_top_p``.

        Holtzman et al., arXiv:1904.09751.
        """
        cdef float c_p = real("p", p, 0, 1)
        return known(
            llama_sampler_init_top_p(c_p, integer("min_keep", min_keep, 1, INT32_MAX)), STEP_OTHER, f"top_p({p:g})")

    @staticmethod
    def min_p(p, min_keep=1):
        """Keep tokens with at least `p` times the highest probability. Wraps ``llama_sampler_init_min_p``."""
        cdef float c_p = real("p", p, 0, 1)
        cdef int32_t c_keep = integer("min_keep", min_keep, 1, INT32_MAX)
        return known(llama_sampler_init_min_p(c_p, c_keep), STEP_MIN_P, f"min_p({p:g})", c_keep, c_p)

    @staticmethod
    def temp(t):
        """Divide the logits by `t`; 0 keeps only the highest. Wraps ``llama_sampler_init_temp``."""
        cdef float c_t = real("t", t, 0)
        return known(llama_sampler_init_temp(c_t), STEP_TEMP, f"temp({t:g})", 0, c_t)

    @staticmethod
    def penalties(last_n=64, repeat=1.0, freq=0.0, present=0.0):
        """Make tokens less probable that came before. Wraps ``llama_sampler_init_penalties``.

        Parameters
        ----------
        last_n : int
            Look back so many accepted tokens, in ``[0, 2**20]``; 0 turns it off.
        repeat : float
            Divides a positive and multiplies a negative logit; above 0, and 1 turns it off.
        freq, present : float
            Subtracted for each time, and once, that the token came; 0 turns it off.
        """
        # Smaller ones are zero in 32 bits, and a logit would be divided by it.
        repeat = real("repeat", repeat, FLOAT32_MIN)
        # The CPU sampler has no use for the size of the vocabulary.
        cdef int32_t c_last_n = integer("last_n", last_n, 0, 2**20)
        return known(
            llama_sampler_init_penalties(INT32_MAX, c_last_n, repeat, real("freq", freq), real("present", present)),
            STEP_PENALTIES, "penalties", c_last_n)

    @staticmethod
    def logit_bias(biases):
        """Add to the logits of some tokens. Wraps ``llama_sampler_init_logit_bias``.

        Parameters
        ----------
        biases : dict of int to float
            Token to bias; ``-math.inf`` bans the token.
        """
        cdef vector[llama_logit_bias] items
        cdef llama_logit_bias item
        cdef sampler_step step
        cdef Sampler sampler
        if not isinstance(biases, Mapping):
            raise TypeError(f"logit_bias must be a mapping of tokens to numbers, not {type(biases).__name__}")
        for token, bias in dict(biases).items():
            item.token = integer("token", token, 0, INT32_MAX)
            item.bias = -INFINITY if bias == -math.inf else real(f"bias of token {token}", bias)
            items.push_back(item)
            step.tokens.push_back(item.token)
        sampler = created(llama_sampler_init_logit_bias(INT32_MAX, <int32_t> items.size(), items.data()))
        # llama.cpp adds both of two biases of one token, or one of them, as the candidates lie.
        step.kind = STEP_BIAS if len(set(step.tokens)) == len(step.tokens) else STEP_OTHER
        step.label = b"logit_bias"
        sampler.remember(step)
        return sampler

    @property
    def name(self):
        """What llama.cpp calls it. Wraps ``llama_sampler_name``."""
        if self.ptr is NULL:
            self.alive()
        return llama_sampler_name(self.ptr).decode()

    @property
    def seed(self):
        """The seed in use, or None where it draws nothing. Wraps ``llama_sampler_get_seed``."""
        cdef uint32_t seed = llama_sampler_get_seed(self.alive())
        return None if seed == LLAMA_DEFAULT_SEED else seed

    def accept(self, token):
        """Tell the sampler that a token was chosen. Wraps ``llama_sampler_accept``."""
        cdef llama_token c_token = integer("token", token, 0, INT32_MAX)
        self.enter()
        try:
            self.picker.accept(self.ptr, c_token)
        finally:
            self.leave()

    def reset(self):
        """Forget the tokens accepted, and draw from the start of the seed again. Wraps ``llama_sampler_reset``."""
        self.enter()
        try:
            self.picker.reset(self.ptr)
        finally:
            self.leave()

    def clone(self):
        """Copy the sampler with its state. Wraps ``llama_sampler_clone``."""
        cdef Sampler twin
        self.enter()
        try:
            twin = type(self).__new__(type(self))
            twin.handle = self.handle
            twin.own(llama_sampler_clone(self.ptr))
            twin.picker = self.picker
        finally:
            self.leave()
        return twin

    def sample(self, Context context not None, idx=-1):
        """Choose a token from a row of logits and accept it. Does what ``llama_sampler_sample`` does.

        Parameters
        ----------
        context : Context
            Holds the logits of its last decode.
        idx : int
            Index in the batch, or from the end of the rows when negative.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            The row has no logits, or no sampler in the chain selects a token.

        Notes
        -----
        It is the token that llama.cpp's own loop over the whole vocabulary would choose, found in less time where
        :attr:`plan` says so. Where logits tie exactly, llama.cpp's order is not defined, and either may be chosen.
        """
        cdef int32_t row = integer("idx", idx, -INT32_MAX, INT32_MAX)
        cdef const float * logits
        cdef llama_token token = LLAMA_TOKEN_NULL
        context.enter()
        try:
            self.enter()
            try:
                logits = context.row(row)
                with nogil:
                    token = self.choose(logits, context.n_vocab)
            finally:
                self.leave()
        finally:
            context.leave()
        return token

    def sample_logits(self, row):
        """Choose a token from logits of one's own and accept it, as :meth:`sample` does.

        Parameters
        ----------
        row : numpy.ndarray
            float32, shape ``(n_vocab,)``; it is not changed.

        Returns
        -------
        int

        Raises
        ------
        ValueError
            The row is empty or has a NaN or +inf, or no sampler in the chain selects a token.
        """
        cdef const float[::1] logits = logits_row("row", row)
        cdef llama_token token
        self.enter()
        try:
            with nogil:
                token = self.choose(&logits[0], <int32_t> logits.shape[0])
        finally:
            self.leave()
        return token

    cdef llama_token choose(self, const float * logits, int32_t n) except? LLAMA_TOKEN_NULL nogil:
        """Choose a token and accept it."""
        cdef llama_token token = self.picker.pick(self.ptr, logits, n)
        if token == LLAMA_TOKEN_NULL:
            with gil:
                raise ValueError("no sampler selected a token; end the chain with greedy() or dist()")
        self.picker.accept(self.ptr, token)
        return token

    @property
    def plan(self):
        """How tokens are chosen: in one pass over the logits, or by llama.cpp alone; a :class:`SamplingPlan`."""
        self.alive()
        cdef vector[sampler_step] steps = self.picker.plan.steps()
        cdef string reason = self.picker.plan.reason()
        cdef size_t head = self.picker.plan.head() if self.picker.plan.one_pass() else 0
        cdef size_t i
        labels = tuple([steps[i].label.decode() for i in range(steps.size())])
        return SamplingPlan(labels[:head], labels[head:], reason.decode())


def logits_row(name, row):
    """Return float32 logits as one contiguous row."""
    array = np.asarray(row)
    if array.dtype != np.float32:
        raise TypeError(f"{name} must be float32, not {array.dtype}")
    if array.ndim != 1 or not 0 < array.size <= INT32_MAX:
        raise ValueError(f"{name} has shape {array.shape}; one row of at least one logit is expected")
    return np.ascontiguousarray(array)
