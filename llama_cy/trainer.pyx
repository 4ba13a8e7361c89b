"""Training of a model's weights, in place."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.pycapsule cimport PyCapsule_Import
from ggml cimport GGML_TENSOR_FLAG_PARAM, GGML_TYPE_F32, GGML_TYPE_I32, ggml_get_data, ggml_get_name, ggml_tensor
from ggml_backend cimport ggml_backend_buffer, ggml_backend_buffer_get_type, ggml_backend_buft_name
from ggml_opt cimport (
    GGML_OPT_OPTIMIZER_TYPE_ADAMW,
    GGML_OPT_OPTIMIZER_TYPE_SGD,
    ggml_opt_dataset_data,
    ggml_opt_dataset_free,
    ggml_opt_dataset_init,
    ggml_opt_dataset_labels,
    ggml_opt_dataset_t,
    ggml_opt_get_constant_optimizer_params_address,
    ggml_opt_get_default_optimizer_params,
    ggml_opt_optimizer_params,
    ggml_opt_result_accuracy,
    ggml_opt_result_free,
    ggml_opt_result_init,
    ggml_opt_result_loss,
    ggml_opt_result_ndata,
    ggml_opt_result_t,
)
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy, memset
from libcpp cimport bool
from llama cimport (
    import_llama_cy,
    llama_context,
    llama_model,
    llama_model_n_ctx_train,
    llama_opt_epoch,
    llama_opt_init,
    llama_opt_param_filter_all_address,
    llama_opt_params,
)

from llama_cy.context cimport Context
from llama_cy.lifetime cimport enter_native, leave_native
from llama_cy.model cimport Model

import numpy as np

from . import log
from .checks import flag, integer, real
from .errors import BackendError, ContextError
from .progress import reporter
from .training_data import Epoch, Fit, rate, settings, windows

import_llama_cy()

cdef extern from "kernels/accounting.h" namespace "llama_cy":
    struct accounting:
        bool (*each_tensor)(
            const llama_model * model, void (*visit)(void *, const char *, ggml_tensor *) noexcept, void * data)

cdef accounting * books = <accounting *> PyCapsule_Import("llama_cy._llama._accounting", 0)

# llama.cpp trains neither.
NEVER = ("token_embd.weight", "rope_freqs.weight")


cdef void on_tensor(void * data, const char * name, ggml_tensor * tensor) noexcept:
    cdef ggml_backend_buffer * buffer = tensor.buffer if tensor.view_src is NULL else tensor.view_src.buffer
    kind = "" if buffer is NULL else ggml_backend_buft_name(ggml_backend_buffer_get_type(buffer)).decode("utf-8", "replace")
    (<list> data).append((
        name.decode("utf-8", "replace"), tensor.type == GGML_TYPE_F32, kind,
        tuple([tensor.ne[i] for i in range(3, -1, -1)]),
    ))  # fmt: skip


cdef void forget_parameter(void * data, const char * name, ggml_tensor * tensor) noexcept:
    # llama.cpp never takes the mark back that an earlier training set.
    tensor.flags &= ~(<int32_t> GGML_TENSOR_FLAG_PARAM)


cdef bool on_filter(const ggml_tensor * tensor, void * chosen) noexcept with gil:
    return ggml_get_name(tensor).decode("utf-8", "replace") in (<frozenset> chosen)


@cython.final
cdef class Trainer:
    """Trains the weights of a model in place. Wraps ``llama_opt_init``.

    The model must be F32 throughout, and loaded with ``load_mode="none"``: mapped weights can't be written to. Its
    :attr:`Model.n_ctx_train` becomes the window's. No other context of the model may compute meanwhile.

    Parameters
    ----------
    model : Model
    n_ctx : int
        Tokens of a window; llama.cpp rounds it up to a multiple of 256, :attr:`n_ctx` tells.
    optimizer : {"adamw", "sgd"}
    param_filter : callable, optional
        Called with the name and the shape of each weight; True trains it. By default all are trained that llama.cpp
        can train. Wraps ``llama_opt_param_filter_all``.
    n_threads : int, optional
    learning_rate : float
    beta1, beta2, eps : float
        Of AdamW only.
    weight_decay : float

    Attributes
    ----------
    parameters : tuple of str
        Weights that may be trained.
    n_ctx : int

    Raises
    ------
    ContextError
        The model can't be trained.
    """
    cdef Context context
    cdef Model model
    cdef ggml_opt_optimizer_params c
    cdef object filtered
    cdef bint broken
    cdef readonly tuple parameters
    cdef readonly int n_ctx
    cdef readonly str optimizer
    cdef object __weakref__

    def __init__(self, Model model not None, *, n_ctx=256, optimizer="adamw", param_filter=None, n_threads=None, **params):
        if self.context is not None:
            raise TypeError("a Trainer is initialized once")
        if optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer is {optimizer!r}; expected 'adamw' or 'sgd'")
        self.optimizer = optimizer
        self.set(settings(optimizer, params))
        if param_filter is not None and not callable(param_filter):
            raise TypeError(f"param_filter must be callable, not {type(param_filter).__name__}")
        wanted = (integer("n_ctx", n_ctx, 1, 2**20) + 255) // 256 * 256
        self.parameters = trainable(model, param_filter)
        self.filtered = frozenset(self.parameters)
        threads = {} if n_threads is None else {"n_threads": n_threads, "n_threads_batch": n_threads}
        # One piece: gradients come to keys and values of the same micro-batch only.
        context = model.context(
            n_ctx=wanted, n_batch=wanted, n_ubatch=wanted, flash_attn_type="disabled", type_k="f32", type_v="f32", **threads
        )
        try:
            self.begin(context, model, param_filter is not None)
        except BaseException:
            context.close()
            raise
        self.context, self.model = context, model

    cdef int begin(self, Context context, Model model, bint filtered) except -1:
        cdef llama_opt_params c
        if context.mem is NULL or context.n_ctx != context.n_ubatch:
            raise ContextError("llama.cpp trains models that remember what they read only")
        self.n_ctx = context.n_ctx
        memset(&c, 0, sizeof(c))
        c.param_filter = llama_opt_param_filter_all_address
        if filtered:
            c.param_filter = on_filter
            c.param_filter_ud = <void *> self.filtered
        c.get_opt_pars = ggml_opt_get_constant_optimizer_params_address
        c.get_opt_pars_ud = &self.c
        c.optimizer_type = (
            GGML_OPT_OPTIMIZER_TYPE_ADAMW if self.optimizer == "adamw" else GGML_OPT_OPTIMIZER_TYPE_SGD)
        context.enter()
        try:
            if not books.each_tensor(model.ptr(), forget_parameter, NULL):
                raise BackendError("the installed llama.cpp does not tell where its tensors are")
            enter_native()
            try:
                llama_opt_init(context.ptr, model.handle.ptr, c)
            finally:
                leave_native()
        except RuntimeError as error:
            if isinstance(error, BackendError):
                raise
            raise ContextError(f"the training could not begin: {error}", log=log.tail()) from None
        finally:
            context.leave()
        return 0

    cdef int set(self, dict values) except -1:
        self.c = ggml_opt_get_default_optimizer_params(NULL)
        if self.optimizer == "adamw":
            self.c.adamw.alpha = values["learning_rate"]
            self.c.adamw.beta1 = values["beta1"]
            self.c.adamw.beta2 = values["beta2"]
            self.c.adamw.eps = values["eps"]
            self.c.adamw.wd = values["weight_decay"]
        else:
            self.c.sgd.alpha = values["learning_rate"]
            self.c.sgd.wd = values["weight_decay"]
        return 0

    @property
    def learning_rate(self):
        """Size of a step; may be set between epochs."""
        return self.c.adamw.alpha if self.optimizer == "adamw" else self.c.sgd.alpha

    @learning_rate.setter
    def learning_rate(self, value):
        if self.optimizer == "adamw":
            self.c.adamw.alpha = rate(value)
        else:
            self.c.sgd.alpha = rate(value)

    cdef int check(self) except -1:
        if self.context is None:
            raise ContextError("the trainer is not initialized")
        self.context.alive()
        if self.broken:
            raise ContextError("llama.cpp threw in this training; it can only be closed")
        if llama_model_n_ctx_train(self.model.ptr()) != self.n_ctx:
            raise ContextError("another Trainer of this model has windows of another size")
        return 0

    def epoch(self, tokens, *, stride=None, validation=0.0, shuffle=True, seed=0, progress=None):
        """Train on each window once. Wraps ``llama_opt_epoch``.

        Parameters
        ----------
        tokens : iterable of int
            More of them than a window holds; each is predicted from those before it in its window.
        stride : int, optional
            Tokens from one window to the next; a window's length unless given. What does not fill a last one is left out.
        validation : float
            Share of the windows, at the end, that are not trained on.
        shuffle : bool
            Whether the others come in random order.
        seed : int
            Of that order.
        progress : callable or bool, optional
            Called with the share done, or True for a bar. What it raises ends the epoch after a window, and so does
            Ctrl-C; the steps done until then stay.

        Returns
        -------
        Epoch

        Raises
        ------
        ContextError
            llama.cpp can't compute gradients for this model.
        """
        self.check()
        step = self.n_ctx if stride is None else integer("stride", stride, 1, 2**31 - 1)
        rows = windows("tokens", tokens, self.context.n_vocab, self.n_ctx, step)
        n_train = len(rows) - round(len(rows) * real("validation", validation, 0.0, 1.0))
        order = np.arange(n_train)
        if flag("shuffle", shuffle):
            np.random.default_rng(integer("seed", seed, 0, 2**63 - 1)).shuffle(order)
        with reporter(progress, "Training") as report:
            train, rest = self.run(rows, order, n_train, report)
        return Epoch(train, rest)

    def evaluate(self, tokens, *, stride=None, progress=None):
        """Return how well the model predicts tokens, as a :class:`Fit`; parameters as in :meth:`epoch`."""
        return self.epoch(tokens, stride=stride, validation=1.0, progress=progress).validation

    cdef tuple run(self, object rows, object order, int64_t n_train, object report):
        """Give llama.cpp one window after another, so that Python is asked between them."""
        cdef ggml_opt_dataset_t dataset = NULL
        cdef ggml_opt_result_t results[2]
        cdef llama_context * ptr
        cdef const int32_t[:, ::1] all_rows = rows
        cdef int64_t i, row
        cdef int64_t n_rows = len(rows)
        cdef int64_t n_steps = 0
        cdef size_t size = self.n_ctx * sizeof(int32_t)
        results[0] = results[1] = NULL
        self.context.enter()
        enter_native()
        try:
            ptr = self.context.ptr
            dataset = ggml_opt_dataset_init(GGML_TYPE_I32, GGML_TYPE_I32, self.n_ctx, self.n_ctx, 1, 1)
            results[0], results[1] = ggml_opt_result_init(), ggml_opt_result_init()
            self.context.epoch += 1
            for i in range(n_rows):
                PyErr_CheckSignals()
                row = order[i] if i < n_train else i
                memcpy(ggml_get_data(ggml_opt_dataset_data(dataset)), &all_rows[row, 0], size)
                memcpy(ggml_get_data(ggml_opt_dataset_labels(dataset)), &all_rows[row, 1], size)
                n_steps = 1 if i < n_train else 0
                try:
                    with nogil:
                        llama_opt_epoch(ptr, dataset, results[0], results[1], n_steps, NULL, NULL)
                except RuntimeError as error:
                    self.broken = True
                    raise ContextError(f"llama.cpp can't train this model: {error}", log=log.tail()) from None
                if report is not None:
                    report((i + 1) / n_rows)
            return fit_of(results[0]), fit_of(results[1]) if n_train < n_rows else None
        finally:
            for i in range(2):
                if results[i] is not NULL:
                    ggml_opt_result_free(results[i])
            if dataset is not NULL:
                ggml_opt_dataset_free(dataset)
            leave_native()
            self.context.leave()

    def close(self):
        """Free what the optimizer remembers; the trained weights stay."""
        if self.context is not None:
            self.context.close()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __repr__(self):
        return f"<Trainer of {len(self.parameters or ())} weights by {self.optimizer}>"


cdef object fit_of(ggml_opt_result_t result):
    cdef double loss = 0, loss_unc = 0, accuracy = 0, accuracy_unc = 0
    cdef int64_t n = 0
    ggml_opt_result_loss(result, &loss, &loss_unc)
    ggml_opt_result_ndata(result, &n)
    if n == 0:
        # ggml divides by it.
        return Fit(float("nan"), float("nan"), float("nan"), float("nan"), 0)
    ggml_opt_result_accuracy(result, &accuracy, &accuracy_unc)
    return Fit(loss, loss_unc, accuracy, accuracy_unc, n)


cdef tuple trainable(Model model, object param_filter):
    """Return the weights to train, or say why there are none."""
    cdef list found = []
    if model.vocab_only:
        raise ContextError("a model loaded with vocab_only has no weights to train")
    if not books.each_tensor(model.ptr(), on_tensor, <void *> found):
        raise BackendError("the installed llama.cpp does not tell where its tensors are")
    other = [name for name, is_f32, _, _ in found if not is_f32]
    if other:
        raise ContextError(f"{len(other)} tensors are not F32, such as {other[0]}: ggml has no gradients for them")
    chosen = []
    for name, _, kind, shape in found:
        if name in NEVER:
            continue
        while len(shape) > 1 and shape[0] == 1:
            shape = shape[1:]
        if param_filter is None or param_filter(name, shape):
            if "Mapped" in kind:
                raise ContextError(f'{name} is mapped from the file and can\'t be written; load with load_mode="none"')
            chosen.append(name)
    if not chosen:
        raise ContextError("there is nothing to train: param_filter took no weight")
    return tuple(chosen)
