"""What a context remembered at some time, as a value."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t
from libc.string cimport memcpy
from llama cimport llama_token

import os
import struct
import zlib

import numpy as np

from .errors import StateError
from .whole_file import whole_file

# Magic, origin, sequence, flags, first and last position, tokens, bytes of state; then the checksum of all the rest.
HEADER = struct.Struct("<8s32siIiiIQ")
CHECKSUM = struct.Struct("<I")
MAGIC = b"llamacy2"
PARTIAL = 1
cdef size_t HEAD = HEADER.size + CHECKSUM.size


cdef object checksum(object data):
    view = memoryview(data)
    return zlib.crc32(view[HEADER.size + CHECKSUM.size:], zlib.crc32(view[:HEADER.size]))


@cython.final
cdef class Snapshot:
    """What a context remembered when :meth:`Context.snapshot` was called; :meth:`Context.restore` brings it back.

    A value: it never changes, equals one of the same content, and goes through ``bytes()``, ``memoryview()``, files and
    pickle. It carries the memory and no outputs, and of an encoder-decoder model not what was encoded.

    Attributes
    ----------
    partial : bool
        Whether it holds only what can't be rolled back: a sliding window, or a recurrent state.
    """

    def __init__(self):
        raise TypeError("a Snapshot comes from Context.snapshot(), Snapshot.from_bytes() or Snapshot.load()")

    @staticmethod
    cdef Snapshot make(bytes origin, int seq_id, bint partial, int first, int last, bytes tokens, size_t size):
        """Make one with room for what llama.cpp gives."""
        cdef Snapshot self = Snapshot.__new__(Snapshot)
        cdef bytes head = HEADER.pack(
            MAGIC, origin, seq_id, PARTIAL if partial else 0, first, last, len(tokens) // 4, size)
        self.data = PyBytes_FromStringAndSize(NULL, HEAD + len(tokens) + size)
        # Nobody else has seen this bytes object yet.
        memcpy(PyBytes_AS_STRING(self.data), PyBytes_AS_STRING(head), len(head))
        memcpy(PyBytes_AS_STRING(self.data) + HEAD, PyBytes_AS_STRING(tokens), len(tokens))
        self.origin, self.c_seq_id, self.partial = origin, seq_id, partial
        self.first, self.last, self.n_tokens = first, last, len(tokens) // 4
        return self

    cdef const uint8_t * body(self, size_t * size) noexcept:
        cdef size_t start = HEAD + 4 * <size_t> self.n_tokens
        if size is not NULL:
            size[0] = <size_t> len(self.data) - start
        return <const uint8_t *> PyBytes_AS_STRING(self.data) + start

    cdef const llama_token * tokens_at(self) noexcept:
        return <const llama_token *> (PyBytes_AS_STRING(self.data) + HEAD)

    cdef int seal(self) except -1:
        """Compute the checksum, which is for those who come by way of bytes only."""
        cdef bytes sum
        if self.device is not None:
            raise StateError("the snapshot is kept on the device, so there are no bytes of it")
        if not self.sealed:
            sum = CHECKSUM.pack(checksum(self.data))
            # It shows nowhere before.
            memcpy(PyBytes_AS_STRING(self.data) + <size_t> HEADER.size, PyBytes_AS_STRING(sum), len(sum))
            self.sealed = True
        return 0

    @classmethod
    def from_bytes(cls, data):
        """Make one of the bytes of another.

        Parameters
        ----------
        data : bytes-like
            From ``bytes(snapshot)``; copied.

        Raises
        ------
        StateError
            They are cut, damaged, or something else.
        """
        cdef Snapshot self
        cdef bytes copied = bytes(memoryview(data).cast("B"))
        if <size_t> len(copied) < HEAD:
            raise StateError(f"not a snapshot: {len(copied)} bytes, at least {HEAD} are needed")
        magic, origin, seq_id, flags, first, last, n_tokens, size = HEADER.unpack_from(copied)
        if magic != MAGIC:
            raise StateError(f"not a snapshot: it starts with {magic!r}, not with {MAGIC!r}")
        if HEAD + 4 * n_tokens + size != len(copied):
            raise StateError(
                f"the snapshot is cut: {len(copied)} bytes of {HEAD + 4 * n_tokens + size}")
        if CHECKSUM.unpack_from(copied, HEADER.size)[0] != checksum(copied):
            raise StateError("the snapshot is damaged: its checksum differs")
        if flags not in (0, PARTIAL) or seq_id < -1 or first < -1 or last < -1:
            raise StateError("the snapshot is damaged: its head makes no sense")
        self = Snapshot.__new__(Snapshot)
        self.data, self.sealed, self.origin, self.n_tokens = copied, True, origin, n_tokens
        self.c_seq_id, self.partial, self.first, self.last = seq_id, flags == PARTIAL, first, last
        return self

    @classmethod
    def load(cls, path):
        """Read one from a file that :meth:`save` wrote."""
        with open(os.fsdecode(path), "rb") as file:
            # What is none may have no end.
            known = file.peek(len(MAGIC))[:len(MAGIC)] == MAGIC
            return cls.from_bytes(file.read(-1 if known else HEAD))

    def save(self, path):
        """Write it to a file, which appears whole or not at all."""
        self.seal()
        with whole_file(path) as part:
            part.write_bytes(self.data)

    @property
    def seq_id(self):
        """The sequence it was taken of; None for the whole context."""
        return None if self.c_seq_id < 0 else self.c_seq_id

    @property
    def on_device(self):
        """Whether its tensors are kept on the device; it lives no longer than its context then."""
        return self.device is not None

    @property
    def positions(self):
        """The positions of its sequence, a range; None for the whole context."""
        if self.c_seq_id < 0:
            return None
        return range(self.first, self.last + 1) if self.last >= 0 else range(0)

    @property
    def tokens(self):
        """The tokens of its sequence, or of sequence 0; an int32 array, None where the context did not know them.

        A context knows those that it decoded as plain tokens or generated, in sequence 0.
        """
        if not self.n_tokens:
            return None
        return np.frombuffer(self.data, dtype="<i4", count=self.n_tokens, offset=HEAD)

    @property
    def nbytes(self):
        """Bytes in the memory of this process; proportional to the tokens that attention remembers."""
        return len(self.data)

    def __bytes__(self):
        self.seal()
        return self.data

    def __getbuffer__(self, Py_buffer * buffer, int flags):
        self.seal()
        PyBuffer_FillInfo(buffer, self, PyBytes_AS_STRING(self.data), len(self.data), 1, flags)

    def __reduce__(self):
        return Snapshot.from_bytes, (bytes(self),)

    def __eq__(self, other):
        cdef Snapshot that
        if not isinstance(other, Snapshot):
            return NotImplemented
        that = other
        if self.device is not None or that.device is not None:
            return self is that
        self.seal()
        that.seal()
        return self.data == that.data

    def __hash__(self):
        if self.device is not None:
            return object.__hash__(self)
        self.seal()
        return hash(self.data)

    def __repr__(self):
        whose = "the whole context" if self.c_seq_id < 0 else f"sequence {self.c_seq_id} to position {self.last}"
        kind = ", partial" * self.partial + ", on the device" * (self.device is not None)
        return f"<Snapshot of {whose}{kind}, {len(self.data)} bytes>"
