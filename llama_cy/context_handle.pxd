from libc.stdint cimport uint64_t
from libcpp cimport bool
from llama cimport llama_context

from llama_cy.abort_callback cimport AbortCallback
from llama_cy.atomic cimport atomic_bool
from llama_cy.computation cimport computation
from llama_cy.eval_callback cimport Watch
from llama_cy.handle cimport ModelHandle
from llama_cy.threadpool cimport Threadpool
from llama_cy.vocab cimport Vocab


cdef extern from "kernels/ahead.h" namespace "llama_cy" nogil:
    cdef cppclass decoding_ahead:
        void stop()
        bool beyond()


cdef bool should_abort(void * context) noexcept nogil
cdef int check_stack() except -1


cdef class Attachment:
    """Something that the native context refers to until it is freed."""
    cdef void end(self) noexcept


cdef class ContextHandle:
    cdef llama_context * ptr
    cdef ModelHandle handle
    cdef Vocab own_vocab
    cdef Threadpool pool
    cdef Threadpool pool_batch
    # Pools of before, which llama.cpp puts to sleep at the next computation, and whether there was one.
    cdef list retired
    cdef bint computed
    cdef bint busy
    # Of the process that made it.
    cdef int generation
    # What threw in C++ left nobody knows what behind.
    cdef bint broken
    cdef int exports
    # Counts what changed the memory, so that a loop notices when another use came between.
    cdef uint64_t epoch
    cdef atomic_bool cancelled
    # Keeps a computation from reading the model's adapters while they change.
    cdef computation computing
    cdef Watch watch
    cdef AbortCallback abort
    # The pairs of adapter and scale, and the handles that C computes with.
    cdef tuple adapters
    # The pairs of control vector and scale, and the layers that they act on.
    cdef tuple control
    # The thread of a loop that decodes ahead of its caller, and whether the memory is beyond what the caller saw.
    cdef decoding_ahead * ahead
    cdef bint unsettled
    # What samples on the backend, by sequence.
    cdef dict attached
    # It trains its model, with graphs that know no text before the batch.
    cdef bint trains
    # By sequence, what marks the snapshot that the device keeps, and its bytes there.
    cdef dict on_device
    # Tells its own snapshots from those of others.
    cdef object mark
    # The context whose memory it shares, and those that share its own.
    cdef ContextHandle other
    cdef object drafts
    cdef object __weakref__

    cdef int own(self, llama_context * ptr, ModelHandle handle) except -1
    cdef llama_context * alive(self) except NULL
    cdef int enter(self) except -1
    cdef int enter_unsettled(self) except -1
    cdef int settle(self) except -1
    cdef void halt(self) noexcept
    cdef bint forked(self) noexcept
    cdef int check_fork(self) except -1
    cdef void leave(self) noexcept
    cdef int retire(self) except -1
    cdef int join(self, ContextHandle other) except -1
    cdef int check_own_memory(self) except -1
    cdef int check_exports(self, str action) except -1
    cdef void release(self) noexcept
    cdef bint stopped(self) noexcept nogil
    cdef int resume(self) except -1
