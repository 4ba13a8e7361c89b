"""The tokens a context remembers, by sequence and position."""

cimport cython
from libcpp cimport bool
from llama cimport (
    import_llama_cy,
    llama_memory_can_shift,
    llama_memory_clear,
    llama_memory_seq_add,
    llama_memory_seq_cp,
    llama_memory_seq_div,
    llama_memory_seq_keep,
    llama_memory_seq_pos_max,
    llama_memory_seq_pos_min,
    llama_memory_seq_rm,
    llama_model_is_hybrid,
    llama_model_is_recurrent,
)

from llama_cy.context cimport Context

from .checks import INT32_MAX, integer
from .errors import ContextError

import_llama_cy()


@cython.final
cdef class Memory:
    """A view of ``context.memory``; positions are half-open ranges, and -1 as an end means without end.

    Every method raises :class:`ContextError` where the model has no memory (an encoder).
    """
    cdef Context context

    def __cinit__(self, Context context not None):
        self.context = context

    def __repr__(self):
        return f"<Memory of {self.context!r}>"

    cdef int enter(self) except -1:
        self.context.enter()
        if self.context.mem is NULL:
            self.context.leave()
            raise ContextError("this model has no memory: it only encodes")
        return 0

    cdef int change(self) except -1:
        self.context.check_own_memory()
        self.enter()
        self.context.epoch += 1
        return 0

    def clear(self, bint data=True):
        """Forget all sequences. Wraps ``llama_memory_clear``.

        Parameters
        ----------
        data : bool
            Also zero the buffers.
        """
        self.change()
        try:
            with nogil:
                llama_memory_clear(self.context.mem, data)
            self.context.encoded = self.context.shift_deferred = False
        finally:
            self.context.leave()

    def seq_rm(self, seq_id, p0=-1, p1=-1):
        """Forget the positions ``[p0, p1)`` of a sequence. Wraps ``llama_memory_seq_rm``.

        Parameters
        ----------
        seq_id : int
            -1 for every sequence.
        p0, p1 : int
            -1 for the start and the end.

        Returns
        -------
        bool
            False where the memory can't forget a part: recurrent models remember a summary of all tokens.
        """
        cdef int seq = self.context.check_seq(seq_id, -1)
        cdef int start = integer("p0", p0, -1, INT32_MAX)
        cdef int end = integer("p1", p1, -1, INT32_MAX)
        cdef bool done
        self.change()
        try:
            with nogil:
                done = llama_memory_seq_rm(self.context.mem, seq, start, end)
        finally:
            self.context.leave()
        return done

    def seq_cp(self, seq_id_src, seq_id_dst, p0=-1, p1=-1):
        """Let another sequence share the positions ``[p0, p1)`` of one. Wraps ``llama_memory_seq_cp``.

        A part of a sequence can be shared where one memory of attention serves all: with ``kv_unified=True``, and not
        in recurrent or hybrid models. Elsewhere only whole sequences can (``p0=-1, p1=-1``), and the copy replaces what
        the other held.
        """
        cdef int source = self.context.check_seq(seq_id_src, 0)
        cdef int target = self.context.check_seq(seq_id_dst, 0)
        cdef int start = integer("p0", p0, -1, INT32_MAX)
        cdef int end = integer("p1", p1, -1, INT32_MAX)
        self.change()
        try:
            if source == target:
                return
            if not self.shares_cells():
                if start > 0 or 0 <= end <= llama_memory_seq_pos_max(self.context.mem, source):
                    raise ValueError(
                        f"seq_cp of [{start}, {end}): a part of a sequence can be shared with kv_unified=True only, and "
                        "not in recurrent and hybrid models"
                    )
                start = end = -1
                # The attention of a hybrid would keep what its recurrent layers forget.
                llama_memory_seq_rm(self.context.mem, target, -1, -1)
            with nogil:
                llama_memory_seq_cp(self.context.mem, source, target, start, end)
            self.context.copy_deferred |= self.context.bounded and not self.context.unified
        finally:
            self.context.leave()

    cdef bint shares_cells(self):
        """Whether one entry of memory may belong to many sequences."""
        return self.context.unified and not (
            llama_model_is_hybrid(self.context.handle.ptr) or llama_model_is_recurrent(self.context.handle.ptr)
        )

    def seq_keep(self, seq_id):
        """Forget every other sequence. Wraps ``llama_memory_seq_keep``."""
        cdef int seq = self.context.check_seq(seq_id, 0)
        cdef int other
        self.change()
        try:
            with nogil:
                llama_memory_seq_keep(self.context.mem, seq)
                # Between separate memories llama.cpp looks at the one of this sequence only.
                for other in range(self.context.n_seq_max):
                    if other != seq:
                        llama_memory_seq_rm(self.context.mem, other, -1, -1)
        finally:
            self.context.leave()

    def seq_add(self, seq_id, p0, p1, delta):
        """Shift the positions ``[p0, p1)`` of a sequence by `delta`. Wraps ``llama_memory_seq_add``.

        Raises
        ------
        ContextError
            :attr:`can_shift` is False.
        ValueError
            A position would leave ``[0, 2**31)``.
        """
        cdef int seq = self.context.check_seq(seq_id, 0)
        cdef int start = integer("p0", p0, -1, INT32_MAX)
        cdef int end = integer("p1", p1, -1, INT32_MAX)
        cdef int shift = integer("delta", delta, -INT32_MAX, INT32_MAX)
        self.change()
        try:
            self.check_shift()
            if shift > 0 and llama_memory_seq_pos_max(self.context.mem, seq) > INT32_MAX - shift:
                raise ValueError(f"delta {shift} moves a position beyond {INT32_MAX}")
            with nogil:
                llama_memory_seq_add(self.context.mem, seq, start, end, shift)
            self.context.shift_deferred |= self.context.bounded
        finally:
            self.context.leave()

    def seq_div(self, seq_id, p0, p1, d):
        """Divide the positions ``[p0, p1)`` of a sequence by `d`. Wraps ``llama_memory_seq_div``."""
        cdef int seq = self.context.check_seq(seq_id, 0)
        cdef int start = integer("p0", p0, -1, INT32_MAX)
        cdef int end = integer("p1", p1, -1, INT32_MAX)
        cdef int divisor = integer("d", d, 1, INT32_MAX)
        self.change()
        try:
            self.check_shift()
            with nogil:
                llama_memory_seq_div(self.context.mem, seq, start, end, divisor)
            self.context.shift_deferred |= self.context.bounded
        finally:
            self.context.leave()

    cdef int check_shift(self) except -1:
        if not llama_memory_can_shift(self.context.mem):
            raise ContextError("the memory of this model can't shift positions")
        return 0

    def seq_pos_min(self, seq_id=0):
        """Return the lowest position of a sequence, -1 when it is empty. Wraps ``llama_memory_seq_pos_min``."""
        cdef int seq = self.context.check_seq(seq_id, 0)
        self.enter()
        try:
            return llama_memory_seq_pos_min(self.context.mem, seq)
        finally:
            self.context.leave()

    def seq_pos_max(self, seq_id=0):
        """Return the highest position of a sequence, -1 when it is empty. Wraps ``llama_memory_seq_pos_max``."""
        cdef int seq = self.context.check_seq(seq_id, 0)
        self.enter()
        try:
            return llama_memory_seq_pos_max(self.context.mem, seq)
        finally:
            self.context.leave()

    @property
    def can_shift(self):
        """Whether positions can be shifted. Wraps ``llama_memory_can_shift``."""
        self.enter()
        try:
            return llama_memory_can_shift(self.context.mem)
        finally:
            self.context.leave()
