"""Take token ids one by one, and stop whenever the loop has enough."""

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256) as ctx:
    vocab = model.vocab
    chain = llama_cy.sampling(temperature=0.7, seed=1)
    loop = ctx.generate("Once upon a time", chain, max_tokens=100)
    pieces = []
    for token in loop:
        pieces.append(vocab.token_to_piece(token))
        if pieces[-1].endswith(b"."):
            break
    # A piece may be a part of a character, so the bytes are joined before they become text.
    print(b"".join(pieces).decode())
    print(f"{len(loop.tokens)} tokens, {loop.timings.tokens_per_second:.0f} a second")
