"""Turn sentences into vectors, and find the one that is closest to another."""

import llama_cy

SENTENCES = [
    "The dog ran in the park.",
    "A cat sat on the mat.",
    "The puppy played in the garden.",
    "Mum baked a big cake.",
]

# The built-in model was made to tell stories; a model made for embeddings does this better.
with llama_cy.demo_model() as model, llama_cy.Embedder(model, n_ctx=64) as embedder:
    vectors = embedder.embed(SENTENCES)
    print(
        f"{vectors.shape[0]} vectors of {vectors.shape[1]} numbers, {embedder.pooling_type.name.lower()} of the tokens"
    )

    query = embedder.embed("The dog played in the park.")
    # The vectors have length 1, so the product is the cosine.
    for score, sentence in sorted(zip(vectors @ query, SENTENCES, strict=True), reverse=True):
        print(f"{score:.3f}  {sentence}")
