"""Tokens and embeddings side by side, entry by entry: llama.cpp's extended batch."""

cimport cython
from llama cimport (
    LLAMA_ROPE_TYPE_IMROPE,
    LLAMA_ROPE_TYPE_MROPE,
    import_llama_cy,
    llama_batch_ext,
    llama_batch_ext_add,
    llama_batch_ext_add_embd,
    llama_batch_ext_add_seq,
    llama_batch_ext_add_token,
    llama_batch_ext_clear,
    llama_batch_ext_free,
    llama_batch_ext_init,
    llama_batch_ext_set_embd_state,
    llama_batch_ext_set_embd_token,
    llama_batch_ext_set_output_embd,
    llama_batch_ext_set_output_logits,
    llama_batch_ext_set_pos,
    llama_embd,
    llama_model_rope_type,
    llama_pos,
)

from llama_cy.context_handle cimport ContextHandle
from llama_cy.lifetime cimport BATCH, born, died

import numpy as np

from .checks import INT32_MAX, each, flag, integer
from .errors import ClosedError, ContextBusyError, ContextError

import_llama_cy()


@cython.final
@cython.no_gc_clear
cdef class BatchExt:
    """Entries for one :meth:`Context.process`: tokens or embeddings. Wraps ``llama_batch_ext_init``.

    Parameters
    ----------
    context : Context
        The one that will compute it; the batch has room for its `n_batch` entries.

    Attributes
    ----------
    n_tokens_max : int
        Room for so many entries.
    n_seq_max : int
        Sequences of the context.
    n_pos_per_embd : int
        Positions that an embedding has: 4 with multi-dimensional rotary positions, else 1.
    """

    def __cinit__(self, ContextHandle context not None):
        context.alive()
        self.context = context
        self.n_tokens_max, self.n_seq_max, self.n_vocab = context.n_batch, context.n_seq_max, context.n_vocab
        rope = llama_model_rope_type(context.handle.ptr)
        self.n_pos_per_embd = 4 if rope in (LLAMA_ROPE_TYPE_MROPE, LLAMA_ROPE_TYPE_IMROPE) else 1
        self.ptr = llama_batch_ext_init(context.ptr)
        self.reset()
        born(BATCH, self.ptr)

    cdef int check(self) except -1:
        if self.ptr is NULL:
            raise ClosedError("the batch is closed")
        if self.busy:
            raise ContextBusyError("the batch is being decoded by another thread")
        return 0

    cdef int enter(self) except -1:
        self.check()
        self.busy = True
        return 0

    cdef void leave(self) noexcept:
        self.busy = False

    cdef void reset(self) noexcept:
        self.n_embd = self.n_rows = self.n_ids = self.most_seq_ids = 0
        self.highest_pos = -1
        self.has_id.clear()
        self.placed.clear()
        self.output.clear()
        self.seq_ids.clear()

    cdef void release(self) noexcept:
        cdef llama_batch_ext * ptr = self.ptr
        self.ptr = NULL
        if ptr is not NULL:
            self.reset()
            died(BATCH, ptr)
            llama_batch_ext_free(ptr)

    def __dealloc__(self):
        self.release()

    def close(self):
        """Free the entries; may be called again. Wraps ``llama_batch_ext_free``."""
        if self.ptr is not NULL:
            self.check()
        self.release()

    @property
    def closed(self):
        """Whether :meth:`close` was called."""
        return self.ptr is NULL

    def __bool__(self):
        return self.ptr is not NULL

    def __repr__(self):
        if not self:
            return "<BatchExt, closed>"
        return f"<BatchExt of {self.has_id.size()} entries, room for {self.n_tokens_max}>"

    def __len__(self):
        self.check()
        return self.has_id.size()

    def clear(self):
        """Forget all entries. Wraps ``llama_batch_ext_clear``."""
        self.check()
        llama_batch_ext_clear(self.ptr)
        self.reset()

    cdef int index(self, object i) except -1:
        cdef int found = integer("i", i, 0, INT32_MAX)
        self.check()
        if <size_t> found >= self.has_id.size():
            raise ValueError(f"i is {found}, which is out of range [0, {self.has_id.size()})")
        return found

    cdef int room(self) except -1:
        # After the arguments were looked at, since their code may have closed or filled the batch.
        self.check()
        if <int> self.has_id.size() >= self.n_tokens_max:
            raise ValueError(f"the batch is full: it has room for {self.n_tokens_max} entries")
        return 0

    cdef int note(self, int i, int seq_id, bint has_id) except -1:
        if i != <int> self.has_id.size():
            raise ContextError(f"llama.cpp put entry {self.has_id.size()} at {i}")
        self.has_id.push_back(has_id)
        self.placed.push_back(False)
        self.output.push_back(False)
        self.seq_ids.push_back(seq_id)
        self.n_ids += has_id
        self.most_seq_ids = max(self.most_seq_ids, 1)
        return i

    cdef object row(self, object values):
        """Return an embedding as llama.cpp reads it, of a width that it takes."""
        array = np.ascontiguousarray(values)
        if array.ndim != 1 or array.dtype.kind not in "fiu":
            raise ValueError(f"an embedding is one row of numbers, not {array.dtype} of shape {array.shape}")
        array = array.astype(np.float32, copy=False)
        if self.n_embd and len(array) != self.n_embd:
            raise ValueError(f"the embedding has {len(array)} numbers, and those before it have {self.n_embd}")
        cdef const float[::1] view = array
        cdef llama_embd embd
        cdef llama_batch_ext * probe
        cdef bint taken
        if not self.n_embd:
            # A refused row would leave half an entry, so another batch tries it.
            self.context.alive()
            if view.shape[0] == 0:
                raise ValueError("the embedding is empty")
            embd.data, embd.n_rows, embd.n_embd = &view[0], 1, view.shape[0]
            probe = llama_batch_ext_init(self.context.ptr)
            llama_batch_ext_add(probe, 0)
            taken = llama_batch_ext_set_embd_token(probe, 0, embd)
            llama_batch_ext_free(probe)
            if not taken:
                raise ValueError(
                    f"the embedding has {len(array)} numbers; the model reads {self.context.model.n_embd_inp}"
                )
        return array

    def add(self, seq_id):
        """Append an entry that gets its embedding and its position later. Wraps ``llama_batch_ext_add``.

        Parameters
        ----------
        seq_id : int
            The sequence it belongs to.

        Returns
        -------
        int
            Its index in the batch.
        """
        cdef int seq = integer("seq_id", seq_id, 0, self.n_seq_max - 1)
        self.room()
        return self.note(llama_batch_ext_add(self.ptr, seq), seq, False)

    def add_token(self, seq_id, token):
        """Append a token, whose position is set later. Wraps ``llama_batch_ext_add_token``.

        Parameters
        ----------
        seq_id : int
            The sequence it belongs to.
        token : int

        Returns
        -------
        int
            Its index in the batch.

        Raises
        ------
        ValueError
            The batch is full, or a value is out of range.
        """
        cdef int seq = integer("seq_id", seq_id, 0, self.n_seq_max - 1)
        cdef int c_token = integer("token", token, 0, self.n_vocab - 1)
        self.room()
        return self.note(llama_batch_ext_add_token(self.ptr, seq, c_token), seq, True)

    def add_embd(self, seq_id, embd):
        """Append an embedding in place of a token. Wraps ``llama_batch_ext_add_embd``.

        Parameters
        ----------
        seq_id : int
            The sequence it belongs to.
        embd : array_like
            One row of `model.n_embd_inp` numbers, copied as float32.

        Returns
        -------
        int
            Its index in the batch.

        Raises
        ------
        ValueError
            The batch is full, a value is out of range, or an entry before it still waits for its embedding.
        """
        cdef int seq = integer("seq_id", seq_id, 0, self.n_seq_max - 1)
        array = self.row(embd)
        self.room()
        cdef const float[::1] view = array
        cdef llama_embd c_embd
        # llama.cpp reads the rows in the order in which they came, whichever entries they were for.
        if self.n_rows != <int> self.has_id.size():
            raise ValueError(f"entry {self.n_rows} has no embedding yet, and llama.cpp takes them in order only")
        c_embd.data, c_embd.n_rows, c_embd.n_embd = &view[0], 1, view.shape[0]
        cdef int i = self.note(llama_batch_ext_add_embd(self.ptr, seq, c_embd), seq, False)
        self.n_embd = <int> view.shape[0]
        self.n_rows += 1
        return i

    def set_embd_token(self, i, embd):
        """Give an entry its embedding. Wraps ``llama_batch_ext_set_embd_token``.

        Parameters
        ----------
        i : int
            Index in the batch; the first entry without an embedding, as llama.cpp takes them in order only.
        embd : array_like
            As in :meth:`add_embd`.
        """
        array = self.row(embd)
        cdef int entry = self.index(i)
        cdef const float[::1] view = array
        cdef llama_embd c_embd
        if entry != self.n_rows:
            raise ValueError(f"i is {entry}; the next entry to get an embedding is {self.n_rows}")
        c_embd.data, c_embd.n_rows, c_embd.n_embd = &view[0], 1, view.shape[0]
        if not llama_batch_ext_set_embd_token(self.ptr, entry, c_embd):
            raise ContextError(f"llama.cpp takes no embedding for entry {entry}")
        self.n_embd = <int> view.shape[0]
        self.n_rows += 1

    def set_embd_state(self, i, embd):
        """Give an entry a hidden state of another stage. Wraps ``llama_batch_ext_set_embd_state``.

        Raises
        ------
        ContextError
            Always, in this version of llama.cpp: it takes no state.
        """
        array = self.row(embd)
        cdef int entry = self.index(i)
        cdef const float[::1] view = array
        cdef llama_embd c_embd
        c_embd.data, c_embd.n_rows, c_embd.n_embd = &view[0], 1, view.shape[0]
        if not llama_batch_ext_set_embd_state(self.ptr, entry, c_embd):
            raise ContextError("this version of llama.cpp takes no state")

    def add_seq(self, i, seq_id):
        """Let an entry belong to one more sequence. Wraps ``llama_batch_ext_add_seq``."""
        cdef int seq = integer("seq_id", seq_id, 0, self.n_seq_max - 1)
        cdef int entry = self.index(i)
        if not llama_batch_ext_add_seq(self.ptr, entry, seq):
            raise ContextError(f"llama.cpp refuses sequence {seq} for entry {entry}")
        if seq != self.seq_ids[entry]:
            self.most_seq_ids = max(self.most_seq_ids, 2)

    def set_pos(self, i, pos):
        """Say where an entry stands; each needs it. Wraps ``llama_batch_ext_set_pos``.

        Parameters
        ----------
        i : int
            Index in the batch.
        pos : int or iterable of int
            Its position; of an embedding `n_pos_per_embd` positions.
        """
        cdef llama_pos places[4]
        cdef int k
        values = [pos] if hasattr(pos, "__index__") else list(each("pos", pos, "an integer or several"))
        wanted = [integer("pos", value, 0, INT32_MAX - 1) for value in values]
        cdef int entry = self.index(i)
        n = 1 if self.has_id[entry] else self.n_pos_per_embd
        if len(wanted) != n:
            raise ValueError(f"pos has {len(wanted)} positions and entry {entry} takes {n}")
        for k in range(n):
            places[k] = wanted[k]
        if not llama_batch_ext_set_pos(self.ptr, entry, places):
            raise ContextError(f"llama.cpp refuses position {pos} for entry {entry}")
        self.placed[entry] = True
        self.highest_pos = max(self.highest_pos, <int> max(wanted))

    def set_output_logits(self, i, value):
        """Say whether an entry gives logits. Wraps ``llama_batch_ext_set_output_logits``."""
        cdef bint wanted = flag("value", value)
        cdef int entry = self.index(i)
        if not llama_batch_ext_set_output_logits(self.ptr, entry, wanted):
            raise ContextError(f"llama.cpp refuses outputs of entry {entry}")
        self.output[entry] = wanted

    def set_output_embd(self, i, value):
        """Say whether an entry gives an embedding, or logits. Wraps ``llama_batch_ext_set_output_embd``."""
        cdef bint wanted = flag("value", value)
        cdef int entry = self.index(i)
        if not llama_batch_ext_set_output_embd(self.ptr, entry, wanted):
            raise ContextError(f"llama.cpp refuses outputs of entry {entry}")
        self.output[entry] = wanted
