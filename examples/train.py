"""Fine-tune a small model on a text that repeats, and save it."""

from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cy

# The built-in models are Q8_0, and ggml has gradients for F32 only.
with TemporaryDirectory() as folder:
    path = Path(folder) / "f32.gguf"
    llama_cy.quantize(llama_cy.demo_model_path(draft=True), path, "F32", allow_requantize=True)
    with llama_cy.Model(path, load_mode="none", n_gpu_layers=0) as model:
        tokens = model.vocab.tokenize("The owl counts: one, two, three, one, two, three. " * 40)[:1024]
        sizes = {"n_ctx": 256, "n_batch": 256, "n_ubatch": 256}
        with model.context(**sizes) as context:
            trainer = llama_cy.Trainer(context, lambda tensor: "ffn" in tensor.name, learning_rate=1e-3)
            print(trainer)
            for _ in range(2):
                epoch = trainer.epoch(tokens)
                print(f"loss {epoch.train.loss:.3f}")
        model.save(Path(folder) / "trained.gguf")
