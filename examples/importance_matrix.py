"""See which inputs of the weights matter in some texts, and let a small quantization spend its precision there."""

from pathlib import Path
from tempfile import TemporaryDirectory

import llama_cy

TEXTS = ["Once upon a time, there was a little owl who lived in a tree.", "The cat was happy, and the dog was not."]

with TemporaryDirectory() as folder, llama_cy.demo_model() as model:
    matrix = llama_cy.ImportanceMatrix.collect(model, TEXTS)
    print(matrix)
    matrix.save(Path(folder) / "imatrix.gguf")
    matrix = llama_cy.ImportanceMatrix.load(Path(folder) / "imatrix.gguf")
    plain = model.context(n_ctx=256).logprobs(TEXTS[0])
    for name, imatrix in (("without", None), ("with", matrix)):
        path = Path(folder) / f"{name}.gguf"
        llama_cy.quantize(llama_cy.demo_model_path(), path, "Q3_K_M", imatrix=imatrix, allow_requantize=True)
        with llama_cy.Model(path) as small, small.context(n_ctx=256) as ctx:
            found = ctx.logprobs(TEXTS[0])
        off = sum(abs(a.logprob - b.logprob) for a, b in zip(plain, found, strict=True)) / len(plain)
        print(f"Q3_K_M {name} the matrix: log probabilities are off by {off:.3f}")
