"""What the program runs: `model` is its own, with the weights that its threads compute with."""

import llama_cy

model: llama_cy.Model = globals()["model"]
with model.context(n_ctx=512, n_threads=1) as ctx:
    for opening in ("Once upon a time", "Lily went to the park"):
        done = ctx.complete(opening, llama_cy.sampling(temperature=0), max_tokens=40)
        print(f"Python: {opening}{done.text}", flush=True)
