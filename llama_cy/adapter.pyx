"""LoRA adapters: small changes to a model's weights, switched on and off while it runs."""

cimport cython
from libc.stdio cimport FILE, fclose
from libcpp.vector cimport vector
from llama cimport (
    import_llama_cy,
    llama_adapter_get_alora_invocation_tokens,
    llama_adapter_get_alora_n_invocation_tokens,
    llama_adapter_lora,
    llama_adapter_lora_free,
    llama_adapter_lora_init,
    llama_adapter_lora_init_from_file_ptr,
    llama_adapter_meta_count,
    llama_adapter_meta_key_by_index,
    llama_adapter_meta_val_str,
    llama_adapter_meta_val_str_by_index,
    llama_model,
    llama_set_adapters_lora,
    llama_synchronize,
    llama_token,
)

from llama_cy.abort cimport device_lost
from llama_cy.adapter_gate cimport adapter_gate
from llama_cy.context cimport Context
from llama_cy.file_pointer cimport file_pointer
from llama_cy.lifetime cimport ADAPTER, begin_free, born, check_exit, died, end_free, enter_native, leave_native
from llama_cy.model cimport Model

import os
from collections.abc import Mapping

import numpy as np

from . import log
from .adapter_check import check_adapter
from .checks import each, real
from .errors import ClosedError, LlamaError
from .gguf_file import gguf_bytes
from .gguf_header import load_failure
from .loading import readable
from .sources import descriptor

import_llama_cy()


cdef void free_adapter(llama_adapter_lora * ptr, bint offloaded, adapter_gate * gate) noexcept nogil:
    if device_lost(offloaded):
        return
    gate.begin_change()
    llama_adapter_lora_free(ptr)
    gate.end_change()


# Freeing the adapter needs the weights, so a collected cycle must not take `handle` away first.
@cython.final
@cython.no_gc_clear
cdef class AdapterHandle:
    """Owner of one ``llama_adapter_lora *``: shared by the LoraAdapter and the contexts that compute with it."""

    cdef llama_adapter_lora * alive(self) except NULL:
        if self.ptr is NULL or self.handle.ptr is NULL:
            check_exit()
            raise ClosedError("the adapter is closed")
        return self.ptr

    def __dealloc__(self):
        cdef adapter_gate * gate
        if self.ptr is not NULL:
            died(ADAPTER, self.ptr)
            # At exit the model goes first, and it takes its adapters along.
            if self.handle.ptr is not NULL:
                gate = self.handle.gate()
                begin_free()
                with nogil:
                    free_adapter(self.ptr, self.handle.offloaded, gate)
                end_free()
            self.ptr = NULL


@cython.final
cdef class LoraAdapter:
    """A LoRA adapter, loaded for one model; :meth:`Context.set_adapters` makes a context compute with it.

    Wraps ``llama_adapter_lora_init`` and ``llama_adapter_lora_init_from_file_ptr``.

    Parameters
    ----------
    model : Model
        The model that it was trained for.
    source : str, bytes, os.PathLike, binary file, or int
        A GGUF file: its path, or an open file or a file descriptor, which is read from where it stands and left there.

    Attributes
    ----------
    model : Model
    path : str
        Where it came from.

    Raises
    ------
    ModelLoadError
        The file is not there, damaged, no LoRA adapter, or one for another model; with llama.cpp's last log lines.

    Notes
    -----
    It is freed once it is closed, or gone, and no context computes with it. The model's weights stay as long.
    """

    def __cinit__(self, Model model not None, source):
        model.ptr()
        cdef AdapterHandle handle = AdapterHandle()
        handle.handle = model.handle
        if model.vocab_only:
            raise ValueError("the model was loaded with vocab_only, so there are no weights to adapt")
        cdef dict metadata = model.metadata
        self.model = model
        if isinstance(source, (str, bytes, os.PathLike)):
            self.path = os.fsdecode(source)
            load_path(handle, self.path, metadata)
        else:
            self.path = str(getattr(source, "name", source))
            with descriptor(source, "an adapter") as (fd, position):
                load_descriptor(handle, fd, position, self.path, metadata)
        log.flush()
        self.handle = handle

    cdef llama_adapter_lora * ptr(self) except NULL:
        if self.handle is None:
            check_exit()
            raise ClosedError("the adapter is closed")
        return self.handle.alive()

    def close(self):
        """Let go of the adapter; a context that computes with it goes on. May be called again.

        Wraps ``llama_adapter_lora_free``.
        """
        self.handle = None

    @property
    def closed(self):
        """Whether :meth:`close` was called."""
        return self.handle is None

    def __bool__(self):
        return self.handle is not None

    def __enter__(self):
        self.ptr()
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<LoraAdapter {self.path!r}>" if self else f"<LoraAdapter {self.path!r}, closed>"

    @property
    def metadata(self):
        """Scalar metadata of the file, a dict of str to str.

        Wraps ``llama_adapter_meta_count``, ``llama_adapter_meta_key_by_index`` and
        ``llama_adapter_meta_val_str_by_index``.
        """
        cdef llama_adapter_lora * ptr = self.ptr()
        cdef vector[char] buffer
        cdef int i, n
        result = {}
        buffer.resize(256)
        for i in range(llama_adapter_meta_count(ptr)):
            n = llama_adapter_meta_key_by_index(ptr, i, buffer.data(), buffer.size())
            if n >= <int> buffer.size():
                buffer.resize(n + 1)
                llama_adapter_meta_key_by_index(ptr, i, buffer.data(), buffer.size())
            key = buffer.data()[:n].decode("utf-8", "replace")
            n = llama_adapter_meta_val_str_by_index(ptr, i, buffer.data(), buffer.size())
            if n >= <int> buffer.size():
                buffer.resize(n + 1)
                llama_adapter_meta_val_str_by_index(ptr, i, buffer.data(), buffer.size())
            result[key] = buffer.data()[:n].decode("utf-8", "replace")
        return result

    def meta_val_str(self, key):
        """Return one value of the metadata, or None where there is no such key. Wraps ``llama_adapter_meta_val_str``.

        Parameters
        ----------
        key : str

        Returns
        -------
        str or None
        """
        cdef llama_adapter_lora * ptr = self.ptr()
        cdef vector[char] buffer
        if not isinstance(key, str):
            raise TypeError(f"key must be str, not {type(key).__name__}")
        data = key.encode("utf-8")
        if b"\0" in data:
            return None
        cdef const char * c_key = data
        buffer.resize(256)
        cdef int n = llama_adapter_meta_val_str(ptr, c_key, buffer.data(), buffer.size())
        if n < 0:
            return None
        if n >= <int> buffer.size():
            buffer.resize(n + 1)
            llama_adapter_meta_val_str(ptr, c_key, buffer.data(), buffer.size())
        return buffer.data()[:n].decode("utf-8", "replace")

    @property
    def alora_invocation_tokens(self):
        """The tokens behind which an activated LoRA is to be set, a tuple of int; empty for any other LoRA.

        llama.cpp does not look for them: set the adapter once the prompt has got so far.
        Wraps ``llama_adapter_get_alora_n_invocation_tokens`` and ``llama_adapter_get_alora_invocation_tokens``.
        """
        cdef llama_adapter_lora * ptr = self.ptr()
        cdef const llama_token * tokens = llama_adapter_get_alora_invocation_tokens(ptr)
        cdef size_t i
        return tuple([tokens[i] for i in range(llama_adapter_get_alora_n_invocation_tokens(ptr))])


cdef int load_path(AdapterHandle handle, str name, dict metadata) except -1:
    cdef bytes data = readable(name, "adapter")
    cdef const char * c_path = data
    cdef llama_model * weights = handle.handle.alive()
    cdef adapter_gate * gate = handle.handle.gate()
    cdef llama_adapter_lora * ptr
    with open(data, "rb") as opened:
        embeds = check_adapter(opened, name, metadata)
    if embeds:
        check_embedding(handle, name, metadata)
    log.begin()
    enter_native()
    try:
        with nogil:
            gate.begin_change()
            try:
                ptr = llama_adapter_lora_init(weights, c_path)
            finally:
                gate.end_change()
    finally:
        leave_native()
    return loaded(handle, ptr, name)


cdef int load_descriptor(AdapterHandle handle, int fd, position, str name, dict metadata) except -1:
    with open(os.dup(fd), "rb") as opened:
        embeds = check_adapter(opened, name, metadata, start=position)
    if embeds:
        check_embedding(handle, name, metadata)
    os.lseek(fd, position, os.SEEK_SET)
    log.begin()
    return loaded(handle, init_from(handle, fd), name)


cdef llama_adapter_lora * init_from(AdapterHandle handle, int fd) except? NULL:
    cdef llama_model * weights = handle.handle.alive()
    cdef llama_adapter_lora * ptr
    cdef adapter_gate * gate = handle.handle.gate()
    cdef FILE * file = file_pointer(fd)
    enter_native()
    try:
        with nogil:
            gate.begin_change()
            try:
                ptr = llama_adapter_lora_init_from_file_ptr(weights, file)
            finally:
                gate.end_change()
    finally:
        leave_native()
        fclose(file)
    return ptr


cdef int loaded(AdapterHandle handle, llama_adapter_lora * ptr, str name) except -1:
    if ptr is NULL:
        check_exit()
        raise load_failure("adapter", name, "llama.cpp refused it", log.tail())
    handle.ptr = ptr
    born(ADAPTER, ptr)
    return 0


cdef int check_embedding(AdapterHandle handle, str name, dict metadata) except -1:
    """Refuse to adapt an embedding that is the output matrix too: llama.cpp would multiply in an order that asserts."""
    tiny = np.zeros((1, 1), dtype=np.float32)
    facts = {key: metadata.get(key, "") for key in ("general.architecture",)}
    facts |= {"general.type": "adapter", "adapter.type": "lora"}
    log.begin()
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(gguf_bytes(facts, {"output.weight.lora_a": tiny, "output.weight.lora_b": tiny}))
        file.flush()
        file.seek(0)
        # It can't fit; what llama.cpp says of it tells whether there is such a matrix.
        free_adapter(init_from(handle, file.fileno()), handle.handle.offloaded, handle.handle.gate())
    if any("does not exist" in line for line in log.tail()):
        raise load_failure(
            "adapter", name,
            "it adapts token_embd.weight, which is the output matrix of this model too; llama.cpp can't do that"
        )
    return 0


def pairs_of(adapters):
    """Turn what set_adapters() takes into a list of (adapter, scale)."""
    if adapters is None:
        return []
    if isinstance(adapters, Mapping):
        pairs = list(adapters.items())
    else:
        pairs = [pair if isinstance(pair, tuple) else (pair, 1.0)
                 for pair in each("adapters", adapters, "a mapping, an iterable of pairs or None")]
    checked = []
    for pair in pairs:
        if len(pair) != 2 or not isinstance(pair[0], LoraAdapter):
            raise TypeError(f"adapters must be pairs of a LoraAdapter and a scale, not {pair!r}")
        if any(pair[0] is other for other, _ in checked):
            raise ValueError(f"{pair[0]!r} is given twice")
        checked.append((pair[0], real("scale", pair[1])))
    return checked


def set_adapters(Context context not None, adapters):
    """Do what :meth:`Context.set_adapters` says."""
    cdef LoraAdapter adapter
    cdef vector[llama_adapter_lora *] ptrs
    cdef vector[float] scales
    context.alive()
    pairs = pairs_of(adapters)
    cdef int code
    handles = []
    context.enter()
    try:
        for adapter, scale in pairs:
            ptrs.push_back(adapter.ptr())
            scales.push_back(scale)
            if adapter.handle.handle is not context.handle:
                raise ValueError(f"{adapter!r} was loaded for another model than the context's: {adapter.model!r}")
            handles.append(adapter.handle)
        context.computing.due = True
        # A device may still compute with the ones of before.
        with nogil:
            llama_synchronize(context.ptr)
            code = llama_set_adapters_lora(context.ptr, ptrs.data(), ptrs.size(), scales.data())
        if code != 0:
            raise LlamaError("the adapters could not be set", code=code)
        context.epoch += 1
        context.adapters = (pairs, handles)
    finally:
        context.leave()


def adapters_of(Context context not None):
    """Do what :attr:`Context.adapters` says."""
    context.alive()
    return dict(context.adapters[0]) if context.adapters else {}
