"""Read the beginning of a story once, and go on from it in several ways."""

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256) as context:
    context.decode(model.vocab.tokenize("Once upon a time, there was a little fox who"))
    start = context.snapshot()
    for seed in range(3):
        context.restore(start)
        sampler = llama_cy.sampling(seed=seed, temperature=0.8)
        story = context.complete("Once upon a time, there was a little fox who", sampler, max_tokens=20)
        print(f"{seed}: {story.text.strip()} ({story.reused} tokens were there already)")
    # A snapshot is a value: bytes, a file or a pickle of it serves another process with the same model.
    again = llama_cy.Snapshot.from_bytes(bytes(start))
    print(f"{again!r}, the same: {again == start}")
