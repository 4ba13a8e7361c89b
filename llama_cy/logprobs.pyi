from collections.abc import Iterable
from typing import SupportsIndex

from .completion import TokenLogprob
from .context import Context

def logprobs(
    context: Context, text: str | bytes | Iterable[SupportsIndex], top: SupportsIndex
) -> list[TokenLogprob]: ...
