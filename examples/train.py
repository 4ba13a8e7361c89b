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
        with model.context(n_ctx=256, n_batch=256, n_ubatch=256) as context:
            trainer = llama_cy.Trainer(context, lambda tensor: "ffn" in tensor.name, learning_rate=1e-3)
            print(trainer)
            for _ in range(2):
                learned = trainer.epoch(tokens).train
                print(f"loss {learned.loss:.3f}" if learned else "nothing to learn from")
        model.save(Path(folder) / "trained.gguf")
