"""Text out of the bytes of tokens, in Python: whole characters, and nothing of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence

from .checks import each


def stop_texts(stop: str | Iterable[str]) -> list[str]:
    """Return the stop strings as a list, or raise for what is none."""
    texts = [stop] if isinstance(stop, str) else list(each("stop", stop, "str or an iterable of str"))
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a stop string must be str, not {type(text).__name__}")
        if not text:
            raise ValueError("a stop string must not be empty")
    return texts


def texts_of(pieces: Iterable[bytes], stop: Sequence[str] = ()) -> Iterator[str]:
    """Yield the text of the pieces as soon as it is certain, up to the first stop string.

    Parameters
    ----------
    pieces : iterable of bytes
        What is left of it when a stop string was found is not asked for.
    stop : sequence of str
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    held = ""
    for piece in pieces:
        held += decoder.decode(piece)
        found = [(held.find(text), text) for text in stop if text in held]
        if found:
            if before := held[: min(found)[0]]:
                yield before
            return
        certain = len(held) - _beginning(held, stop)
        if certain:
            yield held[:certain]
            held = held[certain:]
    if held := held + decoder.decode(b"", True):
        yield held


def _beginning(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end may be the beginning of a stop string."""
    return max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)
