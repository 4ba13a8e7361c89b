"""Squares of what goes into the matrices of a model, summed while it computes."""

cimport cython
from ggml cimport GGML_OP_MUL_MAT, GGML_OP_MUL_MAT_ID, ggml_tensor

from llama_cy.eval_callback cimport Watch, name_of, values

import numpy as np


@cython.final
cdef class Activations(Watch):
    """Sums and counts by the name of the weight; each of shape ``(n_expert, …)``, with one expert where there are none."""
    cdef readonly dict sums
    cdef readonly dict counts

    def __cinit__(self):
        self.sums, self.counts = {}, {}

    cdef bint wants(self, const ggml_tensor * tensor) except -1:
        if tensor.op != GGML_OP_MUL_MAT and tensor.op != GGML_OP_MUL_MAT_ID:
            return False
        return name_of(tensor.src[0]).endswith(".weight")

    cdef bint take(self, const ggml_tensor * tensor) except -1:
        name = name_of(tensor.src[0])
        n_embd, n_expert = tensor.src[0].ne[0], tensor.src[0].ne[2]
        if name not in self.sums:
            self.sums[name] = np.zeros((n_expert, n_embd))
            self.counts[name] = np.zeros(n_expert, dtype=np.int64)
        squares = np.square(values(tensor.src[1]).astype(np.float64))
        if tensor.op == GGML_OP_MUL_MAT:
            squares = squares.reshape(-1, n_embd)
            self.sums[name] += squares.sum(axis=0)
            self.counts[name] += len(squares)
            return True
        ids = values(tensor.src[2])
        # Each expert of a token has its own input, or all have the same.
        squares = np.broadcast_to(squares.reshape(len(ids), -1, n_embd), (*ids.shape, n_embd))
        np.add.at(self.sums[name], ids, squares)
        np.add.at(self.counts[name], ids, 1)
        return True
