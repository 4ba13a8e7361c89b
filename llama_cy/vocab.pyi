from collections.abc import Iterable
from typing import SupportsIndex, final

from typing_extensions import Never

from .vocab_facts import VocabFacts

@final
class Vocab(VocabFacts):
    # A call of the class is an error already for the type checker.
    def __init__(self, comes_from_model_vocab: Never, /) -> None: ...
    def tokenize(self, text: str | bytes, *, add_special: bool = True, parse_special: bool = False) -> list[int]: ...
    def token_to_piece(self, token: SupportsIndex, *, lstrip: int = 0, special: bool = False) -> bytes: ...
    def detokenize_bytes(
        self,
        tokens: Iterable[SupportsIndex],
        *,
        remove_special: bool = False,
        unparse_special: bool = False,
        clean_spaces: bool = False,
    ) -> bytes: ...
    def detokenize(
        self,
        tokens: Iterable[SupportsIndex],
        *,
        remove_special: bool = False,
        unparse_special: bool = False,
        clean_spaces: bool = False,
        errors: str = "replace",
    ) -> str: ...
