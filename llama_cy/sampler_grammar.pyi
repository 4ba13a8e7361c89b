from collections.abc import Iterable
from typing import SupportsIndex

from .sampler import Sampler
from .vocab import Vocab

def grammar(vocab: Vocab, grammar: str, root: str) -> Sampler: ...
def grammar_lazy(
    vocab: Vocab, grammar: str, root: str, trigger_patterns: Iterable[str], trigger_tokens: Iterable[SupportsIndex]
) -> Sampler: ...
def dry(
    vocab: Vocab, multiplier: float, base: float, allowed_length: int, last_n: int, seq_breakers: Iterable[str]
) -> Sampler: ...
def infill(vocab: Vocab) -> Sampler: ...
