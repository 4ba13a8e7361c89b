"""Read a beginning once, and continue it in several ways that share it in memory."""

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=512, n_seq_max=4, kv_unified=True) as ctx:
    prompt = model.vocab.tokenize("Once upon a time,")
    batch = llama_cy.Batch(4)
    ctx.decode(prompt[:-1])
    for seq_id in range(1, 4):
        ctx.memory.seq_cp(0, seq_id)
    chains = [llama_cy.sampling(temperature=0.9, seed=seq_id) for seq_id in range(4)]
    rows = [prompt[-1]] * 4
    stories: list[list[int]] = [[], [], [], []]
    for step in range(12):
        batch.clear()
        for seq_id, token in enumerate(rows):
            batch.add(token, len(prompt) - 1 + step, (seq_id,), logits=True)
        ctx.decode(batch)
        rows = [int(token) for token in llama_cy.sample_rows(chains, ctx)]
        for story, token in zip(stories, rows, strict=True):
            story.append(token)
    for seq_id, story in enumerate(stories):
        print(f"{seq_id}: {model.vocab.detokenize(story)}")
    print(f"positions held: {[ctx.memory.seq_pos_max(seq_id) + 1 for seq_id in range(4)]}")
