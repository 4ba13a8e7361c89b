"""Anything in a batch, in any order of calls: a result or an exception, and never the end of the process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from support.child import check_output
from support.encoder_models import write_bert, write_t5
from support.gemma_models import write_gemma3, write_gemma_embedding
from support.llama_models import write_llama
from support.recurrent_models import write_jamba, write_lfm2, write_mamba

WRITERS: dict[str, Callable[[Path], Path]] = {
    "llama": write_llama,
    "gemma3": write_gemma3,
    "mamba": write_mamba,
    "jamba": write_jamba,
    "lfm2": write_lfm2,
    "t5": write_t5,
    "bert": write_bert,
    "rerank": lambda path: write_bert(path, labels=[]),
    "gemma-embedding": write_gemma_embedding,
}

# Hypothesis draws inside of the child, so that it can shrink what raises; what kills shows the example it began.
SETUP = """
import json, os, sys
import numpy as np
from hypothesis import HealthCheck, given, settings, strategies as st
import llama_cy

settings.register_profile(
    "child", max_examples=int(os.environ.get("EXAMPLES", "60")), deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)
settings.load_profile("child")
model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
n_vocab = model.vocab.n_tokens
EXPECTED = (llama_cy.LlamaError, ValueError)
edges = [-1, 0, 1, 2, 3, 7, 31, 32, 63, 64, 127, 255, 256, 257, 511, 512, 1000, 2**31 - 2, 2**31 - 1]
edge = st.sampled_from(edges)
seq = st.integers(0, 3)
token = st.integers(0, n_vocab - 1)

def attempt(what):
    try:
        return what()
    except EXPECTED:
        return None

def read(context):
    for row in (-1, 0, 1, 5):
        for method in (context.logits, context.embeddings):
            values = attempt(lambda: method(row))
            assert values is None or values.dtype == np.float32
    attempt(lambda: context.embeddings_seq(0))
    attempt(lambda: llama_cy.Sampler.greedy().sample(context))
"""

OPERATIONS = """
entry = st.tuples(
    token,
    st.one_of(st.none(), edge),
    st.one_of(st.lists(seq, min_size=1, max_size=1), st.lists(seq, min_size=1, max_size=2, unique=True)),
    st.booleans(),
)
operation = st.one_of(
    st.tuples(st.just("tokens"), st.lists(token, min_size=1, max_size=40)),
    st.tuples(st.just("batch"), st.lists(entry, min_size=1, max_size=40)),
    st.tuples(st.just("batch"), st.lists(entry, min_size=1, max_size=40)),
    st.tuples(st.just("encode"), st.lists(token, min_size=1, max_size=40)),
    st.tuples(st.just("seq_rm"), st.integers(-1, 3), edge, edge),
    st.tuples(st.just("seq_cp"), seq, seq, edge, edge),
    st.tuples(st.just("seq_cp"), seq, seq),
    st.tuples(st.just("seq_keep"), seq),
    st.tuples(st.just("seq_add"), seq, edge, edge, st.sampled_from([-(2**31) + 1, -100, -1, 0, 1, 50, 2**31 - 1])),
    st.tuples(st.just("seq_div"), seq, edge, edge, st.sampled_from([1, 2, 100, 2**31 - 1])),
    st.tuples(st.just("clear")),
    st.tuples(st.just("state")),
    st.tuples(st.just("generate"), st.booleans()),
)
params = st.fixed_dictionaries(
    {
        "n_ctx": st.sampled_from([32, 256, 512]),
        "n_batch": st.sampled_from([4, 32, 64]),
        "n_seq_max": st.sampled_from([1, 2, 4]),
        "kv_unified": st.booleans(),
    },
    optional={
        "n_ubatch": st.sampled_from([1, 3, 8]), "swa_full": st.booleans(), "embeddings": st.booleans(),
        "pooling_type": st.sampled_from(["none", "mean", "cls", "last"]), "n_rs_seq": st.sampled_from([0, 2]),
        "attention_type": st.sampled_from(["causal", "non_causal"]), "n_outputs_max": st.sampled_from([0, 4]),
        "flash_attn_type": st.sampled_from(["disabled", "enabled"]),
    },
)

def perform(context, name, arguments):
    memory = context.memory
    if name == "tokens":
        context.decode(arguments[0])
    elif name == "encode":
        context.encode(arguments[0])
    elif name == "batch":
        batch = llama_cy.Batch(40, n_seq_max=2)
        last = {}
        for chosen, pos, seq_ids, logits in arguments[0]:
            if pos is None:
                # What fits behind the sequence.
                begin = last.get(seq_ids[0])
                pos = (attempt(lambda: memory.seq_pos_max(seq_ids[0])) or 0) + 1 if begin is None else begin + 1
            if not 0 <= pos < 2**31 - 1:
                continue
            for seq_id in seq_ids:
                last[seq_id] = pos
            batch.add(chosen, pos, seq_ids, logits=logits)
        context.decode(batch)
    elif name == "state":
        context.state.set(context.state.get())
    elif name == "generate":
        list(context.generate([1, 2] if arguments[0] else None, llama_cy.Sampler.greedy(), max_tokens=3))
    else:
        getattr(memory, name)(*arguments)

@given(params=params, operations=st.lists(operation, max_size=12))
def test(params, operations):
    with open(sys.argv[2], "w") as file:
        json.dump([params, operations], file)
    context = attempt(lambda: model.context(n_threads=1, **params))
    if context is None:
        return
    with context:
        for name, *arguments in operations:
            attempt(lambda: perform(context, name, arguments))
        read(context)
        for seq_id in range(context.n_seq_max):
            low = attempt(lambda: context.memory.seq_pos_min(seq_id))
            # The two memories of a hybrid go apart when positions are changed by hand.
            assert low is None or model.is_hybrid or -1 <= low <= context.memory.seq_pos_max(seq_id)

test()
print("lived")
"""

PARAMETERS = """
size = st.sampled_from([1, 2, 3, 8, 31, 32, 33, 64, 255, 256, 257, 1000, 4096, 2**20, 2**31 - 1])
small = st.sampled_from([0, 1, 2, 3, 7, 64, 255, 1000, 2**31 - 1])
real = st.sampled_from([0.0, 1e-38, 0.5, 1.0, 100.0, 1e30, 3e38])
cache = st.sampled_from("f32 f16 bf16 q8_0 q5_1 q5_0 q4_1 q4_0 iq4_nl".split())
params = st.fixed_dictionaries({"n_ctx": size}, optional={
    **dict.fromkeys(["n_batch", "n_ubatch"], size),
    **dict.fromkeys(["n_seq_max", "n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq", "yarn_orig_ctx"], small),
    "ctx_type": st.sampled_from(llama_cy.ContextType),
    "rope_scaling_type": st.sampled_from(llama_cy.RopeScalingType),
    "pooling_type": st.sampled_from(llama_cy.PoolingType),
    "attention_type": st.sampled_from(llama_cy.AttentionType),
    "flash_attn_type": st.sampled_from(llama_cy.FlashAttnType),
    **dict.fromkeys(["rope_freq_base", "rope_freq_scale"], real),
    **dict.fromkeys(["yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"],
                    st.one_of(real, real.map(lambda value: -value))),
    **dict.fromkeys(["type_k", "type_v"], cache),
    **dict.fromkeys(["embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified"], st.booleans()),
})

@given(params=params, tokens=st.lists(token, min_size=1, max_size=20))
def test(params, tokens):
    with open(sys.argv[2], "w") as file:
        json.dump([params, tokens], file)
    context = attempt(lambda: model.context(n_threads=1, **params))
    if context is None:
        return
    with context:
        assert context.n_ctx >= params["n_ctx"] and context.n_ctx_seq >= 1
        attempt(lambda: context.encode(tokens))
        read(context)
        attempt(lambda: context.decode(tokens))
        read(context)
        attempt(lambda: context.decode(tokens[:1]))
        read(context)

# A memory limit, so that a size which slips through is an exception and not the end of the machine.
import os, resource
limit = 6 * 2**30
if os.path.exists("/proc/self/statm"):
    # The driver of a GPU has reserved addresses, more than there is memory.
    with open("/proc/self/statm") as file:
        limit += int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
test()
print("lived")
"""


@pytest.fixture(scope="module", params=WRITERS)
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return WRITERS[request.param](tmp_path_factory.mktemp("model") / f"{request.param}.gguf")


@pytest.mark.parametrize("source", [OPERATIONS, PARAMETERS], ids=["operations", "parameters"])
def test_child_lives(path: Path, tmp_path: Path, source: str) -> None:
    example = tmp_path / "example.json"
    try:
        assert check_output(SETUP + source, path, example) == "lived\n"
    except BaseException:
        # Only the last example is of interest, and it is gone with the child otherwise.
        print(example.read_text() if example.exists() else "no example was begun")
        raise
