"""Sampling where the model computes: on a GPU, only the chosen token comes back."""

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256, n_outputs_max_per_seq=1) as context:
    chain = llama_cy.SamplerChain(llama_cy.Sampler.top_k(40), llama_cy.Sampler.temp(0.8), llama_cy.Sampler.dist(seed=7))
    context.set_sampler(0, chain)
    # A plus says that the backend computes it.
    print(chain)
    tokens = model.vocab.tokenize("Once upon a time")
    context.decode(tokens)
    probabilities = context.sampled_probs()
    assert probabilities is not None
    print(f"{context.sampled_token()} among {len(probabilities)} tokens, the best with {max(probabilities):.2f}")
    for text in context.stream(None, chain, max_tokens=30):
        print(text, end="")
    print()
    context.set_sampler(0, None)
    print(chain)
