"""Contexts that share: what drafts for a model attends to the keys and values in that one's context."""

from llama cimport (
    LLAMA_FLASH_ATTN_TYPE_AUTO,
    import_llama_cy,
    llama_memory_seq_pos_max,
    llama_model_n_embd,
    llama_model_n_embd_out,
    llama_model_n_layer,
    llama_model_n_layer_nextn,
)

from llama_cy.context_params cimport ContextParams
from llama_cy.decoder cimport Decoder
from llama_cy.handle cimport ModelHandle

from .errors import ContextError

import_llama_cy()

DRAFTS, TARGET = "gemma4-assistant", "gemma4"
# The layout of what is shared.
SHARED = ("n_ctx", "n_seq_max", "kv_unified", "swa_full", "type_k", "type_v", "flash_attn_type")


def layers(own, name, n_layer, default):
    """Return a hyperparameter of each layer, of which the file may have one for all."""
    value = own.get(name, default)
    if isinstance(value, list):
        return value if len(value) == n_layer else None
    return [value] * n_layer


def heads(own, n_layer):
    """Tell of each layer whether it has a sliding window, and the shape of its keys; None if the file doesn't say."""
    swa = own.get("attention.sliding_window_pattern")
    n_heads = layers(own, "attention.head_count_kv", n_layer, None)
    if not isinstance(swa, list) or len(swa) != n_layer or n_heads is None:
        return None
    sizes = [own.get("attention.key_length"), own.get("attention.key_length_swa", own.get("attention.key_length"))]
    return [(bool(windowed), n, sizes[bool(windowed)]) for windowed, n in zip(swa, n_heads)]


cdef int check_empty(Decoder other) except -1:
    """Refuse where something would be lost: llama.cpp clears the memory when a context comes to share it."""
    other.enter()
    try:
        for seq_id in range(other.n_seq_max):
            if llama_memory_seq_pos_max(other.mem, seq_id) >= 0:
                raise ContextError("ctx_other holds tokens, which llama.cpp would clear: make this context before it decodes")
    finally:
        other.leave()
    return 0


cdef int share(ContextParams settings, ModelHandle handle, str arch, dict params, int n_vocab) except -1:
    """Let a context have the layout of the one that it shares with, or refuse the pair."""
    cdef Decoder other = settings.other
    cdef int n_layer
    if other is None:
        if arch == DRAFTS:
            raise ContextError(f"{arch} drafts for another model: give the context of that one as ctx_other")
        return 0
    other.alive()
    if arch != DRAFTS or other.arch != TARGET:
        raise ContextError(f"ctx_other is for {DRAFTS} beside {TARGET}; these models are {arch} and {other.arch}")
    if other.predicts or other.other is not None:
        raise ContextError("ctx_other must be a context of the whole model, not of what drafts")
    given = sorted(name for name in SHARED if params.get(name) is not None)
    if given:
        raise ContextError(f"{given[0]} is that of ctx_other: leave it out")
    if other.params.flash_attn_type == LLAMA_FLASH_ATTN_TYPE_AUTO:
        raise ContextError("ctx_other must be made with flash_attn_type='enabled' or 'disabled', so that both lay out alike")
    if n_vocab != other.n_vocab:
        raise ContextError(f"the models have {n_vocab} and {other.n_vocab} tokens; as many are expected")
    if llama_model_n_embd_out(handle.ptr) != llama_model_n_embd(other.handle.ptr):
        raise ContextError(
            f"it drafts for a model of width {llama_model_n_embd_out(handle.ptr)}; "
            f"that of ctx_other is {llama_model_n_embd(other.handle.ptr)}"
        )
    n_layer = llama_model_n_layer(other.handle.ptr)
    ours = heads(handle.hyperparameters or {}, llama_model_n_layer(handle.ptr) + llama_model_n_layer_nextn(handle.ptr))
    theirs = heads(other.handle.hyperparameters or {}, n_layer)
    if ours is None or theirs is None or [windowed for windowed, *_ in theirs[-2:]] != [True, False]:
        raise ContextError("ctx_other needs models whose files tell the heads of each layer, with a window in the last but one")
    for i, keys in enumerate(ours):
        if keys != theirs[-2 if keys[0] else -1]:
            raise ContextError(f"layer {i} has heads of another number or size than the keys that it attends to")
    check_empty(other)
    settings.c.n_ctx, settings.c.n_seq_max = other.n_ctx, other.n_seq_max
    settings.c.kv_unified, settings.c.swa_full = other.params.kv_unified, other.params.swa_full
    settings.c.type_k, settings.c.type_v = other.params.type_k, other.params.type_v
    settings.c.flash_attn_type, settings.given_flash_attn = other.params.flash_attn_type, True
    settings.c.ctx_other = other.ptr
    return 0
