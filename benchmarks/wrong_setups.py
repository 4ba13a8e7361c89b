"""What each binding does before a wrong call, and how a row of the table is written."""

from __future__ import annotations

from typing import TypeAlias

__all__ = ["SETUPS", "Row", "row"]

# Binding to source.
Row: TypeAlias = dict[str, str]

SETUPS: Row = {
    "llama_cy": """
import sys
from math import inf, nan
import llama_cy
from llama_cy import Batch, Sampler, SamplerChain
model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
def fresh(**params):
    return model.context(**{"n_ctx": 256, "n_batch": 32, "n_threads": 1} | params)
def decoded():
    context = fresh()
    context.decode([1, 2, 3])
    return context
def batch(entries, n_seq_max=1):
    made = Batch(len(entries), n_seq_max=n_seq_max)
    for token, pos, seq_ids, logits in entries:
        made.add(token, pos, seq_ids, logits=logits)
    return made
""",
    "cyllama": """
import sys
from math import inf, nan
from cyllama.llama import llama_cpp as low
params = low.LlamaModelParams()
params.n_gpu_layers = 0
model = low.LlamaModel(sys.argv[1], params, verbose=False)
vocab = model.get_vocab()
def fresh(**settings):
    params = low.LlamaContextParams()
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_threads = 256, 32, 32, 1
    for name, value in settings.items():
        setattr(params, name, value)
    return low.LlamaContext(model, params, verbose=False)
def decoded():
    context = fresh()
    context.decode(low.llama_batch_get_one([1, 2, 3]))
    return context
def batch(entries, n_seq_max=1):
    made = low.LlamaBatch(n_tokens=len(entries), embd=0, n_seq_max=n_seq_max)
    for token, pos, seq_ids, logits in entries:
        made.add(token, pos, list(seq_ids), logits)
    return made
def sampler(*kinds):
    made = low.LlamaSampler(low.LlamaSamplerChainParams())
    for kind in kinds:
        getattr(made, "add_" + kind)()
    return made
""",
    "llama_cpp_python": """
import sys
from math import inf, nan
import llama_cpp
from llama_cpp import Llama, LlamaGrammar, _internals as low
llama = Llama(sys.argv[1], n_gpu_layers=0, n_ctx=256, n_batch=32, n_threads=1, verbose=False)
def decoded():
    llama.eval([1, 2, 3])
    return llama
def batch(entries, n_seq_max=1):
    made = low.LlamaBatch(n_tokens=len(entries), embd=0, n_seq_max=n_seq_max, verbose=False)
    for i, (token, pos, seq_ids, logits) in enumerate(entries):
        made.batch.token[i], made.batch.pos[i], made.batch.logits[i] = token, pos, logits
        made.batch.n_seq_id[i] = len(seq_ids)
        for k, seq_id in enumerate(seq_ids):
            made.batch.seq_id[i][k] = seq_id
    made.batch.n_tokens = len(entries)
    return made
def sampler(*kinds):
    made = low.LlamaSampler()
    for kind in kinds:
        getattr(made, "add_" + kind)()
    return made
""",
    # It is a server in the process; what it answers to a wrong request is counted as an exception.
    "xllamacpp": """
import sys
from math import inf, nan
import xllamacpp
def serve(path=sys.argv[1], **settings):
    params = xllamacpp.CommonParams()
    params.model.path, params.n_gpu_layers, params.verbosity = path, 0, -1
    params.n_ctx, params.n_batch, params.n_ubatch, params.n_parallel = 256, 32, 32, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    for name, value in settings.items():
        setattr(params, name, value)
    return xllamacpp.Server(params)
server = serve()
def ask(prompt="a", **request):
    answer = server.handle_completions({"prompt": prompt, "max_tokens": 4} | request)
    if "error" in answer:
        raise RuntimeError(answer["error"]["message"])
""",
}


def row(ours: str, cyllama: str = "", llama_cpp_python: str = "", xllamacpp: str = "") -> Row:
    said = {"llama_cy": ours, "cyllama": cyllama, "llama_cpp_python": llama_cpp_python, "xllamacpp": xllamacpp}
    return {name: source for name, source in said.items() if source}
