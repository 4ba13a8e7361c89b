from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector

from llama_cy.loop cimport LAST, Step, TokenLoop

cdef extern from "kernels/text.h" nogil:
    cdef cppclass text_assembler "llama_cy::text_assembler":
        void add_stop(const string &) except +
        bool feed(const char *, size_t) except +
        size_t ready()
        const char * data()
        size_t size()
        void take(size_t)


cdef class TextStream:
    cdef readonly TokenLoop loop
    cdef text_assembler text
    cdef vector[char] piece
    # What complete() gathered before an exception.
    cdef string waiting

    cdef Step advance(self) except? LAST nogil
    cdef str take(self, size_t size)
