"""What a vocabulary says of itself and of each token."""

from libc.stdint cimport int32_t
from llama cimport (
    LLAMA_TOKEN_NULL,
    LLAMA_VOCAB_TYPE_NONE,
    import_llama_cy,
    llama_token,
    llama_vocab_bos,
    llama_vocab_eos,
    llama_vocab_eot,
    llama_vocab_fim_mid,
    llama_vocab_fim_pad,
    llama_vocab_fim_pre,
    llama_vocab_fim_rep,
    llama_vocab_fim_sep,
    llama_vocab_fim_suf,
    llama_vocab_get_add_bos,
    llama_vocab_get_add_eos,
    llama_vocab_get_add_sep,
    llama_vocab_get_attr,
    llama_vocab_get_score,
    llama_vocab_get_suppress_tokens,
    llama_vocab_get_text,
    llama_vocab_is_control,
    llama_vocab_is_eog,
    llama_vocab_mask,
    llama_vocab_nl,
    llama_vocab_pad,
    llama_vocab_sep,
)
from llama cimport llama_vocab_type as c_vocab_type

import operator

from .checks import shown
from .enums import TokenAttr, VocabType

import_llama_cy()


cdef object token_or_none(llama_token token):
    return None if token == LLAMA_TOKEN_NULL else token


cdef class VocabFacts:
    """What a vocabulary says of itself and of each token, as attributes of :class:`Vocab`."""

    cdef int check(self) except -1:
        if self.handle is None:
            raise TypeError("a Vocab comes from model.vocab")
        self.handle.alive()
        return 0

    cdef int check_texts(self) except -1:
        """Refuse what llama.cpp would assert on: a vocabulary may be no more than a number of tokens."""
        self.check()
        if c_vocab_type(self.ptr) == LLAMA_VOCAB_TYPE_NONE:
            raise ValueError(f"this model has no tokenizer: its {self.n_tokens} tokens have no text")
        return 0

    cdef llama_token token(self, object value) except? -2:
        try:
            number = operator.index(value)
        except TypeError:
            raise TypeError(f"a token is an integer, not {type(value).__name__}") from None
        if not 0 <= number < self.n_tokens:
            raise ValueError(f"token {shown(number)} is out of range [0, {self.n_tokens})")
        return number

    def __len__(self):
        return self.n_tokens

    @property
    def type(self):
        """Kind of tokenizer. Wraps ``llama_vocab_type``.

        Returns
        -------
        VocabType
        """
        self.check()
        return VocabType(<int> c_vocab_type(self.ptr))

    def get_text(self, token):
        """Return a token as the vocabulary spells it, for example ``▁the``. Wraps ``llama_vocab_get_text``."""
        self.check_texts()
        return llama_vocab_get_text(self.ptr, self.token(token)).decode("utf-8", "replace")

    def get_score(self, token):
        """Return a token's score or log probability in the tokenizer. Wraps ``llama_vocab_get_score``."""
        self.check_texts()
        return llama_vocab_get_score(self.ptr, self.token(token))

    def get_attr(self, token):
        """Return a token's attributes as a :class:`TokenAttr`. Wraps ``llama_vocab_get_attr``."""
        self.check_texts()
        return TokenAttr(<int> llama_vocab_get_attr(self.ptr, self.token(token)))

    def is_eog(self, token):
        """Tell whether a token ends generation (EOS, end of turn, …). Wraps ``llama_vocab_is_eog``."""
        self.check()
        return llama_vocab_is_eog(self.ptr, self.token(token))

    def is_control(self, token):
        """Tell whether a token is a control token, without text of its own. Wraps ``llama_vocab_is_control``."""
        self.check_texts()
        return llama_vocab_is_control(self.ptr, self.token(token))

    @property
    def bos(self):
        """Beginning-of-sequence token, or None. Wraps ``llama_vocab_bos``."""
        self.check()
        return token_or_none(llama_vocab_bos(self.ptr))

    @property
    def eos(self):
        """End-of-sequence token, or None. Wraps ``llama_vocab_eos``."""
        self.check()
        return token_or_none(llama_vocab_eos(self.ptr))

    @property
    def eot(self):
        """End-of-turn token, or None. Wraps ``llama_vocab_eot``."""
        self.check()
        return token_or_none(llama_vocab_eot(self.ptr))

    @property
    def sep(self):
        """Sentence separator, or None. Wraps ``llama_vocab_sep``."""
        self.check()
        return token_or_none(llama_vocab_sep(self.ptr))

    @property
    def nl(self):
        """Newline token, or None. Wraps ``llama_vocab_nl``."""
        self.check()
        return token_or_none(llama_vocab_nl(self.ptr))

    @property
    def pad(self):
        """Padding token, or None. Wraps ``llama_vocab_pad``."""
        self.check()
        return token_or_none(llama_vocab_pad(self.ptr))

    @property
    def mask(self):
        """Mask token, or None. Wraps ``llama_vocab_mask``."""
        self.check()
        return token_or_none(llama_vocab_mask(self.ptr))

    @property
    def fim_pre(self):
        """Fill-in-the-middle prefix token, or None. Wraps ``llama_vocab_fim_pre``."""
        self.check()
        return token_or_none(llama_vocab_fim_pre(self.ptr))

    @property
    def fim_suf(self):
        """Fill-in-the-middle suffix token, or None. Wraps ``llama_vocab_fim_suf``."""
        self.check()
        return token_or_none(llama_vocab_fim_suf(self.ptr))

    @property
    def fim_mid(self):
        """Fill-in-the-middle middle token, or None. Wraps ``llama_vocab_fim_mid``."""
        self.check()
        return token_or_none(llama_vocab_fim_mid(self.ptr))

    @property
    def fim_pad(self):
        """Fill-in-the-middle padding token, or None. Wraps ``llama_vocab_fim_pad``."""
        self.check()
        return token_or_none(llama_vocab_fim_pad(self.ptr))

    @property
    def fim_rep(self):
        """Fill-in-the-middle repository token, or None. Wraps ``llama_vocab_fim_rep``."""
        self.check()
        return token_or_none(llama_vocab_fim_rep(self.ptr))

    @property
    def fim_sep(self):
        """Fill-in-the-middle file separator, or None. Wraps ``llama_vocab_fim_sep``."""
        self.check()
        return token_or_none(llama_vocab_fim_sep(self.ptr))

    @property
    def add_bos(self):
        """Whether the model wants BOS in front. Wraps ``llama_vocab_get_add_bos``."""
        self.check()
        return llama_vocab_get_add_bos(self.ptr)

    @property
    def add_eos(self):
        """Whether the model wants EOS behind. Wraps ``llama_vocab_get_add_eos``."""
        self.check()
        return llama_vocab_get_add_eos(self.ptr)

    @property
    def add_sep(self):
        """Whether the model wants SEP behind. Wraps ``llama_vocab_get_add_sep``."""
        self.check()
        return llama_vocab_get_add_sep(self.ptr)

    @property
    def suppress_tokens(self):
        """Tokens the model asks never to sample, a tuple of int. Wraps ``llama_vocab_get_suppress_tokens``."""
        self.check()
        cdef int32_t n = 0
        cdef const llama_token * tokens = llama_vocab_get_suppress_tokens(self.ptr, &n)
        cdef int32_t i
        return tuple([tokens[i] for i in range(n)])
