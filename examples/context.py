"""Decode by hand: look at the logits of a row, choose a token, decode it, and so on."""

import numpy as np

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=128, n_threads=1) as ctx:
    vocab = model.vocab
    tokens = vocab.tokenize("The little dog was very")
    ctx.decode(tokens)

    row = ctx.logits(-1)
    for token in np.argsort(row)[:-4:-1]:
        print(f"{vocab.token_to_piece(token).decode()!r:12} {row[token]:.2f}")

    for _ in range(20):
        # The view shows llama.cpp's own row; it must be gone before the next decode.
        token = int(np.argmax(ctx.logits_view(-1)))
        tokens.append(token)
        ctx.decode([token])
    print(vocab.detokenize(tokens))
    print(f"{ctx.memory.seq_pos_max(0) + 1} of {ctx.n_ctx} positions used")
