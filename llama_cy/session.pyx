"""The files in which llama.cpp itself keeps what a context remembers."""

from libc.stdint cimport int32_t
from libcpp.vector cimport vector
from llama cimport (
    import_llama_cy,
    llama_memory_seq_pos_max,
    llama_state_get_size,
    llama_state_load_file,
    llama_state_save_file,
    llama_state_seq_load_file,
    llama_state_seq_save_file,
    llama_token,
)

from llama_cy.context cimport Context
from llama_cy.snapshot cimport Snapshot
from llama_cy.state cimport State

import os
import struct
from pathlib import Path

import numpy as np

from . import log
from .errors import StateError
from .whole_file import whole_file

import_llama_cy()

# Magic, version and the count of tokens, before these.
HEAD = struct.Struct("<4sII")
KINDS = {b"nsgg": "the whole context", b"qsgg": "one sequence"}


def save_session(State state not None, path, tokens, seq_id):
    """Do what :meth:`State.save_session` says."""
    cdef Context context = state.context
    cdef int seq = -1 if seq_id is None else context.check_seq(seq_id, 0)
    cdef vector[llama_token] ids
    cdef bytes name
    cdef const char * c_name
    cdef size_t size, head = HEAD.size
    context.alive()
    if tokens is not None:
        context.own_vocab.collect(tokens, ids)
    context.check_own_memory()
    context.enter()
    try:
        state.check_still()
        if tokens is None and state.known_tokens(seq):
            ids.assign(context.history.begin(), context.history.end())
        with whole_file(path) as part:
            name = os.fsencode(part)
            c_name = name
            log.begin()
            with nogil:
                if seq < 0:
                    # It does not notice where what it wrote last finds no room.
                    size = head + ids.size() * sizeof(llama_token) + llama_state_get_size(context.ptr)
                    if not llama_state_save_file(context.ptr, c_name, ids.data(), ids.size()):
                        size = 0
                else:
                    size = llama_state_seq_save_file(context.ptr, c_name, seq, ids.data(), ids.size())
            if size == 0 or size != <size_t> os.path.getsize(part):
                raise StateError("llama.cpp could not write the state", log=log.tail())
    finally:
        context.leave()


def count_tokens(path, bint whole):
    """Return how many tokens a file names, if it is of the right kind and can hold them."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(HEAD.size)
        if len(head) < HEAD.size or head[:4] not in KINDS:
            raise StateError(f"not a session file: it starts with {head[:4]!r}")
        magic, _, n_tokens = HEAD.unpack(head)
        if (magic == b"nsgg") != whole:
            raise StateError(f"the session file is of {KINDS[magic]}: {'give no' if magic == b'nsgg' else 'give a'} seq_id")
        left = size - HEAD.size - 4 * n_tokens
        if left < 0:
            raise StateError(f"the session file is cut: {size} bytes do not hold its {n_tokens} tokens")
        if whole:
            # llama.cpp would make room for the name of the architecture before it sees that it ends behind the file.
            file.seek(4 * n_tokens, os.SEEK_CUR)
            length = file.read(4)
            if left < 4 or int.from_bytes(length, "little") > left - 4:
                raise StateError(f"the session file is damaged: {left} bytes do not hold the name of an architecture")
    return n_tokens


def load_session(State state not None, path, seq_id):
    """Do what :meth:`State.load_session` says."""
    cdef Context context = state.context
    cdef Snapshot before = None
    cdef int seq = -1 if seq_id is None else context.check_seq(seq_id, 0)
    cdef bytes name = os.fsencode(Path(os.fsdecode(path)))
    cdef const char * c_name = name
    cdef vector[llama_token] ids
    cdef size_t n = 0, read = 0
    context.alive()
    # One more than there are: llama.cpp takes a null pointer for a question.
    ids.resize(count_tokens(name, seq < 0) + 1)
    context.check_own_memory()
    context.enter()
    try:
        context.check_exports("restore a state")
        state.check_still()
        before = state.copy(seq, 0)
        context.epoch += 1
        log.begin()
        try:
            with nogil:
                if seq < 0:
                    read = llama_state_load_file(context.ptr, c_name, ids.data(), ids.size(), &n)
                else:
                    read = llama_state_seq_load_file(context.ptr, c_name, seq, ids.data(), ids.size(), &n)
        except RuntimeError as error:
            lines = (str(error),)
        else:
            lines = log.tail()
        if not read or seq >= 0 and read != <size_t> os.path.getsize(name):
            state.undo(before, seq)
            raise StateError("llama.cpp refused the session file", log=lines)
        context.stale = True
        ids.resize(n)
        if context.mem is not NULL and <int> n == llama_memory_seq_pos_max(context.mem, max(seq, 0)) + 1:
            state.remember(ids.data(), n, seq)
    finally:
        context.leave()
    tokens = np.empty(n, dtype=np.int32)
    cdef int32_t[::1] view = tokens
    cdef size_t i
    for i in range(n):
        view[i] = ids[i]
    return tokens
