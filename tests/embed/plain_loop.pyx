# distutils: language = c++
"""The loop as one writes it in C, with ``llama_sampler_sample``."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_CY_CONTEXT_CAPSULE,
    LLAMA_CY_SAMPLER_CAPSULE,
    import_llama_cy,
    llama_batch_get_one,
    llama_context,
    llama_decode,
    llama_get_memory,
    llama_memory_clear,
    llama_sampler,
    llama_sampler_reset,
    llama_sampler_sample,
    llama_token,
)

import_llama_cy()


def plain_loop(context, sampler, prompt, n):
    """Decode a prompt in an empty memory and generate `n` tokens."""
    cdef llama_context * ctx = <llama_context *> PyCapsule_GetPointer(context, LLAMA_CY_CONTEXT_CAPSULE)
    cdef llama_sampler * chain = <llama_sampler *> PyCapsule_GetPointer(sampler, LLAMA_CY_SAMPLER_CAPSULE)
    cdef vector[llama_token] tokens = prompt
    cdef llama_token token
    llama_memory_clear(llama_get_memory(ctx), True)
    llama_sampler_reset(chain)
    assert llama_decode(ctx, llama_batch_get_one(tokens.data(), <int> tokens.size())) == 0
    found = []
    while len(found) < n:
        token = llama_sampler_sample(chain, ctx, -1)
        found.append(token)
        assert llama_decode(ctx, llama_batch_get_one(&token, 1)) == 0
    return found
