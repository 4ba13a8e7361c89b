# distutils: language = c++
"""A downstream module: nothing linked, llama.cpp reached through the table."""

cimport llama_cy.llama
from llama cimport (
    import_llama_cy,
    llama_model,
    llama_model_default_params,
    llama_model_free,
    llama_model_get_vocab,
    llama_model_load_from_file,
    llama_token_to_piece,
    llama_vocab_n_tokens,
)
from llama_cy.llama cimport llama_model as the_same_model
from llama_cy.llama cimport llama_vocab_type

from llama_cy cimport Context

import_llama_cy()


cdef llama_model * load_vocab(path) except NULL:
    # Declared under the package's name, given what came from the short one.
    cdef llama_cy.llama.llama_model_params params = llama_model_default_params()
    params.vocab_only = True
    data = path.encode()
    cdef llama_model * model = llama_model_load_from_file(data, params)
    if model is NULL:
        raise ValueError(path)
    return model


def vocab_type(path):
    """Use the mirror under the package's name, with what came from it under the short one."""
    cdef the_same_model * model = load_vocab(path)
    try:
        return <int> llama_vocab_type(llama_cy.llama.llama_model_get_vocab(model))
    finally:
        llama_model_free(model)


def n_tokens(path):
    """Load a vocabulary and count its tokens."""
    cdef llama_model * model = load_vocab(path)
    try:
        return llama_vocab_n_tokens(llama_model_get_vocab(model))
    finally:
        llama_model_free(model)


def is_open(Context context):
    """Take one of our classes."""
    return not context.closed


def piece(path, token):
    """Ask for a token unchecked: C++ throws out_of_range for a wrong one."""
    cdef char buffer[64]
    cdef llama_model * model = load_vocab(path)
    try:
        n = llama_token_to_piece(llama_model_get_vocab(model), token, buffer, 64, 0, True)
        return buffer[:n]
    finally:
        llama_model_free(model)
