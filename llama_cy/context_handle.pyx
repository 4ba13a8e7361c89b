"""A native context: owned, used by one thread at a time, and never freed under its user."""

cimport cython
from libcpp cimport bool
from llama cimport (
    import_llama_cy,
    llama_attach_threadpool,
    llama_context,
    llama_detach_threadpool,
    llama_free,
    llama_n_threads,
    llama_n_threads_batch,
    llama_set_abort_callback,
    llama_set_n_threads,
    llama_synchronize,
)

from llama_cy.abort cimport GUARD_GRAPH, device_lost, guard, unguard
from llama_cy.abort_callback cimport AbortCallback, on_abort
from llama_cy.handle cimport ModelHandle
from llama_cy.lifetime cimport CONTEXT, begin_free, born, check_exit, close_at_exit, died, end_free, generation
from llama_cy.threadpool cimport Threadpool

import time
import weakref

from .checks import integer
from .errors import ClosedError, ContextBusyError, ContextError
from .threadpool import MAX_THREADS

import_llama_cy()

cdef extern from "kernels/deep_stack.h" namespace "llama_cy" nogil:
    size_t stack_left()

# Graphs are built within 90 KiB or so.
cdef size_t LEAST_STACK = 128 * 1024


cdef int check_stack() except -1:
    """Refuse to compute where the stack would end in the middle of it."""
    cdef size_t left = stack_left()
    # None is left where the system does not know the stack.
    if 0 < left < LEAST_STACK:
        raise ContextError(
            f"{left} bytes of this thread's stack are left, and a context needs {LEAST_STACK}: "
            "call threading.stack_size() with more before the thread starts"
        )
    return 0


cdef bool should_abort(void * context) noexcept nogil:
    (<ContextHandle> context).computing.has_read()
    return (<ContextHandle> context).cancelled.load()


cdef class Attachment:
    """Something that the native context refers to until it is freed."""

    cdef void end(self) noexcept:
        """Let go: the context is gone, or refers to it no more."""


# Freeing the context needs the weights, so a collected cycle must not take `handle` away first.
@cython.no_gc_clear
cdef class ContextHandle:
    """Owner of one ``llama_context *``; what a :class:`Context` is apart from its computations."""

    def __cinit__(self, *args, **kwargs):
        self.cancelled.store(False)

    cdef int own(self, llama_context * ptr, ModelHandle handle) except -1:
        self.ptr = ptr
        self.handle = handle
        self.generation = generation()
        self.computing.join(handle.gate())
        born(CONTEXT, ptr)
        close_at_exit(self, 0)
        return 0

    cdef int join(self, ContextHandle other) except -1:
        """Share the memory of another context, which must not go before this one."""
        self.other = other
        if other is not None:
            other.drafts = weakref.WeakSet() if other.drafts is None else other.drafts
            other.drafts.add(self)
        return 0

    cdef llama_context * alive(self) except NULL:
        if self.ptr is NULL:
            check_exit()
            raise ClosedError("the context is closed")
        return self.ptr

    cdef int enter(self) except -1:
        check_stack()
        self.enter_unsettled()
        if self.ahead is not NULL or self.unsettled:
            try:
                self.halt()
                self.settle()
            except BaseException:
                self.leave()
                raise
        return 0

    cdef int settle(self) except -1:
        """Bring the memory back to what the caller of a loop saw."""
        return 0

    cdef void halt(self) noexcept:
        """End the thread that decodes ahead."""
        cdef decoding_ahead * ahead = self.ahead
        # A loop may go while nobody else uses the context, and nobody may begin to until its thread is gone.
        cdef bint idle = not self.busy
        if ahead is NULL:
            return
        if not self.forked():
            self.busy = True
            with nogil:
                ahead.stop()
            if idle:
                self.busy = False
        # Another thread may have done it, and freed it, meanwhile.
        if self.ahead == ahead:
            self.unsettled = not self.forked() and ahead.beyond()
            self.ahead = NULL

    cdef bint forked(self) noexcept:
        """Whether this is a child of the process that made it, whose threads are not here."""
        return self.generation != generation()

    cdef int check_fork(self) except -1:
        if self.forked():
            raise ContextError(
                "the context was made before this process was forked, and its threads stayed in the other one; make one here")
        return 0

    cdef int enter_unsettled(self) except -1:
        check_exit()
        self.alive()
        self.check_fork()
        if self.busy:
            raise ContextBusyError("the context is in use by another thread")
        if self.broken:
            raise ContextError("llama.cpp threw in a computation of this context; it can only be closed")
        if self.other is not None:
            # Nobody may change the keys and values that this one computes with.
            self.other.enter()
        self.busy = True
        guard(GUARD_GRAPH)
        return 0

    cdef void leave(self) noexcept:
        unguard()
        self.busy = False
        if self.retired is not None and self.computed:
            for pool in self.retired:
                if pool is not self.pool and pool is not self.pool_batch:
                    (<Threadpool> pool).user = None
            self.retired = None
        if self.other is not None:
            self.other.leave()

    cdef int check_own_memory(self) except -1:
        """Refuse what needs a memory that no other context owns."""
        if self.other is not None:
            raise ContextError("the memory is that of ctx_other: use it there")
        return 0

    cdef void release(self) noexcept:
        cdef llama_context * ptr = self.ptr
        self.halt()
        self.ptr = NULL
        if ptr is not NULL:
            died(CONTEXT, ptr)
            # In a forked child it waits for threads that there are not; the system takes the memory back.
            if self.generation == generation():
                begin_free()
                with nogil:
                    if not device_lost(self.handle.offloaded):
                        llama_free(ptr)
                end_free()
        attached, self.attached = self.attached, None
        if attached:
            for one in attached.values():
                (<Attachment> one).end()
        self.pool = self.pool_batch = self.retired = None
        self.watch = None
        self.abort = None
        self.adapters = self.control = None
        self.handle = None
        self.own_vocab = None

    cdef bint stopped(self) noexcept nogil:
        """Whether the eval callback ended the computation, or what the abort callback raised."""
        return self.watch is not None and self.watch.stopped or self.abort is not None and self.abort.stopped

    cdef int resume(self) except -1:
        """Be ready for the next computation, and raise what a callback raised in this one."""
        if self.abort is not None:
            self.abort.resume()
        if self.watch is not None:
            self.watch.resume()
        return 0

    def __dealloc__(self):
        self.release()

    def _close_at_exit(self):
        # A daemon thread may be decoding; it gets a moment to notice, and nothing is freed under it.
        self.cancelled.store(True)
        deadline = time.monotonic() + 2
        while self.busy and self.generation == generation() and time.monotonic() < deadline:
            time.sleep(0.001)
        for one in list(self.drafts or ()):
            one._close_at_exit()
        # Nothing reads a view any more, and a GPU's teardown would abort on a context that is left.
        if not self.busy:
            self.release()

    def close(self):
        """Free the memory at once; may be called again. Wraps ``llama_free``.

        A context that shares it (``ctx_other``) is closed first.

        Raises
        ------
        ContextBusyError
            Another thread is decoding.
        BufferError
            A view of logits is still in use.
        """
        if self.ptr is NULL:
            return
        if self.generation != generation():
            self.release()
            return
        for one in list(self.drafts or ()):
            one.close()
        self.broken = False
        self.enter_unsettled()
        try:
            self.check_exports("close the context")
            self.release()
        finally:
            self.leave()
        self.other = None

    @property
    def vocab(self):
        """The model's :class:`Vocab`."""
        self.alive()
        return self.own_vocab

    @property
    def closed(self):
        """Whether :meth:`close` was called."""
        return self.ptr is NULL

    def __bool__(self):
        return self.ptr is not NULL

    def __enter__(self):
        self.alive()
        return self

    def __exit__(self, *_):
        self.close()

    cdef int check_exports(self, str action) except -1:
        """Refuse what would change logits that a view shows."""
        if self.exports:
            raise BufferError(f"cannot {action} while {self.exports} views of its logits are in use")
        return 0

    def cancel(self):
        """End the decode or loop that another thread runs on this context; it may be called from any thread.

        On the CPU it ends within the operation at hand, on a GPU with the micro-batch at hand.
        """
        self.alive()
        self.cancelled.store(True)

    def synchronize(self):
        """Wait until the device has computed everything. Wraps ``llama_synchronize``."""
        self.enter()
        try:
            with nogil:
                llama_synchronize(self.ptr)
        finally:
            self.leave()

    def attach(self, Threadpool pool not None, Threadpool pool_batch=None):
        """Compute on these threads from now on. Wraps ``llama_attach_threadpool`` and ``llama_set_n_threads``.

        Parameters
        ----------
        pool : Threadpool
            For one token at a time, and for many too unless `pool_batch` is given.
        pool_batch : Threadpool, optional
            For many tokens.
        """
        self.enter()
        try:
            pool_batch = pool_batch or pool
            pool.serve(self)
            pool_batch.serve(self)
            self.retire()
            llama_attach_threadpool(self.ptr, pool.ptr, pool_batch.ptr)
            llama_set_n_threads(self.ptr, pool.n_threads, pool_batch.n_threads)
            self.pool, self.pool_batch = pool, pool_batch
        finally:
            self.leave()

    cdef int retire(self) except -1:
        """Keep the pools of now until the next computation, which is when llama.cpp lets go of them."""
        with nogil:
            llama_synchronize(self.ptr)
        if self.pool is not None:
            self.retired = [*(self.retired or ()), self.pool, self.pool_batch]
        self.computed = False
        return 0

    def detach(self):
        """Compute without a pool: llama.cpp starts threads for each decode. Wraps ``llama_detach_threadpool``.

        The numbers of threads stay as they are. The pools are free for other contexts after the next decode, which is
        when llama.cpp lets go of them.
        """
        self.enter()
        try:
            self.retire()
            llama_detach_threadpool(self.ptr)
            self.pool = self.pool_batch = None
        finally:
            self.leave()

    def set_n_threads(self, n_threads, n_threads_batch=None):
        """Compute with so many threads from now on. Wraps ``llama_set_n_threads``.

        Parameters
        ----------
        n_threads : int
            For one token at a time; not more than the attached pool has, and 512 without a pool.
        n_threads_batch : int, optional
            For many tokens; as many, or what their pool has, unless given.
        """
        cdef int most = MAX_THREADS if self.pool is None else self.pool.n_threads
        cdef int most_batch = MAX_THREADS if self.pool_batch is None else self.pool_batch.n_threads
        cdef int one = integer("n_threads", n_threads, 1, most)
        cdef int many = min(one, most_batch) if n_threads_batch is None else integer(
            "n_threads_batch", n_threads_batch, 1, most_batch)
        self.enter()
        try:
            llama_set_n_threads(self.ptr, one, many)
        finally:
            self.leave()

    def set_abort_callback(self, function, *, interval=0.02):
        """Ask a function during each computation whether to end it. Wraps ``llama_set_abort_callback``.

        Parameters
        ----------
        function : callable or None
            Called without arguments, in the thread that computes, between two operations on the CPU. Something true
            ends the computation with :class:`DecodeAborted`; what it raises comes out of the decode. None asks no one.
        interval : float
            Seconds between two questions at least; 0 for all operations.

        Notes
        -----
        With a callback Ctrl-C comes through within a long micro-batch too. :meth:`cancel` works in any case.
        A GPU asks nobody.
        """
        cdef AbortCallback callback = None if function is None else AbortCallback(function, interval)
        self.enter()
        try:
            with nogil:
                llama_synchronize(self.ptr)
            if callback is None:
                llama_set_abort_callback(self.ptr, should_abort, <void *> self)
            else:
                callback.cancelled, callback.computing = &self.cancelled, &self.computing
                llama_set_abort_callback(self.ptr, on_abort, <void *> callback)
            self.abort = callback
        finally:
            self.leave()

    @property
    def n_threads(self):
        """Threads for one token. Wraps ``llama_n_threads``."""
        return llama_n_threads(self.alive())

    @property
    def n_threads_batch(self):
        """Threads for many tokens. Wraps ``llama_n_threads_batch``."""
        return llama_n_threads_batch(self.alive())
