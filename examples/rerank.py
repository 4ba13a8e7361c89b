"""Put documents in the order in which they answer a question; pass a reranker's GGUF file to do it well."""

import sys

import llama_cy

QUERY = "What did the dog do?"
DOCUMENTS = ["The dog ran in the park.", "A cat sat on the mat.", "The puppy played."]

if len(sys.argv) > 1:
    with llama_cy.Model(sys.argv[1]) as model:
        ranking = model.rerank(QUERY, DOCUMENTS)
        for i in ranking.order:
            print(f"{ranking.scores[i]:8.3f}  {DOCUMENTS[i]}")
else:
    # The built-in model has no rank head, which is an error and no wrong score.
    with llama_cy.demo_model() as model:
        try:
            model.rerank(QUERY, DOCUMENTS)
        except llama_cy.ContextError as error:
            print(error)
