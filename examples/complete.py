"""Ask the same context twice: the second prompt decodes only what the first has not left in memory."""

import llama_cy

with llama_cy.demo_model() as model, model.context(n_ctx=256) as ctx:
    for prompt in ("Once upon a time, there was a dog", "Once upon a time, there was a cat"):
        chain = llama_cy.sampling(temperature=0)
        done = ctx.complete(prompt, chain, max_tokens=40, stop=".")
        print(f"{prompt}{done.text}.")
        print(
            f"  {done.timings.prompt_tokens} tokens of the prompt decoded, {done.reused} reused; {done.finish_reason}"
        )
