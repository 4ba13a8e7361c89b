"""The head of a GGUF file, read without trust: what it says of itself, or a ModelLoadError that names what is wrong.

Nothing of llama.cpp is called here, and no more is read than the head: metadata and the list of tensors.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcpy
from ggml cimport (
    GGML_TYPE_BF16,
    GGML_TYPE_F16,
    GGML_TYPE_F32,
    GGML_TYPE_Q8_1,
    GGML_TYPE_Q8_K,
    ggml_blck_size,
    ggml_is_quantized,
    ggml_type,
    ggml_type_name,
    ggml_type_size,
)
from gguf cimport gguf_type, gguf_type_name
from llama cimport import_llama_cy

import errno
import struct

from .enums import GGMLType
from .errors import ModelLoadError

import_llama_cy()

# Far more than any model has; what lies beyond would cost time and memory before it is refused.
MAX_HEAD = 2**28
MAX_VALUES = 2**16
MAX_TENSORS = 2**17
MAX_ITEMS = 2**24
MAX_KEY = 2**16 - 1
MAX_NAME = 63
MAX_DIMS = 4
MAX_ALIGNMENT = 2**20
FIRST_READ = 2**22
# Longer arrays are left where they are, for those who walk through them.
MAX_LISTED = 4096

cdef uint64_t STRING_TYPE = 8
cdef uint64_t ARRAY_TYPE = 9
cdef uint64_t * SIZES = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8]
CODES = "BbHhIif?__Qqd"


def load_failure(what, name, reason, lines=()):
    """Describe a load that failed.

    Parameters
    ----------
    what : str
        ``"model"`` or ``"adapter"``.
    name : str
        Where it comes from.
    reason : str
    lines : sequence of str
        llama.cpp's last words.

    Returns
    -------
    ModelLoadError
    """
    failure = ModelLoadError(f"cannot load the {what} {name!r}: {reason}", log=lines)
    failure.errno, failure.filename = errno.EINVAL, name
    return failure


class MoreNeeded(Exception):  # noqa: N818 - no error, but a turn of the loop
    """The head goes on behind what was read."""


@cython.final
cdef class Array:
    """An array of the metadata: its type, its length, and where its items begin."""

    def __cinit__(self, uint64_t kind, uint64_t n, uint64_t start):
        self.kind, self.n, self.start = kind, n, start

    def __repr__(self):
        return f"<{self.n} of type {kind_name(self.kind)}>"


@cython.final
cdef class TensorInfo:
    """What the list of tensors says of one."""

    def __cinit__(self, str name, tuple dims, ggml_type kind, uint64_t offset, uint64_t size):
        self.name, self.dims, self.kind, self.offset, self.size = name, dims, kind, offset, size

    @property
    def type_name(self):
        """Name of its type, as in ``"q8_0"``."""
        return ggml_type_name(self.kind).decode()

    @property
    def multiplies(self):
        """Whether a matrix of its type can be multiplied with; Q8_1 and Q8_K are for what is within a product only."""
        if self.kind in (GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16):
            return True
        return ggml_is_quantized(self.kind) and self.kind not in (GGML_TYPE_Q8_1, GGML_TYPE_Q8_K)


def kind_name(kind):
    """Return the name of a type of metadata, as llama.cpp has it."""
    return gguf_type_name(<gguf_type> <int> kind).decode()


@cython.final
cdef class Header:
    """What a file says of itself.

    Parameters
    ----------
    file : binary file
        Read from where `start` is; left anywhere.
    start : int
        Where in the file the GGUF begins.
    what : str
        ``"model"`` or ``"adapter"``, for the messages.
    name : str
        Where it comes from, for the messages.

    Attributes
    ----------
    values : dict of str to bool, int, float, str, list of numbers, or Array
        The metadata; strings end at a NUL, as C has them, and arrays of more than 4096 items or of strings stay arrays.
    kinds : dict of str to int
        The type of each value.
    tensors : dict of str to TensorInfo
    data : bytes
        The head, as it was read.
    data_start : int
        Where the tensors' data begins, from the start of the GGUF.
    size : int
        Bytes from the start of the GGUF to the end of the file.
    """

    def __cinit__(self, file, uint64_t start, str what, str name):
        self.what, self.name = what, name
        self.size = file.seek(0, 2) - start if file.seek(0, 2) > start else 0
        cdef uint64_t length = min(self.size, <uint64_t> FIRST_READ)
        while True:
            file.seek(start)
            self.data = file.read(length)
            if <uint64_t> len(self.data) < length:
                self.size = len(self.data)
            try:
                self.parse()
            except MoreNeeded:
                if <uint64_t> len(self.data) >= self.size:
                    raise self.failure(f"it ends within its head, after {self.size} bytes") from None
                if length >= <uint64_t> MAX_HEAD:
                    raise self.failure(f"its head is longer than {MAX_HEAD} bytes") from None
                length = min(self.size, 4 * length)
            else:
                return

    def failure(self, str reason):
        """Return the ModelLoadError for a reason."""
        return load_failure(self.what, self.name, reason)

    cdef const unsigned char * take(self, uint64_t n) except NULL:
        cdef uint64_t left = len(self.data) - self.at
        if n > left:
            if n > self.size - self.at:
                raise self.failure(f"{self.place} asks for {n} bytes where {self.size - self.at} are left in the file")
            raise MoreNeeded
        cdef const unsigned char * found = <const unsigned char *> (<const char *> self.data) + self.at
        self.at += n
        return found

    cdef uint32_t word(self) except? 0xFFFF:
        cdef uint32_t value
        memcpy(&value, self.take(4), 4)
        return value

    cdef uint64_t long_word(self) except? 0xFFFF:
        cdef uint64_t value
        memcpy(&value, self.take(8), 8)
        return value

    cdef bytes text(self, uint64_t most):
        cdef uint64_t n = self.long_word()
        if n > most:
            raise self.failure(f"{self.place} has a text of {n} bytes; {most} are allowed")
        return PyBytes_FromStringAndSize(<const char *> self.take(n), n)

    cdef int parse(self) except -1:
        self.values, self.kinds, self.tensors = {}, {}, {}
        self.at = 0
        self.place = "the head"
        magic = PyBytes_FromStringAndSize(<const char *> self.take(4), 4)
        if magic != b"GGUF":
            raise self.failure(f"it starts with {magic!r}, not with b'GGUF'")
        version = self.word()
        if version not in (2, 3):
            other = " (of the other byte order)" if version & 0xFFFF == 0 else ""
            raise self.failure(f"its GGUF version is {version}{other}; 2 and 3 are known")
        cdef uint64_t n_tensors = self.long_word()
        cdef uint64_t n_values = self.long_word()
        for count, most, of in ((n_tensors, MAX_TENSORS, "tensors"), (n_values, MAX_VALUES, "metadata values")):
            if count > most:
                raise self.failure(f"it counts {count} {of}; {most} are allowed")
        cdef uint64_t i
        for i in range(n_values):
            self.parse_value(i)
        self.alignment = self.find_alignment()
        for i in range(n_tensors):
            self.parse_tensor(i)
        self.place = "the list of tensors"
        self.check_places()
        return 0

    cdef int parse_value(self, uint64_t i) except -1:
        self.place = f"the key of metadata value {i}"
        cdef bytes raw = self.text(MAX_KEY)
        key = raw.decode("utf-8", "replace")
        if not raw or b"\0" in raw:
            raise self.failure(f"the key of metadata value {i} is {raw!r}")
        if key in self.values:
            raise self.failure(f"the key {key} is there twice")
        self.place = key
        cdef uint64_t kind = self.word()
        if kind >= 13:
            raise self.failure(f"{key} has the type {kind}, which there is not")
        self.kinds[key] = kind
        if kind == STRING_TYPE:
            self.values[key] = self.text(MAX_HEAD).partition(b"\0")[0].decode("utf-8", "replace")
        elif kind == ARRAY_TYPE:
            self.values[key] = self.parse_array(key)
        else:
            (self.values[key],) = struct.unpack(f"<{CODES[kind]}", self.take(SIZES[kind])[:SIZES[kind]])
        return 0

    cdef object parse_array(self, str key):
        cdef uint64_t kind = self.word()
        cdef uint64_t n = self.long_word()
        cdef uint64_t start = self.at
        if kind >= 13 or kind == ARRAY_TYPE:
            raise self.failure(f"{key} is an array of type {kind}, which there is not")
        if n > <uint64_t> MAX_ITEMS:
            raise self.failure(f"{key} counts {n} items; {MAX_ITEMS} are allowed")
        if kind == STRING_TYPE:
            self.skip_texts(n)
            return Array(kind, n, start)
        cdef const unsigned char * items
        if n == 0:
            return []
        items = self.take(n * SIZES[kind])
        if n > <uint64_t> MAX_LISTED:
            return Array(kind, n, start)
        return list(struct.unpack(f"<{n}{CODES[kind]}", items[:n * SIZES[kind]]))

    cdef int skip_texts(self, uint64_t n) except -1:
        cdef const char * data = self.data
        cdef uint64_t length = len(self.data)
        cdef uint64_t at = self.at
        cdef uint64_t size
        # A vocabulary has hundreds of thousands.
        with nogil:
            while n and length - at >= 8:
                memcpy(&size, data + at, 8)
                if size > length - at - 8:
                    break
                at += 8 + size
                n -= 1
        self.at = at
        if n:
            # Out of what was read, and perhaps of the file.
            self.take(self.long_word())
            raise MoreNeeded
        return 0

    cdef uint64_t find_alignment(self) except 0:
        value = self.values.get("general.alignment", 32)
        if self.kinds.get("general.alignment", 4) != 4:
            raise self.failure(f"general.alignment is of type {kind_name(self.kinds['general.alignment'])}, not u32")
        if not 8 <= value <= MAX_ALIGNMENT or value & (value - 1):
            raise self.failure(f"general.alignment is {value}; a power of two in [8, {MAX_ALIGNMENT}] is expected")
        return value

    cdef int parse_tensor(self, uint64_t i) except -1:
        self.place = f"the name of tensor {i}"
        cdef bytes raw = self.text(MAX_NAME)
        cdef uint64_t dims[4]
        cdef uint64_t elements = 1
        cdef uint64_t size, offset, k
        cdef uint32_t kind
        # C reads a name to its NUL, and would find one tensor under two names.
        if not raw or memchr(<const char *> raw, 0, len(raw)) is not NULL:
            raise self.failure(f"the name of tensor {i} is {raw!r}")
        name = raw.decode("utf-8", "replace")
        if name in self.tensors:
            raise self.failure(f"the tensor {name} is there twice")
        self.place = f"the tensor {name}"
        cdef uint32_t n_dims = self.word()
        if n_dims > MAX_DIMS:
            raise self.failure(f"the tensor {name} has {n_dims} dimensions; {MAX_DIMS} are allowed")
        for k in range(4):
            dims[k] = self.long_word() if k < n_dims else 1
            if not 1 <= dims[k] <= (<uint64_t> 2**62) // elements:
                raise self.failure(f"the tensor {name} has {dims[k]} elements along axis {k}")
            elements *= dims[k]
        kind = self.word()
        if kind not in GGMLType._value2member_map_ or ggml_blck_size(<ggml_type> kind) < 1:
            raise self.failure(f"the tensor {name} has the type {kind}, which there is not")
        if dims[0] % <uint64_t> ggml_blck_size(<ggml_type> kind):
            raise self.failure(
                f"the tensor {name} has rows of {dims[0]} elements, which do not fill blocks of "
                f"{ggml_blck_size(<ggml_type> kind)}, as {ggml_type_name(<ggml_type> kind).decode()} has them"
            )
        elements //= <uint64_t> ggml_blck_size(<ggml_type> kind)
        if elements > (<uint64_t> 2**62) // ggml_type_size(<ggml_type> kind):
            raise self.failure(f"the tensor {name} is larger than any memory")
        size, offset = elements * ggml_type_size(<ggml_type> kind), self.long_word()
        self.tensors[name] = TensorInfo(name, (dims[0], dims[1], dims[2], dims[3]), <ggml_type> kind, offset, size)
        return 0

    cdef int check_places(self) except -1:
        """Compare where the tensors are with where they ought to be, and with the end of the file."""
        cdef TensorInfo tensor
        cdef uint64_t place = 0
        cdef uint64_t room
        self.data_start = (self.at + self.alignment - 1) // self.alignment * self.alignment
        room = self.size - self.data_start if self.size > self.data_start else 0
        for tensor in self.tensors.values():
            if tensor.offset != place:
                raise self.failure(f"the tensor {tensor.name} is at {tensor.offset}, where {place} is expected")
            # The last one need not be padded.
            if place > room or tensor.size > room - place:
                raise self.failure(
                    f"the tensor {tensor.name} takes {tensor.size} bytes where {max(0, <int64_t> (room - place))} are left "
                    "in the file"
                )
            place = (place + tensor.size + self.alignment - 1) // self.alignment * self.alignment
        return 0


def read_header(file, start, what, name):
    """Read the :class:`Header` of an open file."""
    return Header(file, start, what, name)
