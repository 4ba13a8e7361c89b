"""Tell how probable each token of a text is, what else was likely, and how surprised the model is in all."""

import math

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256) as ctx:
    for text in (
        "Once upon a time, a little frog lived in the garden.",
        "Once upon a time, a little garden lived in the frog.",
    ):
        found = ctx.logprobs(text, top=2)
        for token in found[-6:-1]:
            likely = {model.vocab.token_to_piece(other): round(math.exp(p), 2) for other, p in token.best}
            print(f"{model.vocab.token_to_piece(token.token)!r}: {math.exp(token.logprob):.3f}, likely were {likely}")
        perplexity = math.exp(-sum(token.logprob for token in found) / len(found))
        print(f"perplexity {perplexity:.2f}: {text}")
