"""A context's memory as bytes."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy
from llama cimport (
    import_llama_cy,
    llama_model_desc,
    llama_model_n_params,
    llama_state_get_data,
    llama_state_get_size,
    llama_state_set_data,
)

from llama_cy.context cimport Context

import hashlib
import os
import struct
import zlib
from pathlib import Path

from . import log
from ._llama import llama_cpp_commit
from .errors import StateError

import_llama_cy()

# llama.cpp reads a state without doubt and would assert on a foreign one, so ours says where it comes from.
HEADER = struct.Struct("<8s32sQI")
MAGIC = b"llamacy1"


@cython.final
cdef class State:
    """A view of ``context.state``: what the memory holds, saved and restored.

    Logits and embeddings are no part of it: after a restore, decode a token to get some.
    """
    cdef Context context

    def __cinit__(self, Context context not None):
        self.context = context

    def __repr__(self):
        return f"<State of {self.context!r}>"

    def _origin(self):
        """Digest what a state must share with the context it is restored into."""
        cdef Context context = self.context
        cdef char desc[256]
        context.alive()
        # By way of the handle: the weights outlive a model that was closed.
        llama_model_desc(context.handle.ptr, desc, 256)
        facts = (
            llama_cpp_commit(), <bytes> desc, llama_model_n_params(context.handle.ptr), context.n_vocab, context.n_ctx,
            context.n_seq_max, context.signature,
        )  # fmt: skip
        return hashlib.sha256(repr(facts).encode()).digest()

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
        cdef size_t size
        cdef bytes data, header
        cdef uint8_t * target
        origin = self._origin()
        self.context.enter()
        try:
            if self.context.shift_deferred or self.context.copy_deferred:
                raise StateError("the memory is in motion: llama.cpp shifts and copies at the next decode; decode first")
            with nogil:
                size = llama_state_get_size(self.context.ptr)
            data = PyBytes_FromStringAndSize(NULL, HEADER.size + size)
            target = <uint8_t *> PyBytes_AS_STRING(data) + <size_t> HEADER.size
            with nogil:
                size = llama_state_get_data(self.context.ptr, target, size)
            if size == 0:
                raise StateError("the state could not be copied", log=log.tail())
            body = memoryview(data)[HEADER.size:]
            header = HEADER.pack(MAGIC, origin, size, zlib.crc32(body))
            # Nobody else has seen this bytes object yet.
            memcpy(PyBytes_AS_STRING(data), PyBytes_AS_STRING(header), HEADER.size)
        finally:
            self.context.leave()
        return data

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
        cdef const uint8_t[::1] view = memoryview(data).cast("B")
        cdef size_t size, read
        cdef const uint8_t * source
        self.context.alive()
        if view.shape[0] < HEADER.size:
            raise StateError(f"not a state: {view.shape[0]} bytes, at least {HEADER.size} are needed")
        magic, origin, length, checksum = HEADER.unpack_from(view)
        if magic != MAGIC:
            raise StateError(f"not a state: it starts with {magic!r}, not with {MAGIC!r}")
        if length != view.shape[0] - HEADER.size:
            raise StateError(f"the state is cut: {view.shape[0] - HEADER.size} bytes of {length}")
        if origin != self._origin():
            raise StateError("the state comes from another model, or a context with other parameters")
        if zlib.crc32(view[HEADER.size:]) != checksum:
            raise StateError("the state is damaged: its checksum differs")
        body = view[HEADER.size:]
        # llama.cpp would make room for the name of the architecture before it sees that the name ends behind the state.
        if length < 4 or int.from_bytes(body[:4], "little") > length - 4:
            raise StateError(f"the state is damaged: its {length} bytes do not hold the name of an architecture")
        self.context.enter()
        try:
            self.context.check_exports("restore a state")
            if self.context.copy_deferred:
                raise StateError("the memory is in motion: llama.cpp copies at the next decode; decode or close first")
            self.context.epoch += 1
            size, source = length, &view[<Py_ssize_t> HEADER.size]
            log.begin()
            with nogil:
                read = llama_state_set_data(self.context.ptr, source, size)
            self.context.stale = True
            self.context.shift_deferred = False
            if read == 0:
                raise StateError("llama.cpp refused the state", log=log.tail())
        finally:
            self.context.leave()

    def save(self, path):
        """Write the state to a file, which appears whole or not at all."""
        target = Path(os.fsdecode(path))
        part = target.with_name(target.name + ".part")
        try:
            part.write_bytes(self.get())
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    def load(self, path):
        """Restore a state from a file that :meth:`save` wrote."""
        self.context.alive()
        self.set(Path(os.fsdecode(path)).read_bytes())
