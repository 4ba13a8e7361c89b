"""Let llama.cpp and NumPy tell the same story: one call chooses what computes."""

from contextlib import closing

import llama_cy

for backend in llama_cy.InferenceBackend:
    with closing(llama_cy.load(llama_cy.demo_model_path(), backend=backend, n_ctx=256)) as engine:
        print(
            f"{backend.value}: Once upon a time{''.join(engine.stream('Once upon a time', stop='.', max_tokens=60))}."
        )
print("installed engines:", ", ".join(llama_cy.engines()))
