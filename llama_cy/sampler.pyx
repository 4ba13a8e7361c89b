"""From logits to a token."""

cimport cython
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t, uint32_t
from libcpp.vector cimport vector
from llama cimport (
    LLAMA_DEFAULT_SEED,
    import_llama_cy,
    llama_logit_bias,
    llama_sampler,
    llama_sampler_init_adaptive_p,
    llama_sampler_init_dist,
    llama_sampler_init_greedy,
    llama_sampler_init_logit_bias,
    llama_sampler_init_min_p,
    llama_sampler_init_mirostat,
    llama_sampler_init_mirostat_v2,
    llama_sampler_init_penalties,
    llama_sampler_init_temp,
    llama_sampler_init_temp_ext,
    llama_sampler_init_top_k,
    llama_sampler_init_top_n_sigma,
    llama_sampler_init_top_p,
    llama_sampler_init_typical,
    llama_sampler_init_xtc,
)

from llama_cy.sampler_handle cimport (
    STEP_BIAS,
    STEP_GREEDY,
    STEP_MIN_P,
    STEP_NOTHING,
    STEP_OTHER,
    STEP_PENALTIES,
    STEP_TEMP,
    STEP_TOP_K,
    SamplerHandle,
    sampler_step,
    step_kind,
)

import math
from collections.abc import Mapping

from .checks import FLOAT32_MIN, INT32_MAX, UINT32_MAX, integer, real

import_llama_cy()


cdef Sampler created(llama_sampler * ptr):
    cdef Sampler sampler = Sampler.__new__(Sampler)
    sampler.own(ptr)
    return sampler


cdef uint32_t seed_of(object seed) except? 0:
    return LLAMA_DEFAULT_SEED if seed is None else <uint32_t> integer("seed", seed, 0, UINT32_MAX - 1)


cdef Sampler known(llama_sampler * ptr, step_kind kind, str label, int64_t count=0, float value=0):
    """Own a sampler and remember what it does."""
    cdef Sampler sampler = created(ptr)
    cdef sampler_step step
    cdef bytes name = label.encode()
    step.name(name)
    step.count, step.value = count, value
    step.kind = kind
    sampler.remember(step)
    return sampler


@cython.no_gc_clear
cdef class Sampler(SamplerHandle):
    """One step on the way from logits to a token: ``Sampler.top_k(40)``, ``Sampler.dist(seed=1)``, ….

    A sampler that is added to a :class:`SamplerChain` moves into it and can't be used by itself any more.
    """

    def __init__(self):
        raise TypeError("make a Sampler with Sampler.greedy(), Sampler.top_k(40), Sampler.dist(seed=1), …")

    @staticmethod
    def greedy():
        """Take the most probable token. Wraps ``llama_sampler_init_greedy``."""
        return known(llama_sampler_init_greedy(), STEP_GREEDY, "greedy")

    @staticmethod
    def dist(seed=None):
        """Draw a token by its probability. Wraps ``llama_sampler_init_dist``.

        Parameters
        ----------
        seed : int, optional
            In ``[0, 2**32 - 2]``. By default one is drawn from the system's entropy, and another one at each reset;
            :attr:`seed` tells which.
        """
        return created(llama_sampler_init_dist(seed_of(seed)))

    @staticmethod
    def top_k(k):
        """Keep the `k` most probable tokens; 0 keeps all. Wraps ``llama_sampler_init_top_k``.

        `k` = 0 leaves the whole vocabulary to the samplers behind, which then sort all of it: costly where the
        vocabulary is large. Holtzman et al., "The Curious Case of Neural Text Degeneration", arXiv:1904.09751.
        """
        cdef int32_t c_k = integer("k", k, 0, INT32_MAX)
        return known(llama_sampler_init_top_k(c_k), STEP_TOP_K if c_k else STEP_NOTHING, f"top_k({c_k})", c_k)

    @staticmethod
    def top_p(p, min_keep=1):
        """Keep the most probable tokens that sum to `p`, at least `min_keep`. Wraps ``llama_sampler_init_top_p``.

        Holtzman et al., arXiv:1904.09751.
        """
        cdef float c_p = real("p", p, 0, 1)
        return known(
            llama_sampler_init_top_p(c_p, integer("min_keep", min_keep, 1, INT32_MAX)), STEP_OTHER, f"top_p({p:g})")

    @staticmethod
    def min_p(p, min_keep=1):
        """Keep tokens with at least `p` times the highest probability. Wraps ``llama_sampler_init_min_p``."""
        cdef float c_p = real("p", p, 0, 1)
        cdef int32_t c_keep = integer("min_keep", min_keep, 1, INT32_MAX)
        return known(llama_sampler_init_min_p(c_p, c_keep), STEP_MIN_P, f"min_p({p:g})", c_keep, c_p)

    @staticmethod
    def temp(t):
        """Divide the logits by `t`; 0 keeps only the highest. Wraps ``llama_sampler_init_temp``."""
        cdef float c_t = real("t", t, 0)
        return known(llama_sampler_init_temp(c_t), STEP_TEMP, f"temp({t:g})", 0, c_t)

    @staticmethod
    def penalties(last_n=64, repeat=1.0, freq=0.0, present=0.0, n_vocab=None):
        """Make tokens less probable that came before. Wraps ``llama_sampler_init_penalties``.

        Parameters
        ----------
        last_n : int
            Look back so many accepted tokens, in ``[0, 2**20]``; 0 turns it off.
        repeat : float
            Divides a positive and multiplies a negative logit; above 0, and 1 turns it off.
        freq, present : float
            Subtracted for each time, and once, that the token came; 0 turns it off.
        n_vocab : int, optional
            Tokens of the vocabulary, for :meth:`Context.set_sampler`.
        """
        cdef int size = 0 if n_vocab is None else integer("n_vocab", n_vocab, 1, INT32_MAX)
        # Smaller ones are zero in 32 bits, and a logit would be divided by it.
        repeat = real("repeat", repeat, FLOAT32_MIN)
        # The CPU sampler has no use for the size of the vocabulary.
        cdef int32_t c_last_n = integer("last_n", last_n, 0, 2**20)
        cdef Sampler sampler = known(
            llama_sampler_init_penalties(
                size or INT32_MAX, c_last_n, repeat, real("freq", freq), real("present", present)),
            STEP_PENALTIES, "penalties", c_last_n)
        sampler.n_vocab = size
        return sampler

    @staticmethod
    def logit_bias(biases, n_vocab=None):
        """Add to the logits of some tokens. Wraps ``llama_sampler_init_logit_bias``.

        Parameters
        ----------
        biases : dict of int to float
            Token to bias; ``-math.inf`` bans the token.
        n_vocab : int, optional
            Tokens of the vocabulary, for :meth:`Context.set_sampler`.
        """
        cdef int size = 0 if n_vocab is None else integer("n_vocab", n_vocab, 1, INT32_MAX)
        cdef vector[llama_logit_bias] items
        cdef llama_logit_bias item
        cdef sampler_step step
        cdef Sampler sampler
        if not isinstance(biases, Mapping):
            raise TypeError(f"logit_bias must be a mapping of tokens to numbers, not {type(biases).__name__}")
        for token, bias in dict(biases).items():
            item.token = integer("token", token, 0, size - 1 if size else INT32_MAX)
            item.bias = -INFINITY if bias == -math.inf else real(f"bias of token {token}", bias)
            items.push_back(item)
            step.tokens.push_back(item.token)
        sampler = created(llama_sampler_init_logit_bias(size or INT32_MAX, <int32_t> items.size(), items.data()))
        # llama.cpp adds both of two biases of one token, or one of them, as the candidates lie.
        step.kind = STEP_BIAS if len(set(step.tokens)) == len(step.tokens) else STEP_OTHER
        step.name(b"logit_bias")
        sampler.remember(step)
        sampler.n_vocab = size
        return sampler

    @staticmethod
    def typical(p, min_keep=1):
        """Keep the tokens whose surprise is closest to the expected one. Wraps ``llama_sampler_init_typical``.

        They sum to `p`, and are at least `min_keep`. Put it behind :meth:`top_k` or :meth:`min_p`: among tokens of
        probability 0 llama.cpp finds no order. Meister et al., "Locally Typical Sampling", arXiv:2202.00666.
        """
        return created(llama_sampler_init_typical(real("p", p, 0, 1), integer("min_keep", min_keep, 1, INT32_MAX)))

    @staticmethod
    def temp_ext(t, delta, exponent=1.0):
        """Divide the logits by a temperature that follows the entropy. Wraps ``llama_sampler_init_temp_ext``.

        Parameters
        ----------
        t : float
            The middle; 0 keeps only the highest logit.
        delta : float
            The temperature is at least `t` - `delta` where one token is certain, and at most `t` + `delta` where all are
            alike; 0 makes it :meth:`temp`.
        exponent : float
            Bends the way between, in ``[0, 1000]``.

        Notes
        -----
        Zhu et al., arXiv:2309.02772.
        """
        return created(llama_sampler_init_temp_ext(
            real("t", t, 0), real("delta", delta, 0), real("exponent", exponent, 0, 1000)))  # fmt: skip

    @staticmethod
    def xtc(p, t, min_keep=1, seed=None):
        """Now and then leave out all but the last of the probable tokens. Wraps ``llama_sampler_init_xtc``.

        Parameters
        ----------
        p : float
            How often, in ``[0, 1]``.
        t : float
            What has at least this probability counts as probable; above 0.5 it never does anything.
        min_keep : int
            It is left alone where fewer would remain.
        seed : int, optional
            As in :meth:`dist`.
        """
        return created(llama_sampler_init_xtc(
            real("p", p, 0, 1), real("t", t, 0, 1), integer("min_keep", min_keep, 1, INT32_MAX), seed_of(seed)))  # fmt: skip

    @staticmethod
    def top_n_sigma(n):
        """Keep logits within `n` standard deviations of the highest. Wraps ``llama_sampler_init_top_n_sigma``.

        0 turns it off. Tang et al., "Top-nσ", arXiv:2411.07641.
        """
        return created(llama_sampler_init_top_n_sigma(real("n", n, 0)))

    @staticmethod
    def mirostat(n_vocab, seed=None, tau=5.0, eta=0.1, m=100):
        """Draw a token so that the surprise stays near a target. Wraps ``llama_sampler_init_mirostat``.

        Parameters
        ----------
        n_vocab : int
            Tokens of the vocabulary, ``vocab.n_tokens``.
        seed : int, optional
            As in :meth:`dist`.
        tau : float
            The surprise to keep to, in bits.
        eta : float
            How fast it learns, in ``[0, 1]``.
        m : int
            So many of the most probable tokens tell how fast probability falls, at least 2.

        Notes
        -----
        Basu et al., "Mirostat", arXiv:2007.14966.
        """
        cdef int size = integer("n_vocab", n_vocab, 1, INT32_MAX)
        cdef Sampler sampler = created(llama_sampler_init_mirostat(
            size, seed_of(seed), real("tau", tau, 0, 1000), real("eta", eta, 0, 1), integer("m", m, 2, INT32_MAX)))  # fmt: skip
        sampler.n_vocab = size
        return sampler

    @staticmethod
    def mirostat_v2(seed=None, tau=5.0, eta=0.1):
        """Draw a token, and cut off what surprises more than a learned bound. Wraps ``llama_sampler_init_mirostat_v2``.

        Parameters as in :meth:`mirostat`. Basu et al., arXiv:2007.14966.
        """
        return created(llama_sampler_init_mirostat_v2(seed_of(seed), real("tau", tau, 0, 1000), real("eta", eta, 0, 1)))

    @staticmethod
    def adaptive_p(target, decay=0.9, seed=None):
        """Draw a token, preferring those near a probability. Wraps ``llama_sampler_init_adaptive_p``.

        Parameters
        ----------
        target : float
            The probability that chosen tokens are to have on average, in ``[0, 1]``; -1 draws without a preference.
        decay : float
            How much what was chosen before counts, in ``[0, 0.99]``: the last ``1 / (1 - decay)`` tokens or so.
        seed : int, optional
            As in :meth:`dist`.
        """
        c_target = real("target", target, -1, 1)
        if -1 < c_target < 0:
            raise ValueError(f"target is {c_target}; expected -1 or a probability in [0, 1]")
        return created(llama_sampler_init_adaptive_p(c_target, real("decay", decay, 0, 0.99), seed_of(seed)))

    @staticmethod
    def dry(vocab, multiplier=0.8, base=1.75, allowed_length=2, last_n=1024,
            seq_breakers=("\n", ":", '"', "*")):  # fmt: skip
        """Make tokens less probable that would go on with a repetition. Wraps ``llama_sampler_init_dry``.

        Parameters
        ----------
        vocab : Vocab
            What the breakers are looked up in.
        multiplier, base : float
            A repetition of `n` tokens takes ``multiplier * base ** (n - allowed_length)`` from the logit of the token that
            would make it longer; `multiplier` 0 turns it off.
        allowed_length : int
            So long a repetition costs nothing.
        last_n : int
            Look back so many accepted tokens, in ``[0, 2**20]``; 0 turns it off.
        seq_breakers : iterable of str
            Texts of up to 40 bytes that a repetition does not reach across.
        """
        from .sampler_grammar import dry

        return dry(vocab, multiplier, base, allowed_length, last_n, seq_breakers)

    @staticmethod
    def infill(vocab):
        """Choose between going on and ending, for text in a gap. Wraps ``llama_sampler_init_infill``.

        Put it behind :meth:`top_k` and :meth:`top_p`, as it compares each token with each, and a sampler that selects
        behind it. Where the end is about as probable as the rest it leaves the end only; else it joins tokens that begin
        with one another.

        Parameters
        ----------
        vocab : Vocab
            One with an end of text or of turn.
        """
        from .sampler_grammar import infill

        return infill(vocab)

    @staticmethod
    def grammar(vocab, grammar, root="root"):
        """Leave only tokens that go on with a text of the grammar. Does what ``llama_sampler_init_grammar`` does.

        It comes first in a chain. What is accepted must be allowed: :meth:`accept` raises a :class:`GrammarError` else.

        Parameters
        ----------
        vocab : Vocab
            Whose tokens spell the text.
        grammar : str
            In GBNF; :func:`json_schema_to_grammar` makes one.
        root : str
            The rule to begin with.

        Raises
        ------
        GrammarError
            With the line and column where the grammar is wrong, begins with itself, or repeats too often; and while
            sampling, where the text can be read in too many ways.

        Notes
        -----
        All ways to read a text are followed at once, on stacks that share what they have in common (Tomita, "Efficient
        Parsing for Natural Language", 1985): what a token takes grows with the square of the text at most, where that of
        llama.cpp's own sampler may double with each character. At its limit of a few tenths of a second the call raises,
        and nothing has changed. Unlike llama.cpp's it leaves only what may become UTF-8, neither ends a text within a
        character nor leaves a token that it would then refuse.
        """
        from .sampler_grammar import grammar as create

        return create(vocab, grammar, root)

    @staticmethod
    def grammar_lazy(vocab, grammar, root="root", *, trigger_patterns=(), trigger_tokens=()):
        """Follow a grammar from a trigger on, and nothing before.

        Does what ``llama_sampler_init_grammar_lazy_patterns`` does, as :meth:`grammar` does.

        Parameters
        ----------
        vocab, grammar, root
            As in :meth:`grammar`.
        trigger_patterns : iterable of str
            Regular expressions (ECMAScript) of which one is to match what was accepted since the reset. The grammar
            begins with the first group that matched, or else with the match.
        trigger_tokens : iterable of int
            Tokens that trigger it; the grammar begins with them.

        Raises
        ------
        GrammarError
            As in :meth:`grammar`, or a pattern is no regular expression.

        Notes
        -----
        All text since the reset is searched at each token, by ``std::regex``, which takes time and, on a stack of its own,
        memory that grow with it: keep patterns to a few thousand tokens, begin them with ``^[\\s\\S]*?`` or a letter, and
        prefer tokens that trigger.
        """
        from .sampler_grammar import grammar_lazy

        return grammar_lazy(vocab, grammar, root, trigger_patterns, trigger_tokens)

    @staticmethod
    def init(sampler, ctx=None):
        """Make a sampler of one's own, in Python or C. Wraps ``llama_sampler_init``.

        Parameters
        ----------
        sampler : callable, object or PyCapsule
            A function that is called with the :class:`Candidates` and changes them; or an object with a method `apply`
            that is, and with `accept(token)`, `reset()`, `clone()` and `name` if it wants to. Without `clone` it is copied
            deeply. Or a capsule called ``llama_cy.llama_sampler_i`` with a C function table.
        ctx : PyCapsule, optional
            Called ``llama_cy.llama_sampler_context_t``: what the function table gets as its context. Both capsules stay
            alive with the sampler.

        Notes
        -----
        What Python raises comes out of the call that sampled, accepted, reset or cloned. `apply` gets a copy, which may be
        kept; it runs once for each token, with the GIL.
        """
        from .sampler_custom import init

        return init(sampler, ctx)
