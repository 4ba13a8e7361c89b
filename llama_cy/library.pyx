"""What the llama.cpp that was compiled in is, has names for and can do."""

from ggml_cpu cimport GGML_NUMA_STRATEGY_DISABLED, ggml_numa_strategy
from libcpp.vector cimport vector
from llama cimport (
    import_llama_cy,
    llama_flash_attn_type,
    llama_flash_attn_type_name,
    llama_ftype,
    llama_ftype_name,
    llama_load_mode,
    llama_load_mode_from_str,
    llama_load_mode_name,
    llama_max_devices,
    llama_max_parallel_sequences,
    llama_max_tensor_buft_overrides,
    llama_numa_init,
    llama_split_path,
    llama_split_prefix,
    llama_supports_gpu_offload,
    llama_supports_mlock,
    llama_supports_mmap,
    llama_supports_rpc,
    llama_version,
)

from llama_cy.lifetime cimport start_backends

import os

from .checks import choice, integer
from .enums import FlashAttnType, Ftype, LoadMode, NumaStrategy
from .errors import BackendError

import_llama_cy()

# llama.cpp counts the files of a model in 16 bits, and writes five digits.
MAX_SPLITS = 65_535

numa_chosen = None


def llama_cpp_version():
    """Return the version of llama.cpp, such as ``"1.0.0"``.."""
    return llama_version().decode("utf-8", "replace")


def ftype_name(ftype):
    """Return llama.cpp's name of a quantization, such as ``"Q4_K - Medium"``. Wraps ``llama_ftype_name``.

    Parameters
    ----------
    ftype : Ftype, int or str
    """
    return llama_ftype_name(<llama_ftype> <int> choice("ftype", Ftype, ftype)).decode("utf-8", "replace")


def flash_attn_type_name(flash_attn_type):
    """Return llama.cpp's name of a choice about flash attention. Wraps ``llama_flash_attn_type_name``.

    Parameters
    ----------
    flash_attn_type : FlashAttnType, int or str
    """
    number = <llama_flash_attn_type> <int> choice("flash_attn_type", FlashAttnType, flash_attn_type)
    return llama_flash_attn_type_name(number).decode("utf-8", "replace")


def load_mode_name(load_mode):
    """Return llama.cpp's name of a way to read a model file, such as ``"mmap+mlock"``. Wraps ``llama_load_mode_name``.

    Parameters
    ----------
    load_mode : LoadMode, int or str
    """
    number = <llama_load_mode> <int> choice("load_mode", LoadMode, load_mode)
    return llama_load_mode_name(number).decode("utf-8", "replace")


def load_mode_from_str(text):
    """Turn a name as :func:`load_mode_name` gives it into the member. Wraps ``llama_load_mode_from_str``.

    Parameters
    ----------
    text : str

    Returns
    -------
    LoadMode
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be str, not {type(text).__name__}")
    names = [load_mode_name(mode) for mode in LoadMode]
    if text not in names:
        # llama.cpp throws what can't be told from a failure of its own.
        raise ValueError(f"text is {text!r}; expected one of {', '.join(names)}")
    data = text.encode("utf-8")
    return LoadMode(<int> llama_load_mode_from_str(data))


def max_devices():
    """Return how many devices a model can be split over. Wraps ``llama_max_devices``."""
    return llama_max_devices()


def max_parallel_sequences():
    """Return the limit of a context's `n_seq_max`. Wraps ``llama_max_parallel_sequences``."""
    return llama_max_parallel_sequences()


def max_tensor_buft_overrides():
    """Return how many `tensor_buft_overrides` a load takes. Wraps ``llama_max_tensor_buft_overrides``."""
    return llama_max_tensor_buft_overrides()


def supports_mmap():
    """Whether weights can stay in the file and be mapped into memory. Wraps ``llama_supports_mmap``."""
    return llama_supports_mmap()


def supports_mlock():
    """Whether weights can be kept from being swapped out. Wraps ``llama_supports_mlock``."""
    return llama_supports_mlock()


def supports_gpu_offload():
    """Whether there is a GPU to compute on. Wraps ``llama_supports_gpu_offload``."""
    start_backends()
    return llama_supports_gpu_offload()


def supports_rpc():
    """Whether this build computes on other machines. Wraps ``llama_supports_rpc``."""
    return llama_supports_rpc()


def numa_init(numa):
    """Say how the threads of all computations are spread over the nodes of a NUMA machine. Wraps ``llama_numa_init``.

    It holds for the process. Call it before a model is loaded.

    Parameters
    ----------
    numa : NumaStrategy, int or str
        "disabled" leaves all as it is.

    Raises
    ------
    BackendError
        Another one was chosen before.
    """
    global numa_chosen
    cdef ggml_numa_strategy strategy = <ggml_numa_strategy> <int> choice("numa", NumaStrategy, numa)
    if strategy != GGML_NUMA_STRATEGY_DISABLED and numa_chosen is not None:
        raise BackendError(f"numa_init was called before in this process, with {numa_chosen!r}")
    with nogil:
        llama_numa_init(strategy)
    if strategy != GGML_NUMA_STRATEGY_DISABLED:
        numa_chosen = NumaStrategy(<int> strategy).name.lower()


cdef tuple check_split(object split_no, object split_count):
    count = integer("split_count", split_count, 1, MAX_SPLITS)
    return integer("split_no", split_no, 0, count - 1), count


cdef bytes path_bytes(str name, object path):
    data = os.fsencode(path)
    if b"\0" in data:
        raise ValueError(f"{name} {path!r} contains a NUL character")
    return data


def split_path(path_prefix, split_no, split_count):
    """Return the name of one file of a model that comes in several. Wraps ``llama_split_path``.

    Parameters
    ----------
    path_prefix : str, bytes or os.PathLike
        What all the names begin with.
    split_no : int
        Which file, from 0.
    split_count : int
        How many there are.

    Returns
    -------
    str
        ``…-00001-of-00003.gguf`` for the first of three.
    """
    no, count = check_split(split_no, split_count)
    data = path_bytes("path_prefix", path_prefix)
    cdef const char * prefix = data
    cdef vector[char] buffer
    buffer.resize(len(data) + 64)
    cdef int n = llama_split_path(buffer.data(), buffer.size(), prefix, no, count)
    return os.fsdecode(buffer.data()[:n])


def split_prefix(split_path, split_no, split_count):
    """Return what the names of a model's files begin with, or None for a name that is not that of this file.

    Wraps ``llama_split_prefix``.

    Parameters
    ----------
    split_path : str, bytes or os.PathLike
    split_no : int
        Which file it is, from 0.
    split_count : int
        How many there are.

    Returns
    -------
    str or None
    """
    no, count = check_split(split_no, split_count)
    data = path_bytes("split_path", split_path)
    cdef const char * path = data
    cdef vector[char] buffer
    buffer.resize(len(data) + 64)
    cdef int n = llama_split_prefix(buffer.data(), buffer.size(), path, no, count)
    return os.fsdecode(buffer.data()[:n]) if n > 0 else None
