"""Training: the weights of a model change so that it predicts given texts better."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memcpy
from libcpp cimport bool
from libcpp.vector cimport vector
from ggml cimport GGML_TENSOR_FLAG_PARAM, GGML_TYPE_I32, ggml_tensor
from ggml_backend cimport ggml_backend_buffer_name
from ggml_opt cimport (
    ggml_opt_dataset_data,
    ggml_opt_dataset_free,
    ggml_opt_dataset_init,
    ggml_opt_dataset_labels,
    ggml_opt_dataset_t,
    ggml_opt_get_constant_optimizer_params_address,
    ggml_opt_get_default_optimizer_params,
    ggml_opt_optimizer_params,
    ggml_opt_optimizer_type,
    ggml_opt_result_accuracy,
    ggml_opt_result_free,
    ggml_opt_result_init,
    ggml_opt_result_loss,
    ggml_opt_result_ndata,
    ggml_opt_result_t,
)
from llama cimport (
    import_llama_cy,
    llama_batch,
    llama_batch_get_one,
    llama_memory_clear,
    llama_model_is_hybrid,
    llama_model_is_recurrent,
    llama_model_n_ctx_train,
    llama_model_n_params,
    llama_model_size,
    llama_opt_epoch,
    llama_opt_init,
    llama_opt_param_filter_all,
    llama_opt_params,
    llama_set_abort_callback,
    llama_token,
)

from llama_cy.computation cimport computation
from llama_cy.context cimport Context
from llama_cy.context_handle cimport should_abort
from llama_cy.decoder cimport decode_caught
from llama_cy.eval_callback cimport described
from llama_cy.lifetime cimport enter_native, leave_native


import numpy as np

from . import log
from .checks import INT32_MAX, choice, integer, real
from .enums import OptOptimizerType
from .errors import ContextError, DecodeAborted
from .eval_callback import NO_DATA
from .training_result import EpochResult, TrainingResult

import_llama_cy()


cdef bool on_param(const ggml_tensor * tensor, void * trainer) noexcept with gil:
    return (<Trainer> trainer).choose(tensor)


@cython.final
cdef class Trainer:
    """Trains all weights of a model, or some, through a context. Wraps ``llama_opt_init``.

    The weights of the model change in place, for all contexts that it has; :meth:`Model.save` writes them. llama.cpp trains
    float32 weights only, and leaves token embeddings alone.

    Parameters
    ----------
    context : Context
        With a micro-batch of its whole size (``n_batch=n_ctx, n_ubatch=n_ctx``) and one sequence, of a model loaded with
        ``load_mode="none"``. It computes nothing else from now on.
    param_filter : callable, optional
        Called with a :class:`Tensor` without data for each float32 weight; says whether to train it. All are trained unless
        given. Wraps ``llama_opt_param_filter_all``.
    optimizer : OptOptimizerType or str
        ``"adamw"`` or ``"sgd"``.
    learning_rate : float
        Length of a step; may be changed between epochs.
    beta1, beta2, eps : float
        Momenta of AdamW and the term that keeps it from dividing by nothing.
    weight_decay : float
        How much each step shrinks the weights, relative to the learning rate.

    Attributes
    ----------
    context : Context
    parameters : tuple of Tensor
        What is trained, without data.

    Raises
    ------
    ContextError
        The context or its model can't be trained; the message says what to change.
    """
    cdef readonly Context context
    cdef readonly tuple parameters
    cdef object param_filter
    cdef object error
    cdef list chosen
    cdef bint mapped
    cdef bint sgd
    cdef ggml_opt_optimizer_params settings
    # The context's, while this is made.
    cdef computation * computing

    def __init__(self, Context context not None, param_filter=None, *, optimizer="adamw", learning_rate=1e-4, beta1=0.9,
                 beta2=0.999, eps=1e-8, weight_decay=0.0):
        cdef llama_opt_params params
        if self.context is not None:
            raise TypeError("a Trainer is made once")
        if param_filter is not None and not callable(param_filter):
            raise TypeError(f"param_filter must be callable, not {type(param_filter).__name__}")
        kind = choice("optimizer", OptOptimizerType, optimizer)
        self.sgd = kind == OptOptimizerType.SGD
        self.settings = ggml_opt_get_default_optimizer_params(NULL)
        self.learning_rate = learning_rate
        self.settings.adamw.beta1 = real("beta1", beta1, 0.0, 1 - 2**-24)
        self.settings.adamw.beta2 = real("beta2", beta2, 0.0, 1 - 2**-24)
        self.settings.adamw.eps = real("eps", eps, 0.0)
        self.settings.adamw.wd = self.settings.sgd.wd = real("weight_decay", weight_decay, 0.0, 1.0)
        self.param_filter, self.chosen, self.computing = param_filter, [], &context.computing
        context.enter()
        try:
            check_trainable(context)
            self.warm_up(context)
            params.n_ctx_train = 0
            params.param_filter, params.param_filter_ud = on_param, <void *> self
            params.get_opt_pars = ggml_opt_get_constant_optimizer_params_address
            params.get_opt_pars_ud = &self.settings
            params.optimizer_type = <ggml_opt_optimizer_type> <int> kind
            context.trains = context.computing.due = True
            log.begin()
            try:
                with nogil:
                    context.computing.begin()
                    try:
                        llama_opt_init(context.ptr, context.handle.ptr, params)
                    finally:
                        context.computing.end(True)
            except RuntimeError as error:
                context.broken = True
                raise ContextError(f"llama.cpp can't train this model: {error}", log=log.tail()) from None
            error, self.error = self.error, None
            if error is not None:
                raise error
            if self.mapped:
                raise ContextError("the weights lie in the file, mapped into memory; load the model with load_mode='none'")
            self.parameters, self.chosen = tuple(self.chosen), None
            if not self.parameters:
                raise ValueError("param_filter chose nothing to train")
            self.context = context
        finally:
            context.leave()

    cdef int warm_up(self, Context context) except -1:
        """Compute once, since that is when llama.cpp gives its threads to the backends, and forget it again."""
        cdef llama_token tokens[2]
        tokens[0] = tokens[1] = 0
        cdef llama_batch batch = llama_batch_get_one(tokens, 2)
        cdef int code
        context.epoch += 1
        with nogil:
            llama_memory_clear(context.mem, False)
            code = decode_caught(context.ptr, batch, context.computing, context.thrown)
            llama_memory_clear(context.mem, True)
        context.n_rows = 0
        if code != 0:
            context.failed(code, "the first computation")
        return 0

    cdef bint choose(self, const ggml_tensor * tensor) noexcept:
        """Say whether to train a weight; llama.cpp asks for each once."""
        cdef bint wanted = False
        # The graphs are reserved by now, and the filter is Python code.
        self.computing.has_read()
        try:
            if self.error is None:
                weight = described(tensor, NO_DATA)
                if self.param_filter is None:
                    wanted = llama_opt_param_filter_all(tensor, NULL)
                else:
                    wanted = True if self.param_filter(weight) else False
                # llama.cpp would pass over these in silence.
                wanted = wanted and weight.name not in ("token_embd.weight", "rope_freqs.weight")
                if wanted and tensor.buffer is not NULL and b"Mapped" in <bytes> ggml_backend_buffer_name(tensor.buffer):
                    self.mapped, wanted = True, False
                if wanted:
                    self.chosen.append(weight)
        except BaseException as error:
            self.error = error
            wanted = False
        if not wanted:
            # An earlier trainer of the model may have chosen it.
            (<ggml_tensor *> tensor).flags &= ~<int32_t> GGML_TENSOR_FLAG_PARAM
        return wanted

    def __repr__(self):
        if self.parameters is None:
            return "<Trainer, not ready>"
        return f"<Trainer of {len(self.parameters)} weights with {'sgd' if self.sgd else 'adamw'}>"

    @property
    def learning_rate(self):
        """Length of a step, more than 0."""
        return self.settings.sgd.alpha if self.sgd else self.settings.adamw.alpha

    @learning_rate.setter
    def learning_rate(self, value):
        self.settings.sgd.alpha = self.settings.adamw.alpha = real("learning_rate", value, 2.0**-126)

    def epoch(self, tokens, *, stride=None, eval_share=0.0, eval_tokens=(), seed=None, progress=None):
        """Learn from each sequence of a text once. Wraps ``llama_opt_epoch``.

        Parameters
        ----------
        tokens : iterable of int, int32 buffer
            The text, cut into sequences of `context.n_ctx` tokens, each with the token behind; a rest is left out.
        stride : int, optional
            From the start of a sequence to that of the next; `context.n_ctx` unless given.
        eval_share : float
            Share of the sequences, the last ones, to hold back and only measure.
        eval_tokens : iterable of int, int32 buffer
            Another text to measure, cut alike.
        seed : int, optional
            Learn in an order drawn from it; in the order of the text unless given.
        progress : callable, optional
            Called after each sequence with how many are done and how many there are; what it raises ends the epoch.

        Returns
        -------
        EpochResult

        Raises
        ------
        ValueError
            The text is too short for a sequence, or a value is out of range.
        ContextError
            llama.cpp can't train this model, or another context with another size trains it.
        DecodeAborted
            :meth:`Context.cancel` was called; steps made before stay.
        """
        cdef Context context = self.context
        if context is None:
            raise ContextError("this trainer could not be made")
        size = context.n_ctx
        step = size if stride is None else integer("stride", stride, 1, INT32_MAX)
        share = real("eval_share", eval_share, 0.0, 1.0)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress must be callable, not {type(progress).__name__}")
        if seed is not None:
            seed = integer("seed", seed, 0, 2**64 - 1)
        context.alive()
        text, other = self.collect(tokens), self.collect(eval_tokens)
        starts, other_starts = list(range(0, len(text) - size, step)), list(range(0, len(other) - size, step))
        if not starts and not other_starts:
            raise ValueError(f"{len(text)} tokens are too few: a sequence takes n_ctx + 1, which is {size + 1}")
        if len(other) and not other_starts:
            raise ValueError(f"{len(other)} eval_tokens are too few: a sequence takes n_ctx + 1, which is {size + 1}")
        n_train = len(starts) - round(len(starts) * share)
        jobs = [(text, start, True) for start in starts[:n_train]]
        if seed is not None:
            import random

            random.Random(seed).shuffle(jobs)
        jobs += [(text, start, False) for start in starts[n_train:]] + [(other, start, False) for start in other_starts]
        return self.run(jobs, progress)

    cdef object collect(self, object tokens):
        cdef vector[llama_token] ids
        self.context.own_vocab.collect(tokens, ids)
        array = np.empty(ids.size(), dtype=np.int32)
        cdef int32_t[::1] view = array
        if ids.size():
            memcpy(&view[0], ids.data(), ids.size() * sizeof(llama_token))
        return array

    cdef object run(self, list jobs, object progress):
        """Compute sequence after sequence, so that between two of them all is as it should be."""
        cdef Context context = self.context
        cdef Pass work = Pass(context.n_ctx)
        context.enter()
        try:
            context.check_exports("train")
            context.epoch += 1
            # An end in the middle of a step would leave weights of two kinds.
            llama_set_abort_callback(context.ptr, NULL, NULL)
            context.cancelled.store(False)
            for i, (text, start, learns) in enumerate(jobs):
                # What was called in between may have forked.
                context.check_fork()
                if llama_model_n_ctx_train(context.handle.ptr) != context.n_ctx:
                    raise ContextError("a context of another size has begun to train this model since")
                self.compute(work, text, start, learns)
                PyErr_CheckSignals()
                if progress is not None:
                    progress(i + 1, len(jobs))
                if context.cancelled.load() and i + 1 < len(jobs):
                    context.cancelled.store(False)
                    raise DecodeAborted(f"training was cancelled after {i + 1} of {len(jobs)} sequences")
        finally:
            llama_set_abort_callback(context.ptr, should_abort, <void *> context)
            context.leave()
        return EpochResult(work.result(True), work.result(False))

    cdef int compute(self, Pass work, const int32_t[::1] text, Py_ssize_t start, bint learns) except -1:
        cdef Context context = self.context
        cdef int64_t before = work.count(learns)
        work.fill(&text[start])
        log.begin()
        try:
            with nogil:
                llama_opt_epoch(context.ptr, work.dataset, work.train, work.eval, 1 if learns else 0, NULL, NULL)
        except RuntimeError as error:
            context.broken = True
            raise ContextError(f"llama.cpp can't train this model: {error}", log=log.tail()) from None
        if work.count(learns) - before != context.n_ctx:
            raise ContextError("llama.cpp could not compute a sequence", log=log.tail())
        return 0


@cython.final
cdef class Pass:
    """One sequence for llama.cpp to read, and its results of many."""
    cdef ggml_opt_dataset_t dataset
    cdef ggml_opt_result_t train
    cdef ggml_opt_result_t eval
    cdef int n_ctx

    def __cinit__(self, int n_ctx):
        self.n_ctx = n_ctx
        # ggml asserts that there is memory.
        enter_native()
        try:
            self.dataset = ggml_opt_dataset_init(GGML_TYPE_I32, GGML_TYPE_I32, n_ctx, n_ctx, 1, 1)
            self.train, self.eval = ggml_opt_result_init(), ggml_opt_result_init()
        finally:
            leave_native()

    def __dealloc__(self):
        if self.dataset is not NULL:
            ggml_opt_dataset_free(self.dataset)
        if self.train is not NULL:
            ggml_opt_result_free(self.train)
        if self.eval is not NULL:
            ggml_opt_result_free(self.eval)

    cdef void fill(self, const int32_t * text):
        """Take a sequence, and the same one token later for what to predict."""
        memcpy(ggml_opt_dataset_data(self.dataset).data, text, self.n_ctx * sizeof(int32_t))
        memcpy(ggml_opt_dataset_labels(self.dataset).data, text + 1, self.n_ctx * sizeof(int32_t))

    cdef int64_t count(self, bint learned) except -1:
        cdef int64_t n = 0
        ggml_opt_result_ndata(self.train if learned else self.eval, &n)
        return n

    cdef object result(self, bint learned):
        cdef ggml_opt_result_t found = self.train if learned else self.eval
        cdef double loss = 0, loss_uncertainty = 0, accuracy = 0, accuracy_uncertainty = 0
        cdef int64_t n = self.count(learned)
        if n == 0:
            return None
        ggml_opt_result_loss(found, &loss, &loss_uncertainty)
        if n > self.n_ctx and isnan(loss_uncertainty) and not isnan(loss):
            # Of equal losses: the root of what rounding left below zero.
            loss_uncertainty = 0.0
        ggml_opt_result_accuracy(found, &accuracy, &accuracy_uncertainty)
        return TrainingResult(loss, loss_uncertainty, accuracy, accuracy_uncertainty, n)


cdef int check_trainable(Context context) except -1:
    """Refuse what llama.cpp would assert on, write to a mapped file, or compute in silence as something else."""
    if context.trains:
        raise ContextError("this context has a trainer already, and llama.cpp takes one only; make another context")
    if context.mem is NULL or context.encoder or context.predicts or context.embedding:
        raise ContextError("only a decoder that gives logits can be trained, in a context without embeddings and MTP")
    if llama_model_is_recurrent(context.handle.ptr) or llama_model_is_hybrid(context.handle.ptr):
        raise ContextError("llama.cpp can't train recurrent models: their operations have no gradients")
    if llama_model_size(context.handle.ptr) != 4 * llama_model_n_params(context.handle.ptr):
        raise ContextError("llama.cpp trains float32 weights only, and the model has others")
    if context.n_seq_max != 1:
        raise ContextError(f"training computes one sequence at a time, and n_seq_max is {context.n_seq_max}")
    if not context.n_ctx == context.n_batch == context.n_ubatch:
        raise ContextError(
            f"n_batch and n_ubatch must be n_ctx, which is {context.n_ctx}, as keys and values get no gradients otherwise; "
            f"they are {context.n_batch} and {context.n_ubatch}"
        )
    if context.n_outputs_max < context.n_ctx:
        raise ContextError(f"each token has an output: n_outputs_max is {context.n_outputs_max}; leave it out")
    if context.adapters and context.adapters[0] or context.control and context.control[0]:
        raise ContextError("llama.cpp trains without adapters and control vectors: take them off")
    if context.watch is not None or context.abort is not None:
        raise ContextError("llama.cpp trains without an eval callback and an abort callback")
    context.check_exports("train")
    return 0
