from collections.abc import Callable, Iterable, Mapping
from typing import SupportsIndex

from typing_extensions import Never

from .candidates import Candidates
from .sampler_handle import SamplerHandle
from .vocab import Vocab

class Sampler(SamplerHandle):
    # The static methods make samplers; a call of the class is an error already for the type checker.
    def __init__(self, made_by_its_static_methods: Never, /) -> None: ...
    @staticmethod
    def greedy() -> Sampler: ...
    @staticmethod
    def dist(seed: int | None = None) -> Sampler: ...
    @staticmethod
    def top_k(k: int) -> Sampler: ...
    @staticmethod
    def top_p(p: float, min_keep: int = 1) -> Sampler: ...
    @staticmethod
    def min_p(p: float, min_keep: int = 1) -> Sampler: ...
    @staticmethod
    def temp(t: float) -> Sampler: ...
    @staticmethod
    def penalties(
        last_n: int = 64, repeat: float = 1.0, freq: float = 0.0, present: float = 0.0, n_vocab: int | None = None
    ) -> Sampler: ...
    @staticmethod
    def logit_bias(biases: Mapping[int, float], n_vocab: int | None = None) -> Sampler: ...
    @staticmethod
    def typical(p: float, min_keep: int = 1) -> Sampler: ...
    @staticmethod
    def temp_ext(t: float, delta: float, exponent: float = 1.0) -> Sampler: ...
    @staticmethod
    def xtc(p: float, t: float, min_keep: int = 1, seed: int | None = None) -> Sampler: ...
    @staticmethod
    def top_n_sigma(n: float) -> Sampler: ...
    @staticmethod
    def mirostat(
        n_vocab: int, seed: int | None = None, tau: float = 5.0, eta: float = 0.1, m: int = 100
    ) -> Sampler: ...
    @staticmethod
    def mirostat_v2(seed: int | None = None, tau: float = 5.0, eta: float = 0.1) -> Sampler: ...
    @staticmethod
    def adaptive_p(target: float, decay: float = 0.9, seed: int | None = None) -> Sampler: ...
    @staticmethod
    def dry(
        vocab: Vocab,
        multiplier: float = 0.8,
        base: float = 1.75,
        allowed_length: int = 2,
        last_n: int = 1024,
        seq_breakers: Iterable[str] = ...,
    ) -> Sampler: ...
    @staticmethod
    def infill(vocab: Vocab) -> Sampler: ...
    @staticmethod
    def grammar(vocab: Vocab, grammar: str, root: str = "root") -> Sampler: ...
    @staticmethod
    def grammar_lazy(
        vocab: Vocab,
        grammar: str,
        root: str = "root",
        *,
        trigger_patterns: Iterable[str] = (),
        trigger_tokens: Iterable[SupportsIndex] = (),
    ) -> Sampler: ...
    @staticmethod
    def init(sampler: Callable[[Candidates], object] | object, ctx: object = None) -> Sampler: ...
