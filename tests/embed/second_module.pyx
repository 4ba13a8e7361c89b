# distutils: language = c++
"""A downstream module: nothing linked, llama.cpp reached through the table."""

from llama cimport (
    import_llama_cy,
    llama_model,
    llama_model_default_params,
    llama_model_free,
    llama_model_get_vocab,
    llama_model_load_from_file,
    llama_model_params,
    llama_token_to_piece,
    llama_vocab_n_tokens,
)

import_llama_cy()


def n_tokens(path):
    """Load a vocabulary and count its tokens."""
    cdef llama_model_params params = llama_model_default_params()
    params.vocab_only = True
    data = path.encode()
    cdef llama_model * model = llama_model_load_from_file(data, params)
    if model is NULL:
        raise ValueError(path)
    try:
        return llama_vocab_n_tokens(llama_model_get_vocab(model))
    finally:
        llama_model_free(model)


def piece(path, token):
    """Ask for a token unchecked: C++ throws out_of_range for a wrong one."""
    cdef llama_model_params params = llama_model_default_params()
    cdef char buffer[64]
    params.vocab_only = True
    data = path.encode()
    cdef llama_model * model = llama_model_load_from_file(data, params)
    try:
        n = llama_token_to_piece(llama_model_get_vocab(model), token, buffer, 64, 0, True)
        return buffer[:n]
    finally:
        llama_model_free(model)
