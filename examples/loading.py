"""Load a model from the midst of a larger file, and from memory."""

import tempfile

import llama_cy

data = llama_cy.demo_model_path().read_bytes()

with tempfile.TemporaryFile() as archive:
    archive.write(b"what comes before" + data + b"what comes behind")
    archive.seek(len(b"what comes before"))
    with llama_cy.Model(archive) as model:
        print(model.desc, model.metadata["general.architecture"])

with (
    llama_cy.Model.from_buffer(data, tensor_buft_overrides={r"ffn_.*": "cpu"}) as model,
    model.context(n_ctx=64) as ctx,
):
    print(ctx.complete("Once upon a time", max_tokens=16).text)
