"""Text to tokens and back, and what a vocabulary tells about a token."""

import llama_cy

with llama_cy.demo_model(vocab_only=True) as model:
    vocab = model.vocab
    for token in vocab.tokenize("Once upon a time"):
        kind = vocab.get_attr(token).name
        print(f"{token:5} {vocab.get_text(token)!r:12} {vocab.token_to_piece(token)!r:12} {kind}")
    print(vocab.detokenize(vocab.tokenize("Once upon a time", add_special=False)))
