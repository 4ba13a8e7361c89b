"""What llama.cpp would assert on in the file of an adapter, or later when it computes with one."""

from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.stdio cimport FILE
from libc.string cimport memset
from ggml cimport (
    GGML_TYPE_BF16,
    GGML_TYPE_F16,
    GGML_TYPE_F32,
    GGML_TYPE_Q8_1,
    GGML_TYPE_Q8_K,
    ggml_is_quantized,
    ggml_type,
    ggml_type_name,
)
from gguf cimport (
    GGUF_TYPE_FLOAT32,
    GGUF_TYPE_STRING,
    gguf_context,
    gguf_find_key,
    gguf_free,
    gguf_get_kv_type,
    gguf_get_n_tensors,
    gguf_get_tensor_name,
    gguf_get_tensor_ne,
    gguf_get_tensor_type,
    gguf_get_val_f32,
    gguf_get_val_str,
    gguf_init_from_file_ptr,
    gguf_init_params,
    gguf_type,
    gguf_type_name,
)
from llama cimport import_llama_cy

from . import log
from .errors import ModelLoadError

import_llama_cy()

# What a file must say of itself; the architecture is llama.cpp's to compare.
cdef dict STRINGS = {b"general.type": b"adapter", b"general.architecture": None, b"adapter.type": b"lora"}
ALPHA = b"adapter.lora.alpha"
EMBEDDING = "token_embd.weight"


def load_failure(name, reason, lines=()):
    """Describe a failed load."""
    return ModelLoadError(f"cannot load the adapter {name!r}: {reason}", log=lines)


cdef bint check_file(FILE * file, str name, dict metadata) except -1:
    """Raise for what llama.cpp would not survive, and return whether the adapter changes the token embedding.

    `metadata` is the model's.
    """
    cdef gguf_init_params params
    cdef gguf_context * gguf
    memset(&params, 0, sizeof(params))
    params.no_alloc = True
    log.begin()
    with nogil:
        gguf = gguf_init_from_file_ptr(file, params)
    if gguf is NULL:
        raise load_failure(name, "it is no whole GGUF file", log.tail())
    try:
        check_keys(gguf, name)
        return check_tensors(gguf, name, metadata)
    finally:
        gguf_free(gguf)


cdef int check_keys(gguf_context * gguf, str name) except -1:
    cdef int64_t at
    cdef gguf_type wanted, found
    for key in (*STRINGS, ALPHA):
        at = gguf_find_key(gguf, key)
        wanted = GGUF_TYPE_FLOAT32 if key == ALPHA else GGUF_TYPE_STRING
        if at >= 0:
            found = gguf_get_kv_type(gguf, at)
            if found != wanted:
                raise load_failure(
                    name, f"{key.decode()} is of type {gguf_type_name(found).decode()}, not {gguf_type_name(wanted).decode()}"
                )
        if STRINGS.get(key) is not None:
            text = b"" if at < 0 else <bytes> gguf_get_val_str(gguf, at)
            if text != STRINGS[key]:
                raise load_failure(
                    name, f"{key.decode()} is {text.decode('utf-8', 'replace')!r}, not {STRINGS[key].decode()!r}"
                )
    at = gguf_find_key(gguf, ALPHA)
    if at >= 0 and not isfinite(gguf_get_val_f32(gguf, at)):
        raise load_failure(name, f"{ALPHA.decode()} is {gguf_get_val_f32(gguf, at)}")
    return 0


cdef bint multiplies(ggml_type kind):
    """Whether a matrix of this type can be multiplied with; Q8_1 and Q8_K are for what is within a product only."""
    if kind in (GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16):
        return True
    return ggml_is_quantized(kind) and kind not in (GGML_TYPE_Q8_1, GGML_TYPE_Q8_K)


cdef bint check_tensors(gguf_context * gguf, str name, dict metadata) except -1:
    cdef int64_t i
    cdef ggml_type kind
    cdef const int64_t * ne
    pairs = {}
    for i in range(gguf_get_n_tensors(gguf)):
        tensor = gguf_get_tensor_name(gguf, i).decode("utf-8", "replace")
        ne, kind = gguf_get_tensor_ne(gguf, i), gguf_get_tensor_type(gguf, i)
        for suffix in (".lora_a", ".lora_b"):
            if tensor.endswith(suffix):
                if not multiplies(kind):
                    raise load_failure(name, f"{tensor} is of type {ggml_type_name(kind).decode()}: nothing multiplies with it")
                shape = (ne[0], ne[1], ne[2], ne[3])
                if min(shape) < 1:
                    raise load_failure(name, f"{tensor} is empty: its shape is {shape}")
                pairs.setdefault(tensor.replace(suffix, ""), {})[suffix] = shape
    if not pairs:
        raise load_failure(name, "it has no LoRA tensors", log.tail())
    for weight, pair in pairs.items():
        if len(pair) == 2:
            check_pair(name, weight, pair[".lora_a"], pair[".lora_b"], metadata)
    return EMBEDDING in pairs


cdef int check_pair(str name, str weight, tuple a, tuple b, dict metadata) except -1:
    """Compare the axes that llama.cpp does not look at before it multiplies."""
    n_expert = 1
    if "exps." in weight:
        n_expert = int(metadata.get(f"{metadata.get('general.architecture')}.expert_count", 0))
        if "_exps." not in weight:
            raise load_failure(name, f"{weight}: experts in groups can't be adapted")
    rank, other = (a[0], b[0]) if weight.endswith(EMBEDDING) else (a[1], b[0])
    if a[2:] != (n_expert, 1) or b[2:] != (n_expert, 1) or rank != other:
        raise load_failure(
            name, f"{weight}: the shapes of A {a} and B {b} do not fit together or do not fit {n_expert} experts"
            if n_expert > 1 else f"{weight}: the shapes of A {a} and B {b} do not fit together"
        )
    return 0
