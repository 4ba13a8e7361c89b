"""A model file, loaded."""

from libc.stdint cimport uint32_t
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_TOKEN_NULL,
    import_llama_cy,
    llama_model,
    llama_model_chat_template,
    llama_model_cls_label,
    llama_model_decoder_start_token,
    llama_model_desc,
    llama_model_ftype,
    llama_model_has_decoder,
    llama_model_has_encoder,
    llama_model_is_diffusion,
    llama_model_is_hybrid,
    llama_model_is_recurrent,
    llama_model_meta_count,
    llama_model_meta_key_by_index,
    llama_model_meta_val_str_by_index,
    llama_model_n_cls_out,
    llama_model_n_ctx_train,
    llama_model_n_embd,
    llama_model_n_embd_inp,
    llama_model_n_embd_out,
    llama_model_n_head,
    llama_model_n_head_kv,
    llama_model_n_layer,
    llama_model_n_layer_nextn,
    llama_model_n_params,
    llama_model_n_swa,
    llama_model_rope_freq_scale_train,
    llama_model_rope_type,
    llama_model_save_to_file,
    llama_model_size,
)

from llama_cy.handle cimport ModelHandle
from llama_cy.lifetime cimport enter_native, leave_native
from llama_cy.loading cimport LoadParams

import os
from pathlib import Path

from .checks import flag
from .enums import Ftype, RopeType
from .errors import ClosedError
from .progress import reporter

import_llama_cy()


cdef class Model:
    """A model loaded from a GGUF file. Wraps ``llama_model_load_from_file``.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        The GGUF file; the first one, if the model is split.
    n_gpu_layers : int, "auto" or "fit"
        Layers to place on a GPU; -1 for all. "auto", the default, means all where a GPU is present and none elsewhere;
        any other number than 0 without a GPU is a BackendError. "fit" takes as many as there is room for beside a
        context of 4096 tokens (:func:`fit_gpu_layers`).
    device : str, Device or several of them
        ``"auto"``, ``"cpu"``; ``"metal"``, ``"cuda"``, ``"vulkan"`` for all devices of a backend, ``"cuda:0"`` for one;
        or what :func:`devices` lists, or its name.
    progress : callable, True or None
        Called with the share loaded, 0.0 to 1.0; an exception in it ends the load and comes out of here.
        True draws a bar (needs the ``progress`` extra, except in a notebook).
    trusted : bool
        False for a file from anywhere: it is loaded and used a little in a child process first, on the CPU and with bounds
        on time and memory, and only then here; `check_tensors` is on. That takes as long as a second load. Whether True
        or False, the head of a file is looked at before llama.cpp reads it.
    split_mode, main_gpu, tensor_split, load_mode, lazy_mode, kv_overrides, vocab_only, check_tensors, \
use_extra_bufts, no_host, load_mtp
        The members of ``llama_model_params``, under their names. Enums may be given by name, as in
        ``load_mode="mlock"``; `kv_overrides` is a dict of key to bool, int, float or str.

    Raises
    ------
    ModelLoadError
        The file is not there, damaged or no model; or, not trusted, it ended the child. With llama.cpp's last log lines
        where it was llama.cpp that refused it; it is an OSError too, with `errno` and `filename` where the system gave one.
    BackendError
        A device or GPU layers were asked for and are not there; the message lists what is.

    Notes
    -----
    Ctrl-C ends a load. The weights are freed once the model is closed and the last Vocab and Context made from it
    is gone. What is not given is as llama.cpp has it. Wraps ``llama_model_default_params``.
    """

    def __cinit__(self, path, *, n_gpu_layers="auto", progress=None, trusted=True, **params):
        if isinstance(path, ModelHandle):
            # From a capsule: loaded already.
            self.handle = path
            self.own_vocab = Vocab.borrow(self.handle)
            self.path = ""
            # Hyperparameters are read after the vocabulary, unless that is all.
            self.vocab_only = llama_model_n_embd(self.handle.alive()) == 0
            return
        name = os.fsdecode(path)
        cdef bint trusting = flag("trusted", trusted)
        if n_gpu_layers == "fit":
            from .memory_plan import OF_A_MODEL, fit_gpu_layers

            given = {key: value for key, value in params.items() if key in OF_A_MODEL}
            n_gpu_layers = fit_gpu_layers(name, **given)
        cdef LoadParams load_params = LoadParams(n_gpu_layers, params)
        with reporter(progress, os.path.basename(name)) as callback:
            self.handle = load_params.from_file(name, callback, trusting)
        self.own_vocab = Vocab.borrow(self.handle)
        self.path = name
        self.vocab_only = load_params.c.vocab_only

    @classmethod
    async def load_async(cls, path, *, progress=None, **params):
        """Load a model in a thread, while the event loop goes on; parameters as in :class:`Model`.

        `progress` is called in that thread. A cancelled task ends the load; where the file is not trusted, the child
        process comes to its end first.
        """
        from .async_load import load_in_thread

        return await load_in_thread(cls, path, progress=progress, **params)

    cdef llama_model * ptr(self) except NULL:
        if self.handle is None:
            raise ClosedError("the model is closed")
        return self.handle.alive()

    def close(self):
        """Let go of the weights; they are freed once no Vocab or Context uses them. May be called again.

        Wraps ``llama_model_free``.
        """
        self.handle = None
        self.own_vocab = None

    @property
    def vocab(self):
        """The :class:`Vocab`; one that you keep works on after :meth:`close`. Wraps ``llama_model_get_vocab``."""
        self.ptr()
        return self.own_vocab

    @property
    def placement(self):
        """Which layers and how many bytes are on which device; a list of :class:`Placed`, most bytes first."""
        from .placement import placement

        return placement(self)

    @property
    def closed(self):
        """Whether :meth:`close` was called."""
        return self.handle is None

    def __enter__(self):
        self.ptr()
        return self

    def __exit__(self, *_):
        self.close()

    def __bool__(self):
        return self.handle is not None

    def __repr__(self):
        return f"<Model {self.path!r}: {self.desc}>" if self else f"<Model {self.path!r}, closed>"

    def _repr_html_(self):
        from .notebook import model_html

        return model_html(self)

    def context(self, **params):
        """Create a :class:`Context`; parameters as there."""
        from .context import Context

        return Context(self, **params)

    def load_adapter(self, source):
        """Load a :class:`LoraAdapter` for this model; parameters as there."""
        from .adapter import LoraAdapter

        return LoraAdapter(self, source)

    def embed(self, inputs, *, pooling_type=None, normalize=True, truncate=False, **params):
        """Turn texts into vectors with a context of their own; :class:`Embedder` keeps one, and says what all means."""
        from .embedding import embed

        self.ptr()
        return embed(self, inputs, normalize, truncate, {"pooling_type": pooling_type} | params)

    def rerank(self, query, documents, *, truncate=False, **params):
        """Score documents by how well they answer a query, and return a :class:`Ranking`; see :class:`Reranker`."""
        from .reranking import rerank

        self.ptr()
        return rerank(self, query, documents, truncate, params)

    def save(self, path):
        """Write the model to a GGUF file. Wraps ``llama_model_save_to_file``.

        Parameters
        ----------
        path : str, bytes or os.PathLike
            Written beside its final name first, so that a failure leaves no half file.
        """
        # Held here, because another thread may close the model meanwhile.
        self.ptr()
        cdef ModelHandle handle = self.handle
        cdef llama_model * ptr = handle.alive()
        if self.vocab_only:
            raise ValueError("a model loaded with vocab_only has no weights to save")
        target = Path(os.fsdecode(path))
        part = target.with_name(target.name + ".part")
        data = os.fsencode(part)
        with open(data, "wb"):
            pass
        cdef const char * c_path = data
        try:
            enter_native()
            try:
                with nogil:
                    llama_model_save_to_file(ptr, c_path)
            finally:
                leave_native()
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)

    @property
    def metadata(self):
        """Scalar metadata of the file, a dict of str to str.

        Wraps ``llama_model_meta_count``, ``llama_model_meta_key_by_index`` and ``llama_model_meta_val_str_by_index``.
        """
        cdef llama_model * ptr = self.ptr()
        cdef vector[char] buffer
        cdef int i, n
        result = {}
        buffer.resize(256)
        for i in range(llama_model_meta_count(ptr)):
            n = llama_model_meta_key_by_index(ptr, i, buffer.data(), buffer.size())
            if n >= <int> buffer.size():
                buffer.resize(n + 1)
                llama_model_meta_key_by_index(ptr, i, buffer.data(), buffer.size())
            key = buffer.data()[:n].decode("utf-8", "replace")
            n = llama_model_meta_val_str_by_index(ptr, i, buffer.data(), buffer.size())
            if n >= <int> buffer.size():
                buffer.resize(n + 1)
                llama_model_meta_val_str_by_index(ptr, i, buffer.data(), buffer.size())
            result[key] = buffer.data()[:n].decode("utf-8", "replace")
        return result

    def chat_template(self, name=None):
        """Return the Jinja chat template of the file, or None. Wraps ``llama_model_chat_template``.

        Parameters
        ----------
        name : str, optional
            A named template; by default the main one.
        """
        cdef llama_model * ptr = self.ptr()
        cdef const char * text
        if name is None:
            text = llama_model_chat_template(ptr, NULL)
        elif not isinstance(name, str):
            raise TypeError(f"name must be str, not {type(name).__name__}")
        else:
            data = name.encode("utf-8")
            text = llama_model_chat_template(ptr, data)
        return None if text is NULL else text.decode("utf-8", "replace")

    @property
    def desc(self):
        """Architecture, size and quantization in a few words. Wraps ``llama_model_desc``."""
        cdef char buffer[256]
        llama_model_desc(self.ptr(), buffer, 256)
        return buffer.decode("utf-8", "replace")

    @property
    def ftype(self):
        """Quantization of the file, an :class:`Ftype`, or an int where this build has no name for it.

        Wraps ``llama_model_ftype``.
        """
        number = <int> llama_model_ftype(self.ptr())
        return Ftype(number) if number in Ftype._value2member_map_ else number

    @property
    def n_params(self):
        """Number of parameters. Wraps ``llama_model_n_params``."""
        return llama_model_n_params(self.ptr())

    @property
    def size(self):
        """Bytes of all tensors. Wraps ``llama_model_size``."""
        return llama_model_size(self.ptr())

    @property
    def n_ctx_train(self):
        """Context length it was trained with, in tokens. Wraps ``llama_model_n_ctx_train``."""
        return llama_model_n_ctx_train(self.ptr())

    @property
    def n_embd(self):
        """Width of the hidden state. Wraps ``llama_model_n_embd``."""
        return llama_model_n_embd(self.ptr())

    @property
    def n_embd_inp(self):
        """Width of an input embedding. Wraps ``llama_model_n_embd_inp``."""
        return llama_model_n_embd_inp(self.ptr())

    @property
    def n_embd_out(self):
        """Width of an output embedding. Wraps ``llama_model_n_embd_out``."""
        return llama_model_n_embd_out(self.ptr())

    @property
    def n_layer(self):
        """Number of layers. Wraps ``llama_model_n_layer``."""
        return llama_model_n_layer(self.ptr())

    @property
    def n_layer_nextn(self):
        """Number of multi-token-prediction layers. Wraps ``llama_model_n_layer_nextn``."""
        return llama_model_n_layer_nextn(self.ptr())

    @property
    def n_head(self):
        """Attention heads of the first layer. Wraps ``llama_model_n_head``."""
        return llama_model_n_head(self.ptr())

    @property
    def n_head_kv(self):
        """Key-value heads of the first layer. Wraps ``llama_model_n_head_kv``."""
        return llama_model_n_head_kv(self.ptr())

    @property
    def n_swa(self):
        """Sliding window in tokens, 0 without one. Wraps ``llama_model_n_swa``."""
        return llama_model_n_swa(self.ptr())

    @property
    def rope_type(self):
        """Variant of rotary embedding, a :class:`RopeType`. Wraps ``llama_model_rope_type``."""
        return RopeType(<int> llama_model_rope_type(self.ptr()))

    @property
    def rope_freq_scale_train(self):
        """RoPE frequency scale it was trained with. Wraps ``llama_model_rope_freq_scale_train``."""
        return llama_model_rope_freq_scale_train(self.ptr())

    @property
    def cls_labels(self):
        """Labels of the classifier outputs, None where one has no label.

        Wraps ``llama_model_n_cls_out`` and ``llama_model_cls_label``.
        """
        cdef llama_model * ptr = self.ptr()
        cdef uint32_t i
        cdef const char * label
        labels = []
        for i in range(llama_model_n_cls_out(ptr)):
            label = llama_model_cls_label(ptr, i)
            labels.append(None if label is NULL else label.decode("utf-8", "replace"))
        return tuple(labels)

    @property
    def has_encoder(self):
        """Whether :meth:`Context.encode` comes before decoding. Wraps ``llama_model_has_encoder``."""
        return llama_model_has_encoder(self.ptr())

    @property
    def has_decoder(self):
        """Whether it can decode. Wraps ``llama_model_has_decoder``."""
        return llama_model_has_decoder(self.ptr())

    @property
    def decoder_start_token(self):
        """First token for the decoder of an encoder-decoder model, else None.

        Wraps ``llama_model_decoder_start_token``.
        """
        token = llama_model_decoder_start_token(self.ptr())
        return None if token == LLAMA_TOKEN_NULL else token

    @property
    def is_recurrent(self):
        """Whether its memory is a state (Mamba, RWKV) and no cache. Wraps ``llama_model_is_recurrent``."""
        return llama_model_is_recurrent(self.ptr())

    @property
    def is_hybrid(self):
        """Whether it mixes attention and recurrent layers. Wraps ``llama_model_is_hybrid``."""
        return llama_model_is_hybrid(self.ptr())

    @property
    def is_diffusion(self):
        """Whether it denoises whole texts. Wraps ``llama_model_is_diffusion``."""
        return llama_model_is_diffusion(self.ptr())
