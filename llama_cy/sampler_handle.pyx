"""A native sampler: owned, used by one thread at a time, with what goes wrong in it as exceptions."""

cimport cython
from libc.stdint cimport int32_t, uint32_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_DEFAULT_SEED,
    import_llama_cy,
    llama_context,
    llama_sampler,
    llama_sampler_clone,
    llama_sampler_copy,
    llama_sampler_free,
    llama_sampler_get_seed,
    llama_token,
)

from llama_cy.abort cimport GUARD_GRAPH, guard, unguard
from llama_cy.context cimport Context
from llama_cy.lifetime cimport SAMPLER, born, died
from llama_cy.sampler_failure cimport n_failures, raise_failure, tell_kept

import numpy as np

from .checks import INT32_MAX, integer
from .errors import ClosedError, ContextBusyError, GrammarError, LlamaError
from .sampling_plan import SamplingPlan

import_llama_cy()

cdef extern from "kernels/pick.h" namespace "llama_cy" nogil:
    int SAMPLE_OK, SAMPLE_NOTHING_LEFT, SAMPLE_REFUSED, SAMPLE_LOST, SAMPLE_AMBIGUOUS, SAMPLE_THREW
    int pick_token "llama_cy::choose" (token_picker & picker, llama_sampler * sampler, const float * logits, int32_t n,
                                       llama_token & token, string & thrown) noexcept
    int take_token "llama_cy::take" (
        token_picker & picker, llama_sampler * sampler, llama_token token, string & thrown) noexcept

cdef extern from "kernels/sample_on_backend.h" namespace "llama_cy" nogil:
    int sample_on_backend(
        token_picker & picker, llama_sampler * sampler, llama_context * context, int row, llama_token & token,
        string & thrown) noexcept

cdef extern from "kernels/sampler_tree.h" namespace "llama_cy" nogil:
    const char * sampler_name(const llama_sampler * sampler) except +
    void forget_pending(llama_sampler * sampler) except +
    bool can_clone(llama_sampler * sampler) except +
    bool same_kind(llama_sampler * a, llama_sampler * b) except +


# A collected cycle must not take away what C refers to.
@cython.no_gc_clear
cdef class SamplerHandle:
    """Owner of one ``llama_sampler *``; what a :class:`Sampler` is apart from its kinds."""

    cdef int own(self, llama_sampler * ptr) except -1:
        cdef sampler_step step
        if ptr is NULL:
            raise LlamaError("llama.cpp could not create the sampler")
        self.ptr = ptr
        born(SAMPLER, ptr)
        if not self.composed():
            step.name(sampler_name(ptr))
            self.picker.plan.add(step)
        return self.owned(ptr)

    cdef int owned(self, llama_sampler * ptr) except -1:
        """Look at what is inside; a chain also at its members."""
        self.picker.find_grammars(ptr)
        return 0

    cdef int remember(self, sampler_step & step) except -1:
        # What has nothing to do is another sampler in llama.cpp, which says so in front of its name.
        if sampler_name(self.ptr)[0] == b"?":
            step.kind = STEP_NOTHING
        self.picker.plan.only(step)
        return 0

    cdef bint composed(self) noexcept:
        """Whether the plan is that of the samplers in it."""
        return False

    cdef int resemble(self, SamplerHandle other) except -1:
        """Keep alive what another one keeps, whose clone this is to be."""
        self.handle, self.kept, self.n_vocab, self.custom = other.handle, other.kept, other.n_vocab, other.custom
        self.depth = other.depth
        self.picker.resemble(other.picker)
        return 0

    cdef llama_sampler * alive(self) except NULL:
        if self.moved:
            raise ClosedError("the sampler was moved into a chain; use the chain")
        if self.ptr is NULL:
            raise ClosedError("the sampler is closed")
        return self.ptr

    cdef int enter(self) except -1:
        return self.enter_for(NULL)

    cdef int enter_for(self, void * context) except -1:
        """Enter the sampler, in the course of a context's work if one is given."""
        self.alive()
        if self.user is not NULL and self.user != context:
            raise ContextBusyError("a context samples with the chain; set_sampler(seq_id, None) gives it back")
        if self.busy:
            raise ContextBusyError("the sampler is in use by another thread")
        # C code that called a sampler did not look.
        tell_kept(self)
        self.busy = True
        self.uses += 1
        guard(GUARD_GRAPH)
        return 0

    cdef void leave(self) noexcept:
        unguard()
        self.busy = False

    cdef void release(self) noexcept:
        cdef llama_sampler * ptr = self.ptr
        self.forget()
        if ptr is not NULL and not self.moved:
            died(SAMPLER, ptr)
            with nogil:
                llama_sampler_free(ptr)
        self.kept = None

    cdef void forget(self) noexcept:
        self.ptr = NULL
        self.picker.grammars.clear()

    def __dealloc__(self):
        if self.ptr is not NULL:
            self.release()

    cdef int fits(self, int n_vocab) except -1:
        if self.n_vocab and self.n_vocab != n_vocab:
            raise ValueError(
                f"the sampler was made for a vocabulary of {self.n_vocab} tokens, and this one has {n_vocab}"
            )
        return 0

    cdef llama_token choose(self, const float * logits, int32_t n_vocab) except? -1 nogil:
        """Choose a token from a row of logits and accept it."""
        cdef llama_token token = -1
        cdef int code
        if self.n_vocab and self.n_vocab != n_vocab:
            with gil:
                self.fits(n_vocab)
        code = pick_token(self.picker, self.ptr, logits, n_vocab, token, self.thrown)
        if code != SAMPLE_OK or n_failures:
            with gil:
                self.failed(code, self.thrown)
        self.take(token)
        return token

    cdef llama_token choose_sampled(self, llama_context * context, int32_t row) except? -1 nogil:
        """Choose a token of a row that was sampled on the backend, wholly or in part, and accept it."""
        cdef llama_token token = -1
        cdef int code = sample_on_backend(self.picker, self.ptr, context, row, token, self.thrown)
        if code != SAMPLE_OK or n_failures:
            with gil:
                self.failed(code, self.thrown)
        return token

    cdef int take(self, llama_token token) except -1 nogil:
        """Tell the samplers that a token was chosen."""
        cdef int code = take_token(self.picker, self.ptr, token, self.thrown)
        if code != SAMPLE_OK or n_failures:
            with gil:
                self.failed(code, self.thrown)
        return 0

    cdef int failed(self, int code, bytes what) except -1:
        """Raise the exception for what sampling came to, if it is one."""
        raise_failure()
        if code == SAMPLE_OK:
            return 0
        text = what.decode("utf-8", "replace")
        if code in (SAMPLE_REFUSED, SAMPLE_LOST, SAMPLE_AMBIGUOUS) or code == SAMPLE_NOTHING_LEFT and self.picker.grammars.size():
            raise GrammarError(text)
        if code == SAMPLE_THREW:
            raise LlamaError(f"llama.cpp could not sample: {text}")
        raise ValueError(text)

    cdef int restart(self) except -1:
        with nogil:
            self.picker.reset(self.ptr)
        if n_failures:
            raise_failure()
        return 0

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

    @property
    def name(self):
        """What llama.cpp calls it. Wraps ``llama_sampler_name``."""
        if self.ptr is NULL:
            self.alive()
        return sampler_name(self.ptr).decode("utf-8", "replace")

    @property
    def seed(self):
        """The seed in use, or None where it draws nothing or does not tell. Wraps ``llama_sampler_get_seed``."""
        if self.ptr is NULL:
            self.alive()
        cdef uint32_t seed = llama_sampler_get_seed(self.ptr)
        return None if seed == LLAMA_DEFAULT_SEED else seed

    def accept(self, token):
        """Tell the sampler that a token was chosen. Wraps ``llama_sampler_accept``.

        Raises
        ------
        GrammarError
            A grammar does not allow it; nothing has changed then.
        """
        cdef llama_token c_token = integer("token", token, 0, self.n_vocab - 1 if self.n_vocab else INT32_MAX)
        self.enter()
        try:
            self.take(c_token)
        finally:
            self.leave()

    def reset(self):
        """Forget the tokens accepted, and draw from the start of the seed again. Wraps ``llama_sampler_reset``."""
        self.enter()
        try:
            self.restart()
        finally:
            self.leave()

    def clone(self):
        """Copy the sampler with its state. Wraps ``llama_sampler_clone``.

        Raises
        ------
        LlamaError
            It was made of a C function table that has no ``clone``.
        """
        cdef SamplerHandle twin = type(self).__new__(type(self))
        cdef llama_sampler * ptr
        self.enter()
        try:
            if not can_clone(self.ptr):
                raise LlamaError(f"the sampler {self.name!r} does not support cloning")
            with nogil:
                ptr = llama_sampler_clone(self.ptr)
                forget_pending(ptr)
            twin.own(ptr)
            twin.resemble(self)
            twin.owned(ptr)
            if n_failures:
                raise_failure()
        finally:
            self.leave()
        return twin

    def copy(self, SamplerHandle src not None):
        """Take over the state of another sampler of the same kind. Wraps ``llama_sampler_copy``.

        Parameters
        ----------
        src : Sampler
            Made like this one; a chain of the same kinds for a chain. It stays as it is.

        Raises
        ------
        ValueError
            It is of another kind.
        """
        if src is self:
            self.alive()
            return
        self.enter()
        try:
            src.enter()
            try:
                if not same_kind(self.ptr, src.ptr):
                    raise ValueError(f"{self!r} can't take over the state of {src!r}: they are not of the same kind")
                if not can_clone(src.ptr):
                    raise LlamaError(f"the sampler {src.name!r} does not support cloning")
                with nogil:
                    llama_sampler_copy(src.ptr, self.ptr)
                    forget_pending(self.ptr)
                self.resemble(src)
                self.owned(self.ptr)
                if n_failures:
                    raise_failure()
            finally:
                src.leave()
        finally:
            self.leave()

    def apply(self, candidates):
        """Let the sampler change candidates, without accepting one. Wraps ``llama_sampler_apply``.

        Parameters
        ----------
        candidates : Candidates
        """
        from .sampler_custom import apply

        apply(self, candidates)

    def sample(self, Context context not None, idx=-1):
        """Choose a token from a row of logits and accept it. Does what ``llama_sampler_sample`` does.

        A chain that :meth:`Context.set_sampler` gave to the context takes what was sampled on the backend. Wraps
        ``llama_sampler_sample``.

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
            The row has no logits, no sampler in the chain selects a token, or nothing is left to select.
        GrammarError
            A grammar allows none of the tokens that are left.

        Notes
        -----
        It is the token that llama.cpp's own loop over the whole vocabulary would choose, found in less time where
        :attr:`plan` says so. Where logits tie exactly, llama.cpp's order is not defined, and either may be chosen.
        """
        cdef int32_t row = integer("idx", idx, -INT32_MAX, INT32_MAX)
        cdef const float * logits
        cdef llama_token token
        context.enter()
        try:
            self.enter_for(<void *> context)
            try:
                if self.user is NULL:
                    logits = context.row(row)
                elif not context.sampled_rows(row):
                    raise ValueError(f"row {row} was not sampled on the backend")
                with nogil:
                    if self.user is NULL:
                        token = self.choose(logits, context.n_vocab)
                    else:
                        token = self.choose_sampled(context.ptr, row)
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

    @property
    def plan(self):
        """How tokens are chosen: in one pass over the logits, or by llama.cpp alone; a :class:`SamplingPlan`."""
        self.alive()
        cdef const vector[sampler_step] * steps = &self.picker.plan.steps()
        cdef bytes reason = self.picker.plan.reason()
        cdef size_t head = self.picker.plan.head() if self.picker.plan.one_pass() else 0
        cdef size_t i
        labels = tuple([(<bytes> steps[0][i].label).decode() for i in range(steps.size())])
        if self.user is not NULL:
            return SamplingPlan((), labels, "a context samples with it on the backend, as far as that can")
        return SamplingPlan(labels[:head], labels[head:], reason.decode())


def logits_row(name, row):
    """Return float32 logits as one contiguous row."""
    array = np.asarray(row)
    if array.dtype != np.float32:
        raise TypeError(f"{name} must be float32, not {array.dtype}")
    if array.ndim != 1 or not 0 < array.size <= INT32_MAX:
        raise ValueError(f"{name} has shape {array.shape}; one row of at least one logit is expected")
    return np.ascontiguousarray(array)
