"""A model at work: its memory, its decodes and what they give."""

cimport cython
from llama cimport (
    LLAMA_CONTEXT_TYPE_MTP,
    import_llama_cy,
    llama_context,
    llama_get_memory,
    llama_init_from_model,
    llama_model,
    llama_model_has_encoder,
    llama_model_is_diffusion,
    llama_model_is_hybrid,
    llama_model_is_recurrent,
    llama_model_n_swa,
    llama_n_batch,
    llama_n_ctx,
    llama_n_ctx_seq,
    llama_n_rs_seq,
    llama_n_seq_max,
    llama_n_ubatch,
    llama_perf_context,
    llama_perf_context_data,
    llama_perf_context_reset,
    llama_pooling_type,
    llama_synchronize,
)

from llama_cy.abort cimport check_devices
from llama_cy.adapter_gate cimport adapter_gate
from llama_cy.attachments cimport Attachments
from llama_cy.context_handle cimport check_stack, should_abort
from llama_cy.context_params cimport ContextParams
from llama_cy.handle cimport ModelHandle
from llama_cy.lifetime cimport enter_native, generation, leave_native
from llama_cy.model cimport Model
from llama_cy.sharing cimport share
from llama_cy.threadpool cimport Threadpool

from . import log
from .checks import INT32_MAX
from .completion import ContextPerf
from .enums import PoolingType
from .errors import BackendError, ContextError

import_llama_cy()

LEARNED_POSITIONS = ("bert", "gpt2", "mpt", "starcoder")


@cython.no_gc_clear
cdef class Context(Attachments):
    """A model's memory and its computation. Wraps ``llama_init_from_model``.

    Parameters
    ----------
    model : Model
    n_ctx : int, optional
        Tokens that fit into memory; llama.cpp rounds it up, :attr:`n_ctx` tells. By default what the model was trained
        with, or less if half of the free memory holds less.
    n_batch, n_ubatch : int
        Tokens per decode and per step of its computation.
    n_threads, n_threads_batch : int, optional
        For one token and for many; by default the physical cores that this process may use.
    poll : int
        How long idle threads spin before they sleep, 0 to 100.
    flash_attn_type : FlashAttnType or str, optional
        ``"auto"`` is llama.cpp's choice. Unless given, a context computes without flash attention where the model has no
        layer on a GPU: a token decodes faster then, up to 2.7 times behind 4,000 others, though a long prompt of a
        small model is read up to 1.9 times slower. llama.cpp chooses all the same where the V cache is quantized, with
        ``embeddings=True``, and where the scores of a micro-batch would take more than 512 MiB.
    eval_callback : callable, optional
        Called with a :class:`Tensor` for what is computed, as soon as it is. False ends the computation with
        :class:`DecodeAborted`, and what it raises comes out of the decode.
    eval_filter : str, iterable of str, or callable, optional
        The names of the tensors to call it with, as in ``"ffn_out-*"``, or a function of a :class:`Tensor` without data
        that says whether to; by default it is called with all.
    ctx_other : Context, optional
        Of a gemma4-assistant: the gemma4 context that it drafts for, whose memory it attends to and whose sizes and types
        it has. Its memory must be empty then. Neither computes
        while the other does, and this one is closed with that one. Wants ``ctx_type="mtp"``.
    **params
        The other members of ``llama_context_params``, under their names; enums also by name, as in
        ``type_k="q8_0", pooling_type="mean"``.

    Attributes
    ----------
    model : Model
    vocab : Vocab
    n_vocab : int
        Logits in a row.
    n_ctx : int
        Tokens that fit into memory. Wraps ``llama_n_ctx``.
    n_ctx_seq : int
        Tokens that fit into memory for one sequence. Wraps ``llama_n_ctx_seq``.
    n_batch : int
        Tokens of one decode at most. Wraps ``llama_n_batch``.
    n_ubatch : int
        Tokens of one step of its computation at most. Wraps ``llama_n_ubatch``.
    n_seq_max : int
        Sequences that fit into memory at once. Wraps ``llama_n_seq_max``.
    n_rs_seq : int
        Tokens at the end of a sequence that ``memory.seq_rm`` can take back from a recurrent state; 0 where the
        architecture has none or can't. Wraps ``llama_n_rs_seq``.

    Raises
    ------
    ContextError
        llama.cpp could not create it; with its last log lines.

    Notes
    -----
    A context is used by one thread at a time: a second one gets a :class:`ContextBusyError`. Contexts of one model
    may run in parallel. What is not given is as llama.cpp has it. Wraps ``llama_context_default_params``.
    """

    def __cinit__(self, Model model not None, **params):
        cdef ContextParams settings = ContextParams(params)
        # Held from here on: another thread may close the model while Python code runs.
        model.ptr()
        cdef ModelHandle handle = model.handle
        cdef llama_model * weights = handle.alive()
        check_stack()
        if model.vocab_only:
            raise ContextError("the model was loaded with vocab_only, so there is nothing to compute with")
        if handle.generation != generation() and handle.computed_on_gpu:
            raise BackendError("the model was loaded before this process was forked, which a GPU does not survive; load it here")
        metadata = model.metadata
        share(settings, handle, metadata.get("general.architecture", ""), params, model.vocab.n_tokens)
        settings.fit(weights, metadata, handle.offloaded)
        cdef llama_context * ptr
        cdef adapter_gate * gate = handle.gate()
        self.model = model
        self.arch = metadata.get("general.architecture", "")
        self.own_vocab = model.vocab
        settings.c.abort_callback = should_abort
        settings.c.abort_callback_data = <void *> self
        self.watch = settings.watch
        if self.watch is not None:
            self.watch.join(&self.cancelled, &self.computing)
        check_devices(handle.computed_on_gpu)
        if settings.other is not None:
            settings.other.enter()
        log.begin()
        enter_native()
        try:
            with nogil:
                # It goes through all adapters of the model, to know how large a graph can be.
                gate.begin_read()
                try:
                    ptr = llama_init_from_model(weights, settings.c)
                finally:
                    gate.end_read()
        finally:
            leave_native()
            if settings.other is not None:
                settings.other.leave()
        if ptr is NULL:
            raise ContextError("cannot create a context", log=log.tail())
        self.own(ptr, handle)
        self.params = settings.c
        self.join(settings.other)
        log.flush()
        self.mem = llama_get_memory(self.ptr)
        self.n_vocab = self.own_vocab.n_tokens
        self.n_ctx = llama_n_ctx(self.ptr)
        self.n_ctx_seq = llama_n_ctx_seq(self.ptr)
        self.n_batch = llama_n_batch(self.ptr)
        self.n_ubatch = llama_n_ubatch(self.ptr)
        self.n_seq_max = llama_n_seq_max(self.ptr)
        self.n_rs_seq = llama_n_rs_seq(self.ptr)
        self.unified = settings.c.kv_unified
        facts = sorted(item for item in metadata.items() if not item[0].startswith("split."))
        self.signature = f"{settings.c.type_k} {settings.c.type_v} {self.unified} {settings.c.swa_full} {facts}"
        self.mark = object()
        self.encoder = llama_model_has_encoder(weights) and self.mem is not NULL
        self.predicts = settings.c.ctx_type == LLAMA_CONTEXT_TYPE_MTP
        self.generative = self.mem is not NULL or llama_model_is_diffusion(weights)
        self.embed(settings.c.embeddings)
        self.n_outputs_max = (0 if self.encoder else settings.c.n_outputs_max) or self.n_batch
        # With learned positions, one beyond the table would be read out of bounds.
        learned = self.arch in LEARNED_POSITIONS
        self.n_pos_max = model.n_ctx_train if learned else INT32_MAX
        self.forgets = llama_model_is_recurrent(weights) or llama_model_is_hybrid(weights) or (
            llama_model_n_swa(weights) > 0 and not settings.c.swa_full)
        self.bounded = self.mem is not NULL and not llama_model_is_recurrent(weights)
        self.attach(Threadpool(settings.c.n_threads, poll=settings.poll),
                    Threadpool(settings.c.n_threads_batch, poll=settings.poll)
                    if settings.c.n_threads_batch != settings.c.n_threads else None)

    def __repr__(self):
        if self.ptr is NULL:
            return "<Context, closed>"
        return f"<Context of {self.n_ctx} tokens, {self.n_seq_max} sequences, {self.n_threads} threads>"

    @property
    def memory(self):
        """The tokens it remembers, a :class:`Memory`. Wraps ``llama_get_memory``."""
        from .memory import Memory

        return Memory(self)

    @property
    def state(self):
        """Saving and restoring, a :class:`State`."""
        from .state import State

        return State(self)

    def snapshot(self, seq_id=None, *, partial=False, on_device=False):
        """Copy what the memory holds, to come back to it with :meth:`restore`.

        Wraps ``llama_state_get_size``, ``llama_state_seq_get_size``, ``llama_state_seq_get_size_ext``,
        ``llama_state_seq_get_data`` and ``llama_state_seq_get_data_ext``.

        Parameters
        ----------
        seq_id : int, optional
            The sequence to copy; the whole context unless given.
        partial : bool
            Copy only the sliding window or the recurrent state, which is small and which ``memory.seq_rm`` can't roll
            back. The other part must still be there at the restore, and what it holds more by then is removed.
        on_device : bool
            Leave the tensors on the device: faster, and good until the next such snapshot of the sequence. Where
            llama.cpp has no room for it there, it is an ordinary one; :attr:`Snapshot.on_device` tells.

        Returns
        -------
        Snapshot

        Raises
        ------
        StateError
            Positions were shifted, or a sequence copied to separate memory, and nothing was decoded since.
        """
        from .state import State

        return State(self).take(seq_id, partial, on_device)

    def restore(self, snapshot, seq_id=None):
        """Go back to what a snapshot holds. Wraps ``llama_state_seq_set_data`` and ``llama_state_seq_set_data_ext``.

        What is decoded next gives the logits that it would have given: the same bits, unless the memory had holes, a
        sliding window or other sequences in it; then entries may come back in another order, and sums of them round
        differently. There are no outputs until then. A prompt that begins with the tokens of the snapshot is not decoded
        again, where these are known.

        Parameters
        ----------
        snapshot : Snapshot
            Of a context of the same model and with the same cache types; a whole one of a context with the same size.
        seq_id : int, optional
            The sequence to put it into, in place of what that holds; by default that of the snapshot.

        Raises
        ------
        StateError
            It is foreign or there is no room for it; the context is left as it was. Where a shift was put off to the next
            decode and llama.cpp refuses the snapshot, what it was to replace is gone.
        """
        from .state import State

        State(self).give(snapshot, seq_id)

    @property
    def pooling_type(self):
        """How embeddings are pooled, a :class:`PoolingType`. Wraps ``llama_pooling_type``."""
        return PoolingType(<int> llama_pooling_type(self.alive()))

    def perf(self):
        """Return times and counts since the start or the last :meth:`perf_reset`. Wraps ``llama_perf_context``.

        Returns
        -------
        ContextPerf
        """
        cdef llama_perf_context_data data
        self.enter()
        try:
            # A decode counts once its result was waited for.
            with nogil:
                llama_synchronize(self.ptr)
            data = llama_perf_context(self.ptr)
        finally:
            self.leave()
        return ContextPerf(data.t_start_ms / 1e3, data.t_load_ms / 1e3, data.t_p_eval_ms / 1e3, data.t_eval_ms / 1e3,
                           data.n_p_eval, data.n_eval, data.n_reused)  # fmt: skip

    def memory_breakdown(self):
        """Tell what the context and its model take; a list of :class:`MemoryUse`, one for each kind of buffer."""
        from .placement import memory_breakdown

        return memory_breakdown(self)

    def perf_reset(self):
        """Count from now on. Wraps ``llama_perf_context_reset``."""
        self.enter()
        try:
            llama_perf_context_reset(self.ptr)
        finally:
            self.leave()

    def logprobs(self, text, top=0):
        """Compute how probable each token of a text is behind those before it.

        Sequence 0 then holds the text, and nothing else. A few rows of logits are in memory at once.

        Parameters
        ----------
        text : str, bytes or iterable of int
            Tokenized as a prompt is.
        top : int
            So many of the most probable tokens are told for each place, too.

        Returns
        -------
        list of TokenLogprob
            For all tokens but the first.

        Raises
        ------
        ValueError
            There are fewer than two tokens, or the context gives no logits for them.
        KVCacheFullError
            They do not fit.
        """
        from .logprobs import logprobs

        return logprobs(self, text, top)

    def generate(self, prompt, sampler=None, **options):
        """Decode a prompt and return an iterator of token ids; see :class:`TokenLoop`."""
        from .loop import TokenLoop

        return TokenLoop(self, prompt, sampler, **options)

    def stream(self, prompt, sampler=None, **options):
        """Decode a prompt and return an iterator of text; see :class:`TextStream`."""
        from .stream import TextStream

        return TextStream(self, prompt, sampler, **options)

    def complete(self, prompt, sampler=None, **options):
        """Decode a prompt, generate to the end and return a :class:`Completion`; options as in :class:`TextStream`."""
        from .stream import TextStream

        return TextStream(self, prompt, sampler, **options).complete()

    def agenerate(self, prompt, sampler=None, **options):
        """Decode a prompt in a thread and return an asynchronous iterator of token ids; see :class:`AsyncTokenLoop`."""
        from .async_stream import AsyncTokenLoop

        self.alive()
        return AsyncTokenLoop(self, prompt, sampler, **options)

    def astream(self, prompt, sampler=None, **options):
        """Decode a prompt in a thread and return an asynchronous iterator of text; see :class:`AsyncTextStream`."""
        from .async_stream import AsyncTextStream

        self.alive()
        return AsyncTextStream(self, prompt, sampler, **options)

    async def acomplete(self, prompt, sampler=None, **options):
        """Decode a prompt and generate to the end in a thread, and return a :class:`Completion`.

        Options as in :class:`TextStream`; a cancelled task ends it as :class:`AsyncTextStream` says.
        """
        from .async_stream import AsyncTextStream

        self.alive()
        return await AsyncTextStream(self, prompt, sampler, **options).complete()
