"""Make a LoRA of rank 1 that loves one word, and turn it on and off while the model runs."""

import tempfile
from pathlib import Path

import numpy as np

import llama_cy

prompt = "Once upon a time, there was a little"
seen: dict[str, np.ndarray] = {}


def note(tensor: llama_cy.Tensor) -> None:
    """Keep the last row of a tensor."""
    seen[tensor.name] = tensor.data[-1]


with llama_cy.demo_model() as model, tempfile.TemporaryDirectory() as folder:
    last = model.n_layer - 1
    with model.context(n_ctx=64, eval_callback=note) as ctx:
        # What the last layer works with at the end of the prompt, and the direction that stands for a word.
        ctx.decode(model.vocab.tokenize(prompt))
        inside, hidden = seen[f"ffn_swiglu-{last}"], seen[f"l_out-{last}"]
        ctx.memory.clear()
        ctx.decode(model.vocab.tokenize(" duck", add_special=False))
        word = seen["embd"]

    # B @ A @ inside is the direction, as long as the hidden state.
    a = inside[None] / (inside @ inside)
    b = word[:, None] * (np.linalg.norm(hidden) / np.linalg.norm(word))
    llama_cy.write_lora(Path(folder) / "duck.gguf", model, {f"blk.{last}.ffn_down.weight": (a, b)})
    adapter = model.load_adapter(Path(folder) / "duck.gguf")
    print(adapter.metadata)

    with model.context(n_ctx=128) as ctx:
        for scale in (0.0, 1.0, 0.0):
            ctx.set_adapters({adapter: scale})
            done = ctx.complete(prompt, llama_cy.Sampler.greedy(), max_tokens=20, stop=".")
            print(f"{scale}: {prompt}{done.text}.")
