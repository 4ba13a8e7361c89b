"""What llama.cpp would not survive in a file's tokenizer: at the load, or with the first text."""

from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memchr, memcpy
from libcpp cimport bool
from libcpp.memory cimport unique_ptr
from libcpp.string cimport string, to_string
from libcpp.vector cimport vector

from llama_cy.gguf_header cimport Array, Header

from .gguf_header import kind_name

cdef extern from "<string_view>" namespace "std" nogil:
    cppclass string_view:
        string_view()
        string_view(const char * data, size_t size)
        const char * data()
        size_t size()

cdef extern from "kernels/text_set.h" namespace "llama_cy" nogil:
    cppclass text_set:
        text_set(size_t n) except +
        bool insert(string_view text)

# Longest text of a token. A trie goes a step deeper for each byte of it, on the stack.
MAX_TEXT = 2**16
MAX_TRIE_TEXT = 2**11
# A suffix array of suffixes grows with the third power of it.
MAX_PLAMO2_WORK = 5_000_000_000
NO_VOCAB = ("no_vocab", "none")
TOKENS = "tokenizer.ggml.tokens"
STRING = 8
# LLAMA_TOKEN_TYPE_BYTE
BYTE = 6


def check_vocab(Header header not None, values):
    """Raise a ModelLoadError for a tokenizer that llama.cpp would assert on, loop in, or read out of bounds.

    Parameters
    ----------
    header : Header
    values : mapping
        The metadata, with the overrides that the load will see.
    """
    model = values.get("tokenizer.ggml.model")
    if not isinstance(model, str):
        # llama.cpp says itself that there is none.
        return
    if model in NO_VOCAB:
        return
    tokens = strings(header, values, TOKENS)
    if tokens is None:
        return
    if not tokens.n:
        raise header.failure(f"{TOKENS} is empty")
    for key in ("tokenizer.ggml.scores", "tokenizer.ggml.token_type"):
        check_array(header, values, key, tokens.n)
    strings(header, values, "tokenizer.ggml.merges")
    check_texts(header, tokens, model)
    if model == "bert":
        check_no_bytes(header, values)


cdef Array strings(Header header, values, str key):
    """Return an array of strings, or None where there is none."""
    found = values.get(key)
    if found is None:
        return None
    if not isinstance(found, Array) or (<Array> found).kind != STRING:
        # An empty one has no items to tell their type by.
        if found == []:
            raise header.failure(f"{key} is no array of strings")
        kind = kind_name(header.kinds[key]) if not isinstance(found, Array) else repr(found)
        raise header.failure(f"{key} is {kind}, not an array of strings")
    return found


cdef int check_array(Header header, values, str key, uint64_t least) except -1:
    found = values.get(key)
    if found is None:
        return 0
    if not isinstance(found, (list, Array)):
        raise header.failure(f"{key} is {kind_name(header.kinds[key])}, not an array")
    cdef uint64_t n = (<Array> found).n if isinstance(found, Array) else <uint64_t> len(found)
    if n < least:
        raise header.failure(f"{key} has {n} items, and there are {least} tokens")
    return 0


cdef string_view next_text(const char * data, uint64_t * at) noexcept nogil:
    """Return a text as C reads it, which is to its NUL, and step to the next."""
    cdef uint64_t length
    cdef const char * start
    cdef const void * end
    memcpy(&length, data + at[0], 8)
    start = data + at[0] + 8
    at[0] += 8 + length
    end = memchr(start, 0, length)
    return string_view(start, length if end is NULL else <const char *> end - start)


cdef int check_texts(Header header, Array tokens, str model) except -1:
    """Look at the text of each token: no two may be the same."""
    cdef const char * data = header.data
    cdef uint64_t at = tokens.start
    cdef uint64_t n = tokens.n
    cdef uint64_t i, longest = 0, twice = 0
    cdef double work = 0
    cdef bint double = False
    cdef string_view text
    # Of which no text moves when another comes.
    cdef vector[unique_ptr[string]] made
    cdef unique_ptr[text_set] seen
    seen.reset(new text_set(n))
    with nogil:
        for i in range(n):
            text = next_text(data, &at)
            if text.size() == 0:
                # llama.cpp gives it a name of its own.
                made.resize(made.size() + 1)
                made.back().reset(new string(b"[EMPTY_"))
                made.back().get().append(to_string(i)).append(b"]")
                text = string_view(made.back().get().data(), made.back().get().size())
            if text.size() > longest:
                longest = text.size()
            work += <double> text.size() ** 3
            if not seen.get().insert(text):
                twice, double = i, True
                break
    if double:
        shown = text.data()[:text.size()].decode("utf-8", "replace")
        raise header.failure(f"{TOKENS} has {shown!r} twice, the second time as token {twice}")
    limit = MAX_TRIE_TEXT if model in ("t5", "rwkv") else MAX_TEXT
    if longest > limit:
        raise header.failure(f"{TOKENS} has a text of {longest} bytes; {limit} are allowed")
    if model == "plamo2" and work > MAX_PLAMO2_WORK:
        raise header.failure(f"{TOKENS} has texts too long for a table of their suffixes")
    if model == "rwkv":
        check_first_bytes(header, tokens)
    return 0


cdef int unescape(string_view text, size_t most, vector[unsigned char] & out) except -1 nogil:
    """Undo the escapes of a token of RWKV's, as far as the first bytes."""
    cdef size_t i
    cdef int escaping = 0, left = 0
    cdef unsigned char c, value = 0
    out.clear()
    for i in range(text.size()):
        if out.size() == most:
            break
        c = <unsigned char> text.data()[i]
        if left:
            value = <unsigned char> (value << 4) + <unsigned char> (c - c'a' + 10 if c >= c'a' else c - c'0')
            left -= 1
            if left == 0:
                out.push_back(value)
                value = 0
        elif escaping:
            escaping = 0
            if c == c'x':
                left = 2
            else:
                out.push_back(c'\t' if c == c't' else c'\n' if c == c'n' else c'\r' if c == c'r' else c)
        elif c == c'\\':
            escaping = 1
        else:
            out.push_back(c)
    return 0


cdef int check_first_bytes(Header header, Array tokens) except -1:
    """See that each byte that begins a token is one: llama.cpp looks for the longest, and would not move on without any."""
    cdef const char * data = header.data
    cdef uint64_t at = tokens.start
    cdef uint64_t n = tokens.n
    cdef uint64_t i, _
    cdef vector[unsigned char] bytes_of
    cdef bool[256] first
    cdef bool[256] alone
    for i in range(256):
        first[i] = alone[i] = False
    with nogil:
        for _ in range(n):
            unescape(next_text(data, &at), 2, bytes_of)
            if bytes_of.size() >= 1:
                first[bytes_of[0]] = True
            if bytes_of.size() == 1:
                alone[bytes_of[0]] = True
    for i in range(256):
        if first[i] and not alone[i]:
            raise header.failure(f"{TOKENS} has tokens that begin with byte {i}, and none for the byte alone")
    return 0


cdef int check_no_bytes(Header header, values) except -1:
    """Refuse byte tokens where llama.cpp knows none."""
    found = values.get("tokenizer.ggml.token_type")
    cdef Array array
    cdef const char * data = header.data
    cdef int32_t kind = 0
    cdef int32_t byte = BYTE
    cdef uint64_t i = 0, n, start
    if isinstance(found, list):
        wrong = BYTE in found
    elif isinstance(found, Array):
        array = found
        start, n = array.start, array.n
        with nogil:
            for i in range(n):
                memcpy(&kind, data + start + 4 * i, 4)
                if kind == byte:
                    break
        wrong = kind == byte
    else:
        return 0
    if wrong:
        raise header.failure("tokenizer.ggml.token_type has a byte token, which a WordPiece tokenizer can't have")
    return 0
