"""A context's memory, copied out and brought back."""

cimport cython
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp
from llama cimport (
    LLAMA_STATE_SEQ_FLAGS_ON_DEVICE,
    LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY,
    import_llama_cy,
    llama_memory_clear,
    llama_memory_seq_pos_max,
    llama_memory_seq_pos_min,
    llama_memory_seq_rm,
    llama_model_desc,
    llama_model_is_recurrent,
    llama_model_n_params,
    llama_model_n_swa,
    llama_state_get_data,
    llama_state_get_size,
    llama_state_seq_get_data,
    llama_state_seq_get_data_ext,
    llama_state_seq_get_size,
    llama_state_seq_get_size_ext,
    llama_state_seq_set_data,
    llama_state_seq_set_data_ext,
    llama_state_set_data,
    llama_token,
)

from llama_cy.context cimport Context
from llama_cy.snapshot cimport Snapshot


from . import log
from ._llama import llama_cpp_commit
from .checks import flag
from .errors import StateError

import_llama_cy()

SEQ_NEEDED = "say which sequence: seq_id is None, and only a sequence can be taken {}"


@cython.final
cdef class State:
    """A view of ``context.state``: what the memory holds, saved and restored as bytes.

    Logits and embeddings are no part of it: after a restore, decode a token to get some.
    """
    def __cinit__(self, Context context not None):
        self.context = context

    def __repr__(self):
        return f"<State of {self.context!r}>"

    cdef bytes origin(self, bint whole):
        """Digest what a snapshot must share with the context it is restored into."""
        cdef Context context = self.context
        cdef char desc[256]
        context.alive()
        # By way of the handle: the weights outlive a model that was closed.
        llama_model_desc(context.handle.ptr, desc, 256)
        # A sequence fits into a context of another size, if its memories are as many.
        cdef list sizes = [1 if context.unified else context.n_seq_max]
        if whole:
            sizes += [context.n_ctx, context.n_seq_max]
        facts = (llama_cpp_commit(), <bytes> desc, llama_model_n_params(context.handle.ptr), context.n_vocab, sizes,
                 context.signature)
        import hashlib

        return hashlib.sha256(repr(facts).encode()).digest()

    cdef bint plain(self):
        """Whether tokens alone tell what is in memory."""
        cdef Context context = self.context
        return not (context.adapters and context.adapters[0]) and not (context.control and context.control[0])

    cdef bytes known_tokens(self, int seq_id):
        """Return the tokens of sequence 0 if they are known, as they lie in memory."""
        cdef Context context = self.context
        if seq_id > 0 or context.history_epoch != context.epoch or context.history.empty() or not self.plain():
            return b""
        return (<char *> context.history.data())[:context.history.size() * sizeof(llama_token)]

    cdef Snapshot copy(self, int seq_id, uint32_t flags):
        """Copy what the memory holds; the caller has entered the context."""
        cdef Context context = self.context
        cdef Snapshot snapshot
        cdef size_t size, room = 0
        cdef int first = -1, last = -1
        with nogil:
            if seq_id < 0:
                size = llama_state_get_size(context.ptr)
            elif flags:
                size = llama_state_seq_get_size_ext(context.ptr, seq_id, flags)
            else:
                size = llama_state_seq_get_size(context.ptr, seq_id)
        if seq_id >= 0 and context.mem is not NULL:
            first, last = llama_memory_seq_pos_min(context.mem, seq_id), llama_memory_seq_pos_max(context.mem, seq_id)
        snapshot = Snapshot.make(self.origin(seq_id < 0), seq_id, flags & LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY != 0,
                                 first, last, self.known_tokens(seq_id), size)
        cdef uint8_t * target = <uint8_t *> snapshot.body(&room)
        with nogil:
            if seq_id < 0:
                size = llama_state_get_data(context.ptr, target, room)
            elif flags:
                size = llama_state_seq_get_data_ext(context.ptr, target, room, seq_id, flags)
            else:
                size = llama_state_seq_get_data(context.ptr, target, room, seq_id)
        if size == 0 or size != room:
            raise StateError("the state could not be copied", log=log.tail())
        snapshot.maker = context.mark
        return snapshot

    cdef bint read(self, Snapshot snapshot, int seq_id, uint32_t flags) except *:
        """Hand a snapshot to llama.cpp, and tell whether it took it."""
        cdef Context context = self.context
        cdef size_t size = 0, read
        cdef const uint8_t * source = snapshot.body(&size)
        log.begin()
        with nogil:
            if snapshot.c_seq_id < 0:
                read = llama_state_set_data(context.ptr, source, size)
            elif flags:
                read = llama_state_seq_set_data_ext(context.ptr, source, size, seq_id, flags)
            else:
                read = llama_state_seq_set_data(context.ptr, source, size, seq_id)
        return read != 0 and read == size

    def take(self, seq_id=None, partial=False, on_device=False):
        """Do what :meth:`Context.snapshot` says."""
        cdef Context context = self.context
        cdef Snapshot snapshot
        cdef int seq = -1 if seq_id is None else context.check_seq(seq_id, 0)
        cdef uint32_t flags = LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY if flag("partial", partial) else 0
        cdef size_t tensors
        keep = flag("on_device", on_device)
        if seq < 0 and (flags or keep):
            raise ValueError(SEQ_NEEDED.format("in part" if flags else "on the device"))
        context.check_own_memory()
        context.enter()
        try:
            self.check_still()
            if not keep:
                return self.copy(seq, flags)
            with nogil:
                tensors = llama_state_seq_get_size_ext(context.ptr, seq, flags) - llama_state_seq_get_size_ext(
                    context.ptr, seq, flags | LLAMA_STATE_SEQ_FLAGS_ON_DEVICE)
            if tensors == 0 or not self.device_has_room(seq, tensors):
                return self.copy(seq, flags)
            # Whatever comes of it, the one before is gone.
            context.on_device = {**(context.on_device or {}), seq: (object(), tensors)}
            snapshot = self.copy(seq, flags | LLAMA_STATE_SEQ_FLAGS_ON_DEVICE)
            snapshot.device = context.on_device[seq][0]
            return snapshot
        finally:
            context.leave()

    cdef int check_still(self) except -1:
        if self.context.shift_deferred or self.context.copy_deferred:
            raise StateError("the memory is in motion: llama.cpp shifts and copies at the next decode; decode first")
        return 0

    cdef bint device_has_room(self, int seq_id, size_t tensors):
        """Whether llama.cpp can keep so many bytes of a sequence on the device.

        It puts as many bytes as before into the buffer of before, which is too small if they are in more pieces now. Only
        a recurrent state is always in one piece.
        """
        cdef Context context = self.context
        if not context.on_device or seq_id not in context.on_device or llama_model_is_recurrent(context.handle.ptr):
            return True
        return context.on_device[seq_id][1] != tensors and llama_model_n_swa(context.handle.ptr) == 0

    def give(self, Snapshot snapshot not None, seq_id=None):
        """Do what :meth:`Context.restore` says."""
        cdef Context context = self.context
        cdef Snapshot before = None
        cdef bint whole = snapshot.c_seq_id < 0
        cdef int seq = -1
        cdef uint32_t flags = LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY if snapshot.partial else 0
        cdef int held = -1
        cdef bint known = False
        context.alive()
        if whole and seq_id is not None:
            raise ValueError(f"seq_id is {seq_id!r}, and the snapshot is of the whole context")
        if not whole:
            seq = context.check_seq(snapshot.c_seq_id if seq_id is None else seq_id, 0)
        if snapshot.device is not None:
            flags |= LLAMA_STATE_SEQ_FLAGS_ON_DEVICE
            if not context.on_device or context.on_device.get(snapshot.c_seq_id, (None,))[0] is not snapshot.device:
                raise StateError(
                    "the device does not keep this snapshot any more: a later one of the sequence took its place, or "
                    "another context keeps it"
                )
        if snapshot.origin != self.origin(whole):
            raise StateError("the state comes from another model, or a context with other parameters")
        context.check_own_memory()
        context.enter()
        try:
            context.check_exports("restore a state")
            if context.copy_deferred:
                raise StateError("the memory is in motion: llama.cpp copies at the next decode; decode or close first")
            self.check_start(snapshot)
            if not whole and context.mem is not NULL:
                held = llama_memory_seq_pos_max(context.mem, seq)
                if snapshot.partial and held < snapshot.last:
                    raise StateError(
                        f"the snapshot is partial, to position {snapshot.last}, and sequence {seq} ends at {held}: it must "
                        "still hold what it held then"
                    )
            known = context.history_epoch == context.epoch
            if snapshot.partial and known and not self.begins_with(snapshot, seq):
                raise StateError(f"the snapshot is partial, and sequence {seq} holds other tokens than it did then")
            if self.may_fail(snapshot) and not context.shift_deferred:
                before = self.copy(seq, 0)
            context.epoch += 1
            try:
                done = self.read(snapshot, seq, flags)
            except RuntimeError as error:
                # A damaged one came upon an assert.
                done, lines = False, (str(error),)
            else:
                lines = log.tail()
            if not done:
                self.undo(before, seq)
                raise StateError("llama.cpp refused the state", log=lines)
            context.stale = True
            if whole:
                context.shift_deferred = False
            elif snapshot.partial and snapshot.last >= 0:
                # What could be rolled back goes back to the same place.
                llama_memory_seq_rm(context.mem, seq, snapshot.last + 1, -1)
            if seq > 0 and known:
                context.history_epoch = context.epoch
            elif known or not snapshot.partial:
                self.remember(snapshot.tokens_at(), snapshot.n_tokens, seq)
        finally:
            context.leave()

    cdef int check_start(self, Snapshot snapshot) except -1:
        """Refuse a start on which llama.cpp would make room for whatever number it finds."""
        cdef size_t size = 0
        cdef const uint8_t * source = snapshot.body(&size)
        if snapshot.c_seq_id < 0 and (size < 4 or (<uint32_t *> source)[0] > size - 4):
            raise StateError(f"the state is damaged: its {size} bytes do not hold the name of an architecture")
        return 0

    cdef bint may_fail(self, Snapshot snapshot):
        """Whether llama.cpp may refuse it after it has dropped what was there.

        It takes what this very context gave, as long as sequences don't share the room.
        """
        cdef Context context = self.context
        if context.mem is NULL:
            return False
        return snapshot.maker is not context.mark or (
            snapshot.c_seq_id >= 0 and context.unified and context.n_seq_max > 1)

    cdef int undo(self, Snapshot before, int seq_id) except -1:
        """Bring back what was there before a restore that failed, or leave nothing."""
        cdef Context context = self.context
        if before is not None and self.read(before, seq_id, 0):
            self.remember(before.tokens_at(), before.n_tokens, seq_id)
            return 0
        if context.mem is not NULL:
            if seq_id < 0:
                llama_memory_clear(context.mem, True)
            else:
                llama_memory_seq_rm(context.mem, seq_id, -1, -1)
        return 0

    cdef bint begins_with(self, Snapshot snapshot, int seq_id):
        """Whether a sequence begins with the tokens of a snapshot, as far as both are known."""
        cdef Context context = self.context
        if seq_id > 0 or not snapshot.n_tokens or not self.plain():
            return True
        if <size_t> snapshot.n_tokens > context.history.size():
            return False
        return memcmp(snapshot.tokens_at(), context.history.data(), 4 * <size_t> snapshot.n_tokens) == 0

    cdef int remember(self, const llama_token * tokens, size_t n, int seq_id) except -1:
        """Note the tokens of sequence 0, so that a prompt that begins with them is not decoded again."""
        cdef Context context = self.context
        if seq_id <= 0 and n and self.plain():
            context.history.assign(tokens, tokens + n)
            context.history_aligned = 0
            # Those logits are of other tokens.
            context.kept_at = 0
            context.history_epoch = context.epoch
        return 0

    def get(self):
        """Copy the state. Wraps ``llama_state_get_data``.

        Returns
        -------
        bytes
            Its size grows with the tokens in memory.

        Raises
        ------
        StateError
            Positions were shifted, or a sequence copied to separate memory, and nothing was decoded since.
        """
        return bytes(self.take())

    def set(self, data):
        """Restore a state. Wraps ``llama_state_set_data``.

        What is decoded next gives the logits that it would have given: the same bits, unless the memory had holes or a
        sliding window; then its entries come back in another order, and sums of them round differently.

        Parameters
        ----------
        data : bytes-like
            From :meth:`get`, of a context with the same model and parameters.

        Raises
        ------
        StateError
            It is damaged or foreign, or a sequence was copied to separate memory and nothing was decoded since; the
            context is left as it was.
        """
        self.context.alive()
        self.give(Snapshot.from_bytes(data))

    def save(self, path):
        """Write the state to a file, which appears whole or not at all."""
        self.take().save(path)

    def load(self, path):
        """Restore a state from a file that :meth:`save` wrote."""
        self.context.alive()
        self.give(Snapshot.load(path))

    def save_session(self, path, tokens=None, *, seq_id=None):
        """Write llama.cpp's own kind of file. Wraps ``llama_state_save_file`` and ``llama_state_seq_save_file``.

        Other programs on llama.cpp read it, but it has no checksum and doesn't tell its model: :meth:`Snapshot.save`
        writes what can be trusted. It appears whole or not at all.

        Parameters
        ----------
        path : path-like
        tokens : iterable of int, optional
            The tokens that are in memory, kept in the file; by default those that the context knows of sequence 0.
        seq_id : int, optional
            The sequence to write; the whole context unless given.
        """
        from .session import save_session

        save_session(self, path, tokens, seq_id)

    def load_session(self, path, *, seq_id=None):
        """Restore a file of llama.cpp's own kind. Wraps ``llama_state_load_file`` and ``llama_state_seq_load_file``.

        Parameters
        ----------
        path : path-like
            From a program on this version of llama.cpp, with this model and these parameters: llama.cpp notices where sizes
            differ, and nobody notices more.
        seq_id : int, optional
            The sequence to put it into, of a file of one sequence.

        Returns
        -------
        ndarray
            The tokens that the file names, int32.

        Raises
        ------
        StateError
            It is of another kind or does not fit; the context is left as it was.
        """
        from .session import load_session

        return load_session(self, path, seq_id)
