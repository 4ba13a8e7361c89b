"""Look into a computation: how strongly each layer changes what passes through it, and a decode ended halfway."""

import numpy as np

import llama_cy


def measure(tensor: llama_cy.Tensor) -> None:
    """Print the size of the last token's hidden state behind each layer."""
    print(f"{tensor.name:9} {tensor.op:4} {tensor.shape!s:10} {np.linalg.norm(tensor.data[-1]):8.2f}")


with llama_cy.demo_model() as model:
    with model.context(n_ctx=64, eval_callback=measure, eval_filter="l_out-*") as ctx:
        ctx.decode(model.vocab.tokenize("Once upon a time"))

    # False ends the computation; what is raised comes out of decode().
    with model.context(n_ctx=64, eval_callback=lambda tensor: tensor.name != "l_out-1") as ctx:
        try:
            ctx.decode(model.vocab.tokenize("Once upon a time"))
        except llama_cy.DecodeAborted as error:
            print(error)
