"""A sampler in Python: it sees the candidates as NumPy arrays and forbids a letter."""

import numpy as np

import llama_cy


class Lipogram:
    """Ban every token that spells a letter."""

    def __init__(self, vocab: llama_cy.Vocab, letter: str) -> None:
        banned = letter.encode()
        self.allowed = np.array([banned not in vocab.token_to_piece(token) for token in range(vocab.n_tokens)])

    def apply(self, candidates: llama_cy.Candidates) -> None:
        candidates.keep(self.allowed[candidates.ids])


with llama_cy.demo_model() as model, model.context(n_ctx=256) as context:
    sampler = llama_cy.Sampler.init(Lipogram(model.vocab, "o"))
    chain = llama_cy.SamplerChain(sampler, llama_cy.Sampler.top_k(10), llama_cy.Sampler.dist(seed=3))
    text = context.complete("Every day", chain, max_tokens=40).text
    print(f"Every day{text}")
    assert "o" not in text
