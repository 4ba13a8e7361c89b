"""Beam search: the likeliest continuations, several at a time, each a sequence in the memory of one context."""

from .search import Beam, beam_search

__all__ = ["Beam", "beam_search"]
