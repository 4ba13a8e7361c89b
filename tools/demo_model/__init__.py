"""Corpus, tokenizer, training, export and evaluation of the built-in demo model."""
