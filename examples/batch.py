"""Decode several sequences at once from NumPy arrays, and change one token in place."""

import numpy as np

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256, n_seq_max=2, kv_unified=True) as ctx:
    vocab = model.vocab
    prompts = [vocab.tokenize(text) for text in ("Once upon a time", "The little dog")]
    lengths = [len(prompt) for prompt in prompts]
    batch = llama_cy.Batch.from_arrays(
        np.concatenate(prompts),
        pos=np.concatenate([np.arange(n) for n in lengths]),
        seq_id=np.repeat([0, 1], lengths),
    )
    last = np.cumsum(lengths) - 1
    batch.logits[last] = True
    for name in ("dog", "cat"):
        batch.token[last[1]] = vocab.tokenize(f" {name}", add_special=False)[-1]
        ctx.memory.clear()
        ctx.decode(batch)
        for i, text in zip(last, ("Once upon a time", f"The little {name}"), strict=True):
            print(f"{text} ...{vocab.token_to_piece(int(np.argmax(ctx.logits(i)))).decode()}")
