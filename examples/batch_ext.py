"""Decode two sequences at once with an extended batch, entry by entry."""

import numpy as np

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256, n_seq_max=2) as ctx:
    vocab = model.vocab
    texts = ["Once upon a time", "The little dog"]
    batch = llama_cy.BatchExt(ctx)
    last = []
    for seq_id, text in enumerate(texts):
        for pos, token in enumerate(vocab.tokenize(text)):
            i = batch.add_token(seq_id, token)
            batch.set_pos(i, pos)
        batch.set_output_logits(i, True)
        last.append(i)
    ctx.process(batch)
    for text, i in zip(texts, last, strict=True):
        print(f"{text} ...{vocab.token_to_piece(int(np.argmax(ctx.logits(i)))).decode()}")
