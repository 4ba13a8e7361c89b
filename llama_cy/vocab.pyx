"""Text to tokens and back."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow
from ggml_backend cimport GGML_BACKEND_DEVICE_TYPE_CPU, ggml_backend_dev_by_type, ggml_backend_dev_memory
from libc.stdint cimport INT32_MAX, int32_t
from libcpp cimport bool
from libcpp.string cimport string
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_TOKEN_NULL,
    LLAMA_VOCAB_TYPE_BPE,
    LLAMA_VOCAB_TYPE_SPM,
    LLAMA_VOCAB_TYPE_UGM,
    LLAMA_VOCAB_TYPE_WPM,
    import_llama_cy,
    llama_detokenize,
    llama_model_get_vocab,
    llama_token,
    llama_token_to_piece,
    llama_vocab,
    llama_vocab_bos,
    llama_vocab_eos,
    llama_vocab_get_add_bos,
    llama_vocab_get_add_eos,
    llama_vocab_n_tokens,
    llama_vocab_sep,
)
from llama cimport llama_vocab_type as c_vocab_type

from llama_cy.abort cimport guard, unguard
from llama_cy.lifetime cimport enter_native, leave_native
from llama_cy.vocab_facts cimport VocabFacts

from .checks import each, integer

import_llama_cy()

cdef extern from "kernels/tokenize.h" namespace "llama_cy" nogil:
    void (*guard_thread)(int scope) noexcept nogil
    void (*unguard_thread)() noexcept nogil
    size_t stack_per_character
    size_t longest_match(const char * text, size_t length)
    int32_t tokenize_deep "llama_cy::tokenize" (
        const llama_vocab * vocab, const char * text, int32_t length, vector[llama_token] & tokens,
        bool add_special, bool parse_special, bool expressions) except +

guard_thread, unguard_thread = guard, unguard

# Below this even a text without a break needs no more stack than any machine has memory.
LONG_TEXT = 2**20


cdef int check_memory(const char * text, size_t length) except -1:
    """Foresee that a match which never ends takes more memory than there is, and the process with it."""
    cdef size_t longest = longest_match(text, length)
    cdef size_t needed = longest * stack_per_character
    cdef size_t free = 0, total = 0
    ggml_backend_dev_memory(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), &free, &total)
    available = total // 2
    if needed > available:
        raise MemoryError(
            f"the text has {longest} bytes without a break between blanks and others; to tokenize it may take "
            f"{needed >> 20} MiB of stack, and half of this machine's memory is {available >> 20} MiB"
        )
    return 0


@cython.final
cdef class Vocab(VocabFacts):
    """The vocabulary of a model: ``model.vocab``. It keeps the model's weights alive.

    Attributes
    ----------
    n_tokens : int
        Number of tokens; ids are in ``[0, n_tokens)``. Wraps ``llama_vocab_n_tokens``.
    """

    def __init__(self):
        raise TypeError("a Vocab comes from model.vocab")

    @staticmethod
    cdef Vocab borrow(ModelHandle handle):
        cdef Vocab vocab = Vocab.__new__(Vocab)
        vocab.handle = handle
        vocab.ptr = llama_model_get_vocab(handle.alive())
        vocab.n_tokens = llama_vocab_n_tokens(vocab.ptr)
        return vocab

    cdef int collect(self, object tokens, vector[llama_token] & out) except -1:
        cdef const int32_t[::1] view
        cdef Py_ssize_t i
        cdef long long value
        cdef int overflow
        if tokens is None or isinstance(tokens, (str, bytes, bytearray)):
            raise TypeError(f"tokens must be an iterable of int, not {type(tokens).__name__}; tokenize a text first")
        try:
            view = tokens
        except (TypeError, ValueError, BufferError):
            for token in each("tokens", tokens):
                # Most are of the type int itself, and there may be hundreds of thousands.
                value = PyLong_AsLongLongAndOverflow(token, &overflow) if type(token) is int else -1
                out.push_back(<llama_token> value if 0 <= value < self.n_tokens else self.token(token))
            return 0
        out.resize(view.shape[0])
        for i in range(view.shape[0]):
            if not 0 <= view[i] < self.n_tokens:
                raise ValueError(f"token {view[i]} at index {i} is out of range [0, {self.n_tokens})")
            out[i] = view[i]
        return 0

    def __repr__(self):
        if self.handle is None or self.handle.ptr is NULL:
            return "<Vocab, closed>"
        return f"<Vocab of {self.n_tokens} tokens, {self.type.name.lower()}>"

    cdef int check_special(self) except -1:
        """Refuse to add a token that the model wants and does not have; llama.cpp would assert."""
        cdef int kind = c_vocab_type(self.ptr)
        cdef bint words = kind == LLAMA_VOCAB_TYPE_WPM
        if kind not in (LLAMA_VOCAB_TYPE_SPM, LLAMA_VOCAB_TYPE_BPE, LLAMA_VOCAB_TYPE_WPM, LLAMA_VOCAB_TYPE_UGM):
            return 0
        for name, wanted, token in (
            ("BOS", words or llama_vocab_get_add_bos(self.ptr), llama_vocab_bos(self.ptr)),
            ("EOS", not words and llama_vocab_get_add_eos(self.ptr), llama_vocab_eos(self.ptr)),
            ("SEP", words, llama_vocab_sep(self.ptr)),
        ):
            if wanted and token == LLAMA_TOKEN_NULL:
                raise ValueError(f"the model wants {name} to be added and has no such token; pass add_special=False")
        return 0

    def tokenize(self, text, *, bint add_special=True, bint parse_special=False):
        """Split text into tokens. Wraps ``llama_tokenize``.

        Parameters
        ----------
        text : str or bytes
            str is encoded as UTF-8; a lone surrogate is a UnicodeEncodeError.
        add_special : bool
            Put the tokens in front and behind that the model asks for (BOS, EOS).
        parse_special : bool
            Read the text of control tokens, such as ``<|end|>``, as those tokens. Leave it off for text that
            others wrote.

        Returns
        -------
        list of int

        Raises
        ------
        ValueError
            The vocabulary lacks what the text needs.
        MemoryError
            A text of many MiB has hardly a break in it, and matching it could take most of the memory there is.

        Notes
        -----
        A text that is long for the stack of this thread is split on a stack of its own.
        """
        self.check_texts()
        cdef bytes data
        if isinstance(text, str):
            data = text.encode("utf-8")
        elif isinstance(text, bytes):
            data = text
        else:
            raise TypeError(f"text must be str or bytes, not {type(text).__name__}")
        if PyBytes_GET_SIZE(data) >= INT32_MAX:
            raise ValueError(f"text of {PyBytes_GET_SIZE(data)} bytes is out of range [0, {INT32_MAX})")
        if add_special:
            self.check_special()
        cdef const char * c_text = PyBytes_AS_STRING(data)
        cdef int32_t length = <int32_t> PyBytes_GET_SIZE(data)
        cdef int32_t n
        cdef vector[llama_token] tokens
        # Other kinds of tokenizers split texts without regular expressions.
        cdef bint expressions = c_vocab_type(self.ptr) == LLAMA_VOCAB_TYPE_BPE
        if expressions and length > <int32_t> LONG_TEXT:
            check_memory(c_text, length)
        enter_native()
        try:
            with nogil:
                n = tokenize_deep(self.ptr, c_text, length, tokens, add_special, parse_special, expressions)
        except MemoryError:
            raise MemoryError(f"there is no memory for the stack and the tokens of a text of {length} bytes") from None
        except (IndexError, RuntimeError) as error:
            # As where a vocabulary has no token for a byte.
            raise ValueError(f"the vocabulary can't tokenize the text: {error}") from None
        finally:
            leave_native()
        if n < 0:
            raise ValueError(f"text of {length} bytes makes more than {INT32_MAX} tokens")
        cdef int32_t i
        return [tokens[i] for i in range(n)]

    cdef bytes piece(self, llama_token token, int32_t lstrip, bint special):
        cdef char buffer[256]
        cdef int32_t n = llama_token_to_piece(self.ptr, token, buffer, 256, lstrip, special)
        if n >= 0:
            return buffer[:n]
        cdef bytes long_piece = PyBytes_FromStringAndSize(NULL, -n)
        llama_token_to_piece(self.ptr, token, PyBytes_AS_STRING(long_piece), -n, lstrip, special)
        return long_piece

    def token_to_piece(self, token, *, lstrip=0, bint special=False):
        """Return the bytes of one token. Wraps ``llama_token_to_piece``.

        Parameters
        ----------
        token : int
            In ``[0, n_tokens)``, else a ValueError.
        lstrip : int
            Leave out up to so many blanks in front.
        special : bool
            Write control tokens too; otherwise they are empty.

        Returns
        -------
        bytes
            Possibly a part of a UTF-8 sequence.
        """
        self.check_texts()
        return self.piece(self.token(token), integer("lstrip", lstrip, 0, INT32_MAX), special)

    def detokenize_bytes(self, tokens, *, bint remove_special=False, bint unparse_special=False,
                         bint clean_spaces=False):  # fmt: skip
        """Join tokens into bytes; parameters as in :meth:`detokenize`."""
        self.check_texts()
        cdef vector[llama_token] ids
        self.collect(tokens, ids)
        if clean_spaces:
            return self.cleaned(ids, remove_special, unparse_special)
        cdef Py_ssize_t first = 0, last = ids.size()
        if remove_special and last > first and self.add_bos and ids[first] == llama_vocab_bos(self.ptr):
            first += 1
        if remove_special and last > first and self.add_eos and ids[last - 1] == llama_vocab_eos(self.ptr):
            last -= 1
        return self.joined(ids.data() + first, last - first, unparse_special)

    cdef bytes joined(self, const llama_token * ids, size_t count, bint special):
        cdef string text
        cdef char buffer[256]
        cdef int32_t n
        cdef size_t i, before
        enter_native()
        try:
            with nogil:
                for i in range(count):
                    n = llama_token_to_piece(self.ptr, ids[i], buffer, 256, 0, special)
                    if n >= 0:
                        text.append(buffer, n)
                        continue
                    before = text.size()
                    text.resize(before - n)
                    llama_token_to_piece(self.ptr, ids[i], &text[before], -n, 0, special)
        finally:
            leave_native()
        return text

    cdef bytes cleaned(self, vector[llama_token] & ids, bint remove_special, bint unparse_special):
        cdef int32_t size = <int32_t> min(<size_t> INT32_MAX, ids.size() * 16 + 64)
        cdef int32_t count = <int32_t> ids.size()
        cdef int32_t n
        cdef bytes text
        cdef char * buffer
        while True:
            text = PyBytes_FromStringAndSize(NULL, size)
            buffer = PyBytes_AS_STRING(text)
            enter_native()
            try:
                with nogil:
                    n = llama_detokenize(self.ptr, ids.data(), count, buffer, size, remove_special, unparse_special)
            finally:
                leave_native()
            if n >= 0:
                return text[:n]
            size = -n

    def detokenize(self, tokens, *, bint remove_special=False, bint unparse_special=False, bint clean_spaces=False,
                   str errors="replace"):  # fmt: skip
        """Join tokens into text. Wraps ``llama_detokenize`` and ``llama_token_to_piece``.

        Parameters
        ----------
        tokens : iterable of int or int32 buffer
        remove_special : bool
            Leave out BOS and EOS where the model adds them.
        unparse_special : bool
            Write control tokens as their text.
        clean_spaces : bool
            Take away the blank that some tokenizers put in front of a text, and the blanks that some put before
            punctuation. By default the text is what the tokens spell, one after another, as :meth:`Context.stream`
            gives it.
        errors : str
            What happens to bytes that are no UTF-8, as in :meth:`bytes.decode`.

        Returns
        -------
        str
        """
        data = self.detokenize_bytes(
            tokens, remove_special=remove_special, unparse_special=unparse_special, clean_spaces=clean_spaces
        )
        return data.decode("utf-8", errors)
