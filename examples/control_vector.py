"""Compute a control vector from pairs of prompts and steer the built-in model with it."""

import llama_cy

templates = [
    "Once upon a time, there was a little {} named {}.",
    "There was a {} named {}.",
    "A {} named {} lived in the park.",
    "One day, a {} named {} went to the lake.",
]
girls = [text.format("girl", name) for text in templates for name in ("Lily", "Emma", "Mia", "Anna")]
boys = [text.format("boy", name) for text in templates for name in ("Tim", "Max", "Tom", "Ben")]
prompt = "Once upon a time, there was a little otter."

with llama_cy.demo_model() as model, model.context(n_ctx=256) as ctx:
    vector = llama_cy.ControlVector.from_prompts(model, girls, boys)
    print(vector)
    for scale in (-0.5, 0.0, 0.5):
        ctx.set_control_vectors({vector: scale})
        done = ctx.complete(prompt, llama_cy.Sampler.greedy(), max_tokens=30)
        print(f"{scale}: {prompt}{done.text}")
