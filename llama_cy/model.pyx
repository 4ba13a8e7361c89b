"""A model file, loaded."""

from llama cimport (
    import_llama_cy,
    llama_model,
    llama_model_n_embd,
    llama_model_save_to_file,
)

from llama_cy.handle cimport ModelHandle
from llama_cy.lifetime cimport enter_native, leave_native
from llama_cy.loading cimport LoadParams
from llama_cy.model_facts cimport ModelFacts

import os

from . import log
from .checks import flag
from .errors import LlamaError
from .gguf_header import read_header
from .progress import reporter
from .sources import descriptor, in_memory, name_of
from .whole_file import whole_file

import_llama_cy()


cdef class Model(ModelFacts):
    """A model loaded from a GGUF file.

    Wraps ``llama_model_load_from_file``, ``llama_model_load_from_splits`` and ``llama_model_load_from_file_ptr``.

    Parameters
    ----------
    source : str, bytes, os.PathLike, list of them, binary file, or int
        The path of the GGUF file, of the first one if the model is split, or a list with the paths of all its files. Or an
        open file or a file descriptor, which is read from where it stands, perhaps in the midst of a larger file, and left
        there; it may be closed afterwards. For bytes in memory there is :meth:`from_buffer`.
    n_gpu_layers : int, "auto" or "fit"
        Layers to place on a GPU; -1 for all. "auto", the default, means all where a GPU is present and none elsewhere;
        any other number than 0 without a GPU is a BackendError. "fit" takes as many as there is room for beside a
        context of 4096 tokens (:func:`fit_gpu_layers`).
    device : str, Device or several of them
        ``"auto"``, ``"cpu"``; ``"metal"``, ``"cuda"``, ``"vulkan"`` for all devices of a backend, ``"cuda:0"`` for one;
        or what :func:`devices` lists, or its name.
    tensor_buft_overrides : mapping of str to str or Device, optional
        Where tensors go whose names a regular expression (ECMAScript's) finds, such as ``{r"ffn_.*_exps": "cpu"}``.
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

    Attributes
    ----------
    path : str
        Where it came from; the first of several files.

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

    def __cinit__(self, source, *, n_gpu_layers="auto", progress=None, trusted=True, **params):
        if isinstance(source, ModelHandle):
            # From a capsule: loaded already.
            self.handle = source
            self.own_vocab = Vocab.borrow(self.handle)
            self.path = ""
            # Hyperparameters are read after the vocabulary, unless that is all.
            self.vocab_only = llama_model_n_embd(self.handle.alive()) == 0
            return
        cdef bint trusting = flag("trusted", trusted)
        cdef bint is_path = isinstance(source, (str, bytes, os.PathLike))
        cdef list names = [os.fsdecode(path) for path in source] if isinstance(source, (list, tuple)) else None
        if names is not None and not names:
            raise ValueError("source is an empty list; the paths of a model's files are expected")
        name = os.fsdecode(source) if is_path else names[0] if names else name_of(source)
        if n_gpu_layers == "fit":
            if not is_path:
                raise ValueError(f'n_gpu_layers="fit" needs a path, not {type(source).__name__}')
            from .memory_plan import OF_A_MODEL, fit_gpu_layers

            given = {key: value for key, value in params.items() if key in OF_A_MODEL}
            n_gpu_layers = fit_gpu_layers(name, **given)
        cdef LoadParams load_params = LoadParams(n_gpu_layers, params)
        with reporter(progress, os.path.basename(name)) as callback:
            if is_path:
                self.handle = load_params.from_file(name, callback, trusting)
            elif names is not None:
                self.handle = load_params.from_splits(names, callback, trusting)
            else:
                with descriptor(source, "a model") as (fd, position):
                    self.handle = load_params.from_descriptor(fd, position, name, callback, trusting)
        self.own_vocab = Vocab.borrow(self.handle)
        self.path = name
        self.vocab_only = load_params.c.vocab_only

    @classmethod
    def from_buffer(cls, data, **params):
        """Load a model from the bytes of a GGUF file in memory: bytes, bytearray, memoryview or any contiguous buffer.

        They are copied, once. Parameters as in :class:`Model`.
        """
        with in_memory(data) as file:
            return cls(file, **params)

    @classmethod
    def init_from_user(cls, metadata, set_tensor_data, *, types=None, n_gpu_layers="auto", **params):
        """Make a model of metadata and weights that a function gives, without a file. Wraps ``llama_model_init_from_user``.

        Parameters
        ----------
        metadata : mapping of str to bool, int, float, str or a sequence
            As in a GGUF file, the tokenizer included. NumPy's numbers and arrays keep their types: the token types, for
            example, are to be int32.
        set_tensor_data : callable
            Called with the name, the shape, in NumPy's order, and the type of each tensor that the architecture may have;
            it returns an array of that shape, which is rounded to the type, or None for what a file may leave out: zeros, but
            ones where the model scales with it, and what its first layer has for the position bias of a T5's others. What it
            raises comes out of here.
        types : mapping of str to GGMLType or str, optional
            Types by name, such as ``{"output.weight": "q8_0"}``; all others are float32.
        n_gpu_layers, **params
            As in :class:`Model`; no file is read, so what tells how is of no effect.

        Returns
        -------
        Model
            Its `path` is empty; `n_params` and `size`, which llama.cpp counts in files, are 0.

        Raises
        ------
        ModelLoadError
            The metadata make no model.
        ValueError
            An array has another shape than its tensor, or a type can't be had.
        """
        from .user_model import init_from_user

        return cls(init_from_user(metadata, set_tensor_data, types, n_gpu_layers, params))

    @classmethod
    async def load_async(cls, source, *, progress=None, **params):
        """Load a model in a thread, while the event loop goes on; parameters as in :class:`Model`.

        `progress` is called in that thread. A cancelled task ends the load; where the file is not trusted, the child
        process comes to its end first.
        """
        from .async_load import load_in_thread

        return await load_in_thread(cls, source, progress=progress, **params)

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

        Raises
        ------
        LlamaError
            llama.cpp does not save models of this architecture, or not all of their weights, or the CPU's kernels have
            rearranged them, as those of AMX and those for Q4_0 do: then load it with ``use_extra_bufts=False``.
        """
        # Held here, because another thread may close the model meanwhile.
        self.ptr()
        cdef ModelHandle handle = self.handle
        cdef llama_model * ptr = handle.alive()
        if self.vocab_only:
            raise ValueError("a model loaded with vocab_only has no weights to save")
        if handle.spread:
            raise LlamaError(f"llama.cpp can't save this model: its tensors are split over {', '.join(handle.spread)}")
        from .placement import check_readable

        check_readable(self)
        name = os.fsdecode(path)
        cdef const char * c_path
        with whole_file(name) as part:
            # llama.cpp does not come back from a file that it can't open.
            part.touch()
            data = os.fsencode(part)
            c_path = data
            log.begin()
            enter_native()
            try:
                with nogil:
                    llama_model_save_to_file(ptr, c_path)
            except RuntimeError as error:
                raise LlamaError(f"llama.cpp can't save this model: {error}", log=log.tail()) from None
            finally:
                leave_native()
            with open(part, "rb") as file:
                written = sum([tensor.size for tensor in read_header(file, 0, "model", name).tensors.values()])
            if written < self.size:
                raise LlamaError(f"llama.cpp can't save this model: it leaves out {self.size - written} bytes of weights")
