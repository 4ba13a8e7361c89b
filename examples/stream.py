"""Print a story as it is written: whole characters only, and nothing of the stop string."""

import llama_cy

prompt = "Once upon a time"
with llama_cy.demo_model() as model, model.context(n_ctx=256) as ctx:
    chain = llama_cy.sampling(temperature=0.7, seed=1)
    stream = ctx.stream(prompt, chain, max_tokens=120, stop=[". One day", "The end"])
    print(prompt, end="")
    for text in stream:
        print(text, end="", flush=True)
    print(f"\n({stream.finish_reason} after {len(stream.tokens)} tokens)")
