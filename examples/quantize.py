"""Look at what a quantization would give, do it, and compare what both models say."""

from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cy

source = llama_cy.demo_model_path()
for ftype in ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M"):
    plan = llama_cy.quantize(source, ftype=ftype, dry_run=True)
    print(f"{ftype:8} {plan.nbytes / 1e6:.2f} MB, {plan.bits_per_weight:.2f} bits per weight")

with TemporaryDirectory() as folder:
    target = Path(folder) / "small.gguf"
    # The built-in model is Q8_0; a model in F16 or F32 needs no permission.
    done = llama_cy.quantize(source, target, "Q5_K_M", allow_requantize=True)
    print(f"{done.nbytes_before} -> {done.nbytes} bytes in {len(done.tensors)} tensors")
    for path in (source, target):
        with llama_cy.Model(path) as model, model.context(n_ctx=256) as ctx:
            print(ctx.complete("Once upon a time,", llama_cy.Sampler.greedy(), max_tokens=20).text)
