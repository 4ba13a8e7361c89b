"""Fine-tune a small model that is made on the spot, on a text that repeats, and save it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cy

# The built-in model is Q8_0, and ggml has gradients for F32 only: its draft is small enough to be trained here.
with TemporaryDirectory() as folder:
    path = Path(folder) / "f32.gguf"
    llama_cy.quantize(llama_cy.demo_model_path(draft=True), path, "F32", allow_requantize=True)
    with llama_cy.Model(path, load_mode="none", n_gpu_layers=0) as model:
        tokens = model.vocab.tokenize("The owl counts: one, two, three, one, two, three. " * 40)[:257]
        with llama_cy.Trainer(model, learning_rate=1e-3, param_filter=lambda name, shape: "ffn" in name) as trainer:
            print(trainer, "of", trainer.n_ctx, "tokens each step")
            print(f"loss {trainer.epoch(tokens).train.loss:.3f}")
            print(f"loss {trainer.evaluate(tokens).loss:.3f}")
        model.save(Path(folder) / "trained.gguf")
