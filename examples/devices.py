"""See what there is to compute on, what a model would take there, and what it took."""

import llama_cy

for device in llama_cy.devices():
    print(f"{device.name}: {device.description}, {device.memory_free / 2**30:.1f} GiB free")

path = llama_cy.demo_model_path()
plan = llama_cy.plan_memory(path, n_ctx=2048)
for part in plan.devices:
    print(f"{part.device} would hold {part.nbytes / 2**20:.1f} MiB; {'it fits' if part.fits else 'it does not fit'}")

# device="metal", "cuda:0" or "vulkan" insists on one; n_gpu_layers="fit" takes the layers that there is room for.
with llama_cy.Model(path, device="auto", n_gpu_layers="fit") as model:
    for placed in model.placement:
        print(f"{placed.device}: layers {placed.layers}, {placed.nbytes:,} bytes")
    with model.context(n_ctx=2048) as ctx:
        print(ctx.memory_breakdown()[-1])
