"""Ask what a model and its context would take on each device, before anything is loaded."""

import llama_cy

path = llama_cy.demo_model_path()
for n_ctx in (512, 4096):
    plan = llama_cy.plan_memory(path, n_ctx=n_ctx)
    print(f"{n_ctx} tokens:")
    for device in plan.devices:
        print(f"  {device}")
