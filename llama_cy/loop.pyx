"""Sample, accept, decode, over and over, with the GIL released."""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport int64_t
from libcpp cimport bool as c_bool
from llama cimport (
    LLAMA_TOKEN_NULL,
    import_llama_cy,
    llama_sampler,
    llama_time_us,
    llama_token,
)

from llama_cy.abort cimport GUARD_GRAPH, guard, unguard
from llama_cy.context cimport Context
from llama_cy.context_handle cimport check_stack, decoding_ahead
from llama_cy.vocab cimport Vocab

from . import log
from .checks import integer
from .completion import Timings, TokenLogprob
from .errors import ClosedError, ContextBusyError, DecodeAborted, KVCacheFullError, LlamaError
from .sampler_chain import sampling

import_llama_cy()

# How long the caller waits for the thread before it looks for a Ctrl-C.
cdef int WAIT_MS = 5

cdef extern from "<utility>" namespace "std" nogil:
    void swap(loop_turn &, loop_turn &)
    void swap_texts "std::swap" (string &, string &)

cdef extern from "kernels/sampler_tree.h" namespace "llama_cy" nogil:
    c_bool can_clone(llama_sampler * sampler) except +

REASONS = {STOP: "stop", LENGTH: "length", EOG: "eog", CANCELLED: "cancelled"}


# A collected cycle must not take the context away before the thread has ended.
@cython.no_gc_clear
cdef class TokenLoop:
    """Generate tokens: an iterator of int.

    Parameters
    ----------
    context : Context
        Holds the tokens seen so far, as long as nothing else uses it.
    prompt : str, bytes, iterable of int, or None
        What sequence 0 is to hold before the first token; what it held before is forgotten. Text is tokenized with the
        special tokens that the model wants, and control tokens in it count as such: tokenize text of others yourself.
        None goes on from what the context holds.
    sampler : Sampler, optional
        By default :func:`sampling`. It is reset, except when `prompt` is None. The chain that the context samples with
        on the backend (:meth:`Context.set_sampler`) does so here too, and no logits leave the device.
    max_tokens : int, optional
        At most so many.
    stop_tokens : iterable of int
        Tokens that end the loop and are not handed out.
    ignore_eog : bool
        Go on after the model's own end.
    reuse : bool or "exact"
        Keep what sequence 0 holds of the prompt's start, and decode the rest only; False decodes all of it. Logits are
        then those of a fresh run but for rounding, which differs with the size of a batch; "exact" keeps whole
        micro-batches only, and gives the very bits. The prompt of the last loop is not decoded again, and gives the
        logits that it gave then.
    logprobs : int, optional
        Note the log probability of each token, before any sampler changed it, and those of so many most probable ones.
    run_ahead : int
        Tokens, at most 1024, that a thread decodes while the caller works on the one before. Whoever looks at the
        context meanwhile finds it as if there were none: what the caller has not got is taken back, which costs a
        decode. Nothing runs ahead where Python code of yours would run in that thread, in an eval or abort callback or
        in a sampler; and a memory that can't go back, as recurrent ones, is a ValueError.

    Attributes
    ----------
    reused : int
        Tokens of the prompt that did not have to be decoded again. A recurrent memory can't go back, so there it is
        all that is held or nothing.
    context : Context
    sampler : Sampler
    closed : bool
        Whether :meth:`close` was called.

    Notes
    -----
    A token is handed out when it has been decoded: the context then holds it, and its logits are those of the next.
    The exceptions are the last token of a full context, which has no place any more.
    """

    def __cinit__(self, Context context not None, prompt, sampler=None, *, max_tokens=None, stop_tokens=(),
                  bint ignore_eog=False, reuse=True, logprobs=None, run_ahead=0):  # fmt: skip
        self.context = context
        self.sampler = sampling() if sampler is None else sampler
        self.taker.left = -1 if max_tokens is None else integer("max_tokens", max_tokens, 0, 2**62)
        self.taker.ignore_eog = ignore_eog
        if reuse not in (True, False, "exact"):
            raise ValueError(f"reuse must be True, False or 'exact', not {reuse!r}")
        self.reuse = bool(reuse)
        self.exact = reuse == "exact"
        self.fresh = prompt is not None
        # Held from here on: another thread may close the context while Python code runs.
        cdef Vocab vocab = context.vocab
        # From here on a cancel() is meant for this loop.
        context.cancelled.store(False)
        self.sampler.alive()
        if context.mem is NULL:
            raise LlamaError("the model only encodes; it can't generate")
        vocab.collect(stop_tokens, self.taker.stop_tokens)
        if logprobs is not None:
            self.taker.n_best = integer("logprobs", logprobs, 0, context.n_vocab)
        self.n_ahead = integer("run_ahead", run_ahead, 0, 1024)
        if self.n_ahead and context.forgets:
            raise ValueError(
                f"run_ahead is {self.n_ahead}, but the memory of this {context.arch} model can't go back to the last "
                "token seen"
            )
        if isinstance(prompt, (str, bytes)):
            vocab.collect(prompt_tokens(vocab, prompt), self.prompt)
        elif prompt is not None:
            vocab.collect(prompt, self.prompt)
        if self.fresh and self.prompt.empty():
            raise ValueError("the prompt is empty: there is no token to begin with")
        if context.bounded and <int> self.prompt.size() > context.n_ctx_seq:
            error = KVCacheFullError(
                f"the prompt has {self.prompt.size()} tokens and the context holds {context.n_ctx_seq}"
            )
            error.needed, error.available = self.prompt.size(), context.n_ctx_seq
            raise error

    cdef int enter(self) except -1:
        # list() and join() iterate in C, where nobody else looks.
        PyErr_CheckSignals()
        if self.closed:
            raise ClosedError("the loop is closed")
        if self.runner is not NULL and self.context.ahead == <decoding_ahead *> self.runner and self.sampler.uses == self.sampler_uses:
            check_stack()
            self.context.enter_unsettled()
        else:
            self.context.enter()
        try:
            attached = self.context.attached.get(0) if self.context.attached else None
            self.on_backend = attached is not None
            self.sampler.enter_for(<void *> self.context if self.on_backend else NULL)
            self.sampler_uses = self.sampler.uses
            if self.context.ahead is NULL:
                self.drop()
        except BaseException:
            self.context.leave()
            raise
        self.running = True
        try:
            self.context.check_exports("generate")
            if self.on_backend:
                self.check_attached()
            if self.started and self.epoch != self.context.epoch:
                raise LlamaError("the context was used by something else since the last token of this loop")
            if not self.started:
                self.start()
            elif self.reason == RUNNING and not self.context.n_rows:
                raise ValueError("there are no logits to sample from; decode something first")
        except BaseException:
            self.leave()
            raise
        return 0

    cdef int check_attached(self) except -1:
        """See that the chain that samples with the computation is this one, and that nothing asks for logits."""
        if self.sampler.user != <void *> self.context or not self.started and self.context.samplers[0] is not self.sampler:
            raise ValueError("another chain samples for sequence 0: pass context.samplers[0], or set_sampler(0, None)")
        for name, asked in (("logprobs", self.taker.n_best >= 0), ("run_ahead", self.n_ahead > 0)):
            if asked:
                raise ValueError(f"{name} needs logits, and this chain samples on the backend; set_sampler(0, None)")
        if self.started and self.reason == RUNNING and not self.context.sampled_rows(-1):
            raise LlamaError("the context was given its sampler anew since the last token of this loop")
        return 0

    cdef int check_idle(self) except -1:
        if self.running:
            raise ContextBusyError("the loop is running in another thread")
        return 0

    cdef void leave(self) noexcept:
        self.running = False
        if self.runner is not NULL and self.reason != RUNNING:
            self.drop()
        self.sampler.leave()
        self.context.leave()

    cdef int start(self) except -1:
        cdef Context context = self.context
        cdef int64_t begin = llama_time_us()
        log.begin()
        if self.fresh:
            if not self.reuse:
                context.history_epoch = 0
            if self.on_backend:
                # The last token has to be computed, for what is sampled of it.
                context.kept_at = 0
            self.reused = context.keep_prefix(self.prompt, self.exact)
            self.sampler.restart()
            try:
                context.decode_prompt(self.prompt, self.reused)
            except DecodeAborted:
                self.reason = CANCELLED
        else:
            if not self.on_backend:
                context.row(-1)
            elif not context.sampled_rows(-1):
                raise ValueError("row -1 was not sampled on the backend; decode something first")
            context.disown_loops()
        self.taker.context, self.taker.vocab = context.ptr, context.own_vocab.ptr
        self.taker.n_vocab, self.taker.computing = context.n_vocab, &context.computing
        self.taker.room = (context.n_ctx_seq if context.bounded else 2**31 - 1) - context.n_used()
        self.prompt_us = llama_time_us() - begin
        if self.taker.left == 0 and self.reason == RUNNING:
            self.reason = LENGTH
        self.epoch = context.epoch
        self.started = True
        return 0

    cdef Step step(self) except? LAST nogil:
        """Choose one token and decode it. The token is the last one of `produced` unless the answer is ENDED."""
        cdef const float * logits
        cdef int64_t begin
        cdef Step step
        if self.reason != RUNNING:
            return ENDED
        if self.context.cancelled.load():
            self.reason = CANCELLED
            return ENDED
        begin = llama_time_us()
        self.taker.kept = self.context.shown
        if self.n_ahead:
            if self.runner is NULL:
                with gil:
                    self.run()
            if self.runner is not NULL:
                step = self.follow()
                self.loop_us += llama_time_us() - begin
                return step
        if self.on_backend:
            self.taker.take(self.turn, self.sampler.choose_sampled(self.context.ptr, -1), NULL)
        else:
            logits = self.taker.row()
            if logits is NULL:
                with gil:
                    raise ValueError("there are no logits to sample from; decode something first")
            self.taker.take(self.turn, self.sampler.choose(logits, self.context.n_vocab), logits)
        self.loop_us += llama_time_us() - begin
        return self.note()

    cdef Step note(self) except? LAST nogil:
        """Take down what a turn came to."""
        cdef turn_kind kind = self.turn.kind
        if kind == TURN_EOG:
            self.reason = EOG
            return ENDED
        if kind == TURN_STOP:
            self.reason = STOP
            return ENDED
        if self.turn.decoded:
            self.context.gave(1, False)
            self.context.shift_deferred = self.context.copy_deferred = False
            if self.context.history_epoch == self.context.epoch:
                self.context.history.push_back(self.turn.token)
        elif self.turn.code > 1 or self.turn.code < 0:
            self.context.history_epoch = 0
            self.context.lose(self.turn.code)
        if kind == TURN_TOKEN or kind == TURN_LENGTH:
            self.produced.push_back(self.turn.token)
            if self.taker.n_best >= 0:
                self.probabilities.push_back(self.turn.logprob)
        if self.context.stopped():
            # Where it only said False, the loop ends as one that was cancelled.
            with gil:
                self.context.resume()
        if kind == TURN_LENGTH:
            self.reason = LENGTH
            return LAST
        if kind == TURN_CANCELLED:
            self.reason = CANCELLED
            return ENDED
        if kind == TURN_FAILED:
            with gil:
                swap_texts(self.context.thrown, self.turn.thrown)
                self.context.failed(self.turn.code, f"decoding token {self.produced.size() + 1}")
        return TOKEN

    cdef int run(self) except -1:
        """Start the thread that decodes ahead, unless Python code would run in it."""
        cdef Context context = self.context
        if context.watch is not None or context.abort is not None or self.sampler.custom or not can_clone(self.sampler.ptr):
            return 0
        context.see(LLAMA_TOKEN_NULL if self.produced.empty() else self.produced.back())
        self.runner = new run_ahead(
            self.taker, self.sampler.picker, self.sampler.ptr, self.n_ahead, context.cancelled, guard, GUARD_GRAPH, unguard)
        context.ahead = <decoding_ahead *> self.runner
        return 0

    cdef void drop(self) noexcept:
        """End that thread; what it did beyond the last token is taken back when the context is used again."""
        cdef run_ahead * runner = self.runner
        if runner is not NULL:
            if self.context.ahead == <decoding_ahead *> runner:
                self.context.halt()
            self.runner = NULL
            if self.context.forked():
                # Its locks belong to a thread that is not here.
                return
            with nogil:
                del runner

    def __dealloc__(self):
        self.drop()

    cdef Step follow(self) except? LAST nogil:
        """Take a turn from the thread that decodes ahead."""
        cdef c_bool last
        if not self.runner.next(self.received, WAIT_MS):
            return PENDING
        last = self.received.last()
        self.runner.give(self.received, self.sampler.ptr, self.sampler.picker)
        swap(self.turn, self.received.turn)
        if self.received.sampled == SAMPLE_OK and self.turn.decoded:
            self.taker.room -= 1
            self.taker.left -= 1
            self.context.saw(self.turn.token)
        if last:
            with gil:
                self.drop()
                if self.received.sampled != SAMPLE_OK:
                    self.sampler.failed(self.received.sampled, self.received.what)
        return self.note()

    def __iter__(self):
        return self

    def __next__(self):
        cdef Step step = ENDED
        if self.reason != RUNNING:
            raise StopIteration
        self.enter()
        try:
            while True:
                with nogil:
                    step = self.step()
                if step != PENDING:
                    break
                PyErr_CheckSignals()
        finally:
            self.leave()
        if step == ENDED:
            raise StopIteration
        return self.produced.back()

    def cancel(self):
        """End the loop, from any thread; the memory stays at the last token handed out."""
        self.context.cancel()

    def close(self):
        """End the loop; may be called again."""
        self.closed = True
        if self.reason == RUNNING:
            self.reason = CANCELLED
        if not self.running:
            self.drop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<TokenLoop after {self.produced.size()} tokens, {self.finish_reason or 'running'}>"

    @property
    def finish_reason(self):
        """Why it ended: ``stop``, ``length``, ``eog`` or ``cancelled``; None before the end."""
        return REASONS.get(self.reason)

    @property
    def tokens(self):
        """The tokens generated so far, a list of int."""
        cdef llama_token token
        self.check_idle()
        return [token for token in self.produced]

    @property
    def logprobs(self):
        """What was noted of the tokens so far, a list of :class:`TokenLogprob`; None unless it was asked for."""
        cdef token_logprob * one
        cdef size_t i, k
        self.check_idle()
        if self.taker.n_best < 0:
            return None
        result = []
        for i in range(self.probabilities.size()):
            one = &self.probabilities[i]
            best = tuple([(one.best[k].first, one.best[k].second) for k in range(one.best.size())])
            result.append(TokenLogprob(one.token, one.logprob, best))
        return result

    @property
    def timings(self):
        """What it took so far, :class:`Timings`. Wraps ``llama_time_us``."""
        return Timings(
            self.prompt.size() - self.reused if self.started else 0, self.prompt_us / 1e6, self.produced.size(), self.loop_us / 1e6
        )


def prompt_tokens(vocab, text):
    """Tokenize a prompt as :class:`TokenLoop` does: with special tokens, and never with two BOS in front."""
    tokens = vocab.tokenize(text, add_special=True, parse_special=True)
    if len(tokens) > 1 and tokens[0] == tokens[1] == vocab.bos:
        del tokens[0]
    return tokens
