"""Text out of a loop: whole characters, stop strings, and everything at once."""

from cpython.exc cimport PyErr_CheckSignals
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, int64_t
from llama cimport import_llama_cy, llama_time_us, llama_token_to_piece

from llama_cy.loop cimport ENDED, PENDING, RUNNING, STOP, TOKEN, TokenLoop
from llama_cy.vocab cimport Vocab

from .checks import each
from .completion import Completion

import_llama_cy()

cdef int64_t SIGNAL_INTERVAL_US = 5_000


cdef class TextStream:
    """Generate text: an iterator of str.

    Each item is at least one whole character; a multi-byte character is never split, and a part of a stop string
    never appears. Joined, the items are what :meth:`Vocab.detokenize` makes of all tokens behind the prompt.

    Parameters
    ----------
    context, prompt, sampler, max_tokens, stop_tokens, ignore_eog, reuse, logprobs, run_ahead
        As in :class:`TokenLoop`.
    stop : str or iterable of str
        Texts that end the stream and are not handed out, wherever token boundaries fall.

    Attributes
    ----------
    loop : TokenLoop
        What chooses the tokens.
    """

    def __cinit__(self, context, prompt, sampler=None, *, stop=(), **options):
        for text in [stop] if isinstance(stop, str) else each("stop", stop, "str or an iterable of str"):
            if not isinstance(text, str):
                raise TypeError(f"a stop string must be str, not {type(text).__name__}")
            if not text:
                raise ValueError("a stop string must not be empty")
            self.text.add_stop(text.encode("utf-8"))
        self.loop = TokenLoop(context, prompt, sampler, **options)
        cdef Vocab vocab = self.loop.context.vocab
        vocab.check_texts()
        self.piece.resize(256)

    cdef Step advance(self) except? LAST nogil:
        """Take one step and add its bytes to the text."""
        cdef Step step = self.loop.step()
        cdef int32_t n
        if step == ENDED or step == PENDING:
            return step
        n = llama_token_to_piece(
            self.loop.context.own_vocab.ptr, self.loop.produced.back(), self.piece.data(), <int32_t> self.piece.size(), 0, False)
        if n < 0:
            self.piece.resize(-n)
            n = llama_token_to_piece(
                self.loop.context.own_vocab.ptr, self.loop.produced.back(), self.piece.data(), -n, 0, False)
        if self.text.feed(self.piece.data(), n):
            self.loop.reason = STOP
            return LAST
        return step

    def __iter__(self):
        return self

    def __next__(self):
        cdef Step step = TOKEN
        cdef size_t size
        if not self.waiting.empty() and not self.loop.closed:
            self.loop.check_idle()
            text = PyUnicode_DecodeUTF8(self.waiting.data(), self.waiting.size(), b"replace")
            self.waiting.clear()
            return text
        if self.loop.reason != RUNNING:
            self.loop.check_idle()
            if self.loop.closed or not self.text.size():
                raise StopIteration
            return self.take(self.text.size())
        self.loop.enter()
        try:
            while True:
                with nogil:
                    step = self.advance()
                    size = self.text.ready() if step == TOKEN or step == PENDING else self.text.size()
                if size or step != TOKEN and step != PENDING:
                    break
                PyErr_CheckSignals()
        finally:
            self.loop.leave()
        if not size:
            raise StopIteration
        return self.take(size)

    cdef str take(self, size_t size):
        text = PyUnicode_DecodeUTF8(self.text.data(), size, b"replace")
        self.text.take(size)
        return text

    def complete(self):
        """Run to the end at once.

        Returns
        -------
        Completion
            With all the text that was not handed out before. What was generated before an exception stays for the next
            call, or for the iterator.
        """
        cdef Step step = TOKEN
        cdef size_t size
        cdef int64_t begin
        if self.loop.reason == RUNNING:
            self.loop.enter()
            try:
                while step == TOKEN or step == PENDING:
                    with nogil:
                        begin = llama_time_us()
                        step = TOKEN
                        while step == TOKEN and llama_time_us() - begin < SIGNAL_INTERVAL_US:
                            step = self.advance()
                            size = self.text.ready() if step == TOKEN or step == PENDING else self.text.size()
                            self.waiting.append(self.text.data(), size)
                            self.text.take(size)
                    PyErr_CheckSignals()
            finally:
                self.loop.leave()
        self.loop.check_idle()
        self.waiting.append(self.text.data(), self.text.size())
        self.text.take(self.text.size())
        text = PyUnicode_DecodeUTF8(self.waiting.data(), self.waiting.size(), b"replace")
        self.waiting.clear()
        return Completion(
            text, self.loop.tokens, self.loop.finish_reason, self.loop.timings, self.loop.reused, self.loop.logprobs)

    def cancel(self):
        """End the stream, from any thread; the memory stays at the last token handed out."""
        self.loop.cancel()

    def close(self):
        """End the stream; may be called again."""
        self.loop.close()

    @property
    def closed(self):
        """Whether :meth:`close` was called."""
        return self.loop.closed

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return f"<TextStream after {self.loop.produced.size()} tokens, {self.finish_reason or 'running'}>"

    @property
    def finish_reason(self):
        """Why it ended, as in :attr:`TokenLoop.finish_reason`."""
        return self.loop.finish_reason

    @property
    def tokens(self):
        """The tokens generated so far, a list of int."""
        return self.loop.tokens

    @property
    def logprobs(self):
        """What was noted of the tokens so far, as in :attr:`TokenLoop.logprobs`."""
        return self.loop.logprobs

    @property
    def timings(self):
        """What it took so far, :class:`Timings`."""
        return self.loop.timings

    @property
    def reused(self):
        """Tokens of the prompt that were in memory already, as in :attr:`TokenLoop.reused`."""
        return self.loop.reused
