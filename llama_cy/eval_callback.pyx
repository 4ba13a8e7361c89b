"""Python code that looks at a computation while it runs."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t
from libcpp cimport bool
from ggml cimport (
    GGML_TYPE_BF16,
    ggml_get_name,
    ggml_get_type_traits,
    ggml_n_dims,
    ggml_nbytes,
    ggml_op_desc,
    ggml_tensor,
    ggml_to_float_t,
    ggml_type_size,
)
from ggml_backend cimport ggml_backend_buffer, ggml_backend_tensor_get
from llama cimport import_llama_cy

from llama_cy.atomic cimport atomic_bool
from llama_cy.computation cimport computation
from llama_cy.lifetime cimport exiting

from fnmatch import fnmatchcase

import numpy as np

from .checks import each
from .enums import GGMLType
from .tensor import DTYPES, Tensor

import_llama_cy()

cdef extern from "kernels/readable.h" namespace "llama_cy":
    ggml_backend_buffer * buffer_of(const ggml_tensor * tensor) noexcept
    bool readable(ggml_backend_buffer * buffer)

NO_DATA = np.empty(0, dtype=np.float32)
NO_DATA.flags.writeable = False


cdef bool on_eval(ggml_tensor * tensor, bool ask, void * watch) noexcept nogil:
    (<Watch> watch).computing.has_read()
    # After a False the scheduler would go on with its next part and call the result good, so C never gets one here:
    # what was not asked for is computed in one go, and that ends early because the context is cancelled.
    if (<Watch> watch).stopped or exiting():
        return not ask
    cdef bool answer = (<Watch> watch).see(tensor, ask)
    (<Watch> watch).computing.check_fork()
    return answer


cdef str name_of(const ggml_tensor * tensor):
    return ggml_get_name(tensor).decode("utf-8", "replace")


cdef tuple shape_of(const ggml_tensor * tensor):
    # One token would else make a vector of what is a matrix for several.
    cdef int i
    return tuple([tensor.ne[i] for i in range(max(2, ggml_n_dims(tensor)) - 1, -1, -1)])


cdef object values(const ggml_tensor * tensor):
    """Copy a tensor to an array of its shape."""
    cdef ggml_backend_buffer * buffer = buffer_of(tensor)
    cdef size_t size = ggml_nbytes(tensor)
    raw = np.empty(size, dtype=np.uint8)
    cdef unsigned char[::1] bytes_view = raw
    cdef unsigned char * target
    if size:
        if buffer is NULL or tensor.data is NULL:
            raise ValueError(f"tensor {name_of(tensor)!r} has no memory")
        if not readable(buffer):
            raise ValueError(f"tensor {name_of(tensor)!r} is of weights that are rearranged; load the model with use_extra_bufts=False")
        target = &bytes_view[0]
        with nogil:
            ggml_backend_tensor_get(tensor, target, 0, size)
    cdef int i
    shape = shape_of(tensor)
    strides = tuple([tensor.nb[i] for i in range(len(shape) - 1, -1, -1)])
    if tensor.type == GGML_TYPE_BF16:
        bits = np.ndarray(shape, np.uint16, raw, strides=strides).astype(np.uint32) << 16
        return bits.view(np.float32)
    dtype = DTYPES.get(<int> tensor.type)
    if dtype is None:
        return dequantized(tensor, raw, shape)
    return np.ndarray(shape, dtype, raw, strides=strides).copy()


cdef object dequantized(const ggml_tensor * tensor, const unsigned char[::1] raw, tuple shape):
    cdef ggml_to_float_t to_float = ggml_get_type_traits(tensor.type).to_float
    cdef int64_t i1, i2, i3
    if to_float is NULL or tensor.nb[0] != ggml_type_size(tensor.type):
        raise ValueError(f"there are no values to read in a {GGMLType(<int> tensor.type).name} tensor like this")
    array = np.empty(shape, dtype=np.float32)
    cdef float[::1] target = array.reshape(-1)
    if not raw.shape[0]:
        return array
    cdef const unsigned char * source = &raw[0]
    cdef float * row = &target[0]
    with nogil:
        for i3 in range(tensor.ne[3]):
            for i2 in range(tensor.ne[2]):
                for i1 in range(tensor.ne[1]):
                    to_float(source + i1 * tensor.nb[1] + i2 * tensor.nb[2] + i3 * tensor.nb[3], row, tensor.ne[0])
                    row += tensor.ne[0]
    return array


cdef class Watch:
    """Something that a context tells of each tensor it computes."""

    cdef int join(self, atomic_bool * cancelled, computation * computing) except -1:
        if self.cancelled is not NULL:
            raise ValueError("this watch belongs to another context")
        self.cancelled, self.computing = cancelled, computing
        return 0

    cdef bint wants(self, const ggml_tensor * tensor) except -1:
        """Whether the computation is to stop for this tensor."""
        return False

    cdef bint take(self, const ggml_tensor * tensor) except -1:
        """Look at a computed tensor; False ends the computation."""
        return True

    cdef bool see(self, const ggml_tensor * tensor, bool ask) noexcept with gil:
        try:
            if ask:
                return self.wants(tensor)
            PyErr_CheckSignals()
            if self.take(tensor):
                return True
        except BaseException as error:
            self.error = error
        self.stopped = True
        self.cancelled.store(True)
        return not ask

    cdef int resume(self) except -1:
        """Be ready for the next computation, and raise what ended this one."""
        error, self.error = self.error, None
        self.stopped = False
        if error is not None:
            self.cancelled.store(False)
            raise error
        return 0


cdef object described(const ggml_tensor * tensor, object data):
    cdef int i
    return Tensor(
        name_of(tensor),
        ggml_op_desc(tensor).decode("utf-8", "replace"),
        GGMLType(<int> tensor.type),
        shape_of(tensor),
        tuple([name_of(tensor.src[i]) for i in range(10) if tensor.src[i] is not NULL]),
        data,
    )


def chooser(chosen):
    """Turn a filter into a function of a :class:`Tensor`, or None for one that lets everything pass."""
    if chosen is None or callable(chosen):
        return chosen
    patterns = (chosen,) if isinstance(chosen, str) else tuple(each("eval_filter", chosen))
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"eval_filter must be names or a callable, not {pattern!r}")
    return lambda tensor: any(fnmatchcase(tensor.name, pattern) for pattern in patterns)


@cython.final
cdef class EvalCallback(Watch):
    """A Python function, and which tensors it is called with."""

    def __init__(self, function, chosen):
        if not callable(function):
            raise TypeError(f"eval_callback must be callable, not {type(function).__name__}")
        self.function = function
        self.chosen = chooser(chosen)

    cdef bint wants(self, const ggml_tensor * tensor) except -1:
        cdef bint wanted = self.chosen is None or self.chosen(described(tensor, NO_DATA))
        return wanted

    cdef bint take(self, const ggml_tensor * tensor) except -1:
        answer = self.function(described(tensor, values(tensor)))
        # A comparison of arrays gives NumPy's own False.
        return not (answer is False or (isinstance(answer, np.bool_) and not answer))
