from collections.abc import Iterable
from typing import NamedTuple, SupportsIndex

from llama_cy import Context

class Beam(NamedTuple):
    tokens: list[int]
    score: float
    ended: bool

def beam_search(
    context: Context, prompt: Iterable[SupportsIndex], n_beams: int = 4, max_tokens: int = 32
) -> list[Beam]: ...
