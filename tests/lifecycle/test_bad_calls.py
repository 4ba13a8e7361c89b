"""Calls that llama.cpp would answer with an abort: a clear exception each, in a child that lives."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.child import Outcome, outcomes
from support.encoder_models import write_bert, write_t5
from support.llama_models import write_llama
from support.recurrent_models import write_lfm2, write_mamba
from support.vocabulary import no_vocab

import llama_cy

SETUP = """
import sys
from math import inf, nan
import numpy as np
import llama_cy
from llama_cy import Batch, Sampler, SamplerChain, Threadpool

folder = sys.argv[3] + "/"
model = llama_cy.Model(folder + "tiny.gguf", n_gpu_layers=0)
n_vocab = model.vocab.n_tokens

def load(name, **params):
    return llama_cy.Model(f"{folder}{name}.gguf", n_gpu_layers=0, **params)

def fresh(model=model, **params):
    return model.context(**{"n_ctx": 64, "n_threads": 1} | params)

def decoded(tokens=(1, 2, 3), **params):
    context = fresh(**params)
    context.decode(list(tokens))
    return context

def batch(*entries, **params):
    made = Batch(max(1, len(entries)), **params)
    for token, pos, seq_ids, logits in entries:
        made.add(token, pos, seq_ids, logits=logits)
    return made

class Treacherous:
    # Acts when it is asked for its value.
    def __init__(self, act, value=0):
        self.act, self.value = act, value
    def __index__(self):
        self.act()
        return self.value
"""

VALUE, TYPE = "ValueError", "TypeError"
# Name of the case to source, exception and patterns of the message.
CASES: dict[str, tuple[str, str, list[str]]] = {}

# tokens
for token, shown in {
    "-1": "-1",
    "n_vocab": "395",
    "2**31": "2147483648",
    "-2**31": "-2147483648",
    "2**63": "9223372036854775808",
    "10**5000": "16610 bits",
}.items():
    for source in (
        "fresh().decode([1, {}])",
        "next(fresh().generate([1, {}]))",
        "fresh().complete([{}])",
        "fresh().generate([1], stop_tokens=[{}])",
        "model.vocab.token_to_piece({})",
        "model.vocab.detokenize([1, {}])",
        "model.vocab.get_text({})",
        "model.vocab.get_score({})",
        "model.vocab.get_attr({})",
        "model.vocab.is_eog({})",
        "model.vocab.is_control({})",
    ):
        CASES[source.format(token)] = (source.format(token), VALUE, [shown, r"out of range \[0, 395\)"])
for kind, shown in {"int32": "-1", "int64": "-1"}.items():
    source = f"fresh().decode(np.array([3, -1], dtype=np.{kind}))"
    CASES[source] = (source, VALUE, [shown, "out of range"])
for value, shown in {"'hello'": "str", "b'hello'": "bytes", "None": "NoneType", "5": "int", "1.5": "float"}.items():
    CASES[f"decode({value})"] = (f"fresh().decode({value})", TYPE, [shown])
    CASES[f"detokenize({value})"] = (f"model.vocab.detokenize({value})", TYPE, [shown])
for value, shown in {"[1.5]": "float", "['a']": "str", "[None]": "NoneType", "np.array([1.5])": "float"}.items():
    CASES[f"decode({value})"] = (f"fresh().decode({value})", TYPE, [shown])

CASES |= {
    # text
    "lone surrogate": ("model.vocab.tokenize('a\\ud800')", "UnicodeEncodeError", ["surrogates"]),
    "lone surrogate as prompt": ("fresh().complete('a\\ud800')", "UnicodeEncodeError", ["surrogates"]),
    "lone surrogate as stop": ("fresh().stream('a', stop='\\ud800')", "UnicodeEncodeError", ["surrogates"]),
    "text that is none": ("model.vocab.tokenize(5)", TYPE, ["str or bytes", "int"]),
    "no text": ("model.vocab.tokenize(None)", TYPE, ["str or bytes", "NoneType"]),
    "prompt that is none": ("fresh().complete(5)", TYPE, ["int"]),
    "stop that is none": ("fresh().stream([1], stop=5)", TYPE, ["int"]),
    "stop of bytes": ("fresh().stream([1], stop=b'a')", TYPE, ["str"]),
    "stop of numbers": ("fresh().stream([1], stop=[5])", TYPE, ["str", "int"]),
    "empty stop": ("fresh().stream([1], stop='')", VALUE, ["empty"]),
    "empty stop among others": ("fresh().stream([1], stop=['a', ''])", VALUE, ["empty"]),
    "lstrip of -1": ("model.vocab.token_to_piece(1, lstrip=-1)", VALUE, ["lstrip", "-1", "range"]),
    "lstrip of 2**31": ("model.vocab.token_to_piece(1, lstrip=2**31)", VALUE, ["lstrip", "2147483648", "range"]),
    # prompts and loops
    "empty prompt": ("fresh().complete([])", VALUE, ["empty"]),
    "empty text as prompt, without BOS": ("fresh(load('no-bos')).complete('')", VALUE, ["empty"]),
    "empty decode": ("fresh().decode([])", "InvalidBatchError", ["no token"]),
    "empty batch": ("fresh().decode(Batch(4))", "InvalidBatchError", ["no token"]),
    "prompt longer than the context": (
        "next(fresh().generate([1] * 257))",
        "KVCacheFullError",
        ["257 tokens", "256"],
    ),
    "tokens beyond the context": ("decoded([1] * 250).decode([1] * 7)", "KVCacheFullError", ["7 tokens", "256", "250"]),
    "no prompt and nothing decoded": ("next(fresh().generate(None))", VALUE, ["no logits"]),
    "max_tokens of -1": ("fresh().generate([1], max_tokens=-1)", VALUE, ["max_tokens", "-1", "range"]),
    "max_tokens of 2**63": ("fresh().generate([1], max_tokens=2**63)", VALUE, ["max_tokens", "range"]),
    "max_tokens of '5'": ("fresh().generate([1], max_tokens='5')", TYPE, ["max_tokens", "str"]),
    "sampler that is none": ("fresh().generate([1], 5)", TYPE, ["Sampler|sampler", "int"]),
    "unknown option": ("fresh().generate([1], maximum=5)", TYPE, ["maximum"]),
    "generator that uses the context": (
        "c = fresh(); c.decode(c.memory.seq_pos_max(0) + 5 for _ in range(3))",
        "ContextBusyError",
        ["in use"],
    ),
    # contexts
    "n_ctx 0": ("model.context(n_ctx=0)", VALUE, ["n_ctx", "0", "range"]),
    "n_ctx -1": ("model.context(n_ctx=-1)", VALUE, ["n_ctx", "-1", "range"]),
    "n_ctx 2**31": ("model.context(n_ctx=2**31)", VALUE, ["n_ctx", "2147483648", "range"]),
    "n_ctx 2**31 - 1": ("model.context(n_ctx=2**31 - 1)", "ContextError", ["n_ctx", "2147483647", "GiB"]),
    "n_ctx 2**31 - 1, recurrent": ("load('mamba').context(n_ctx=2**31 - 1)", "ContextError", ["n_ctx", "limit"]),
    "n_ctx 2**31 - 1, hybrid": ("load('lfm2').context(n_ctx=2**31 - 1)", "ContextError", ["n_ctx"]),
    "n_batch 0": ("model.context(n_batch=0)", VALUE, ["n_batch", "0", "range"]),
    "more sequences than tokens": ("model.context(n_ctx=2, n_seq_max=64)", "ContextError", ["n_seq_max", "64"]),
    "more sequences than a batch": ("model.context(n_batch=1, n_seq_max=2)", VALUE, ["n_seq_max", "2", "n_batch"]),
    "more sequences than outputs": (
        "model.context(n_outputs_max=1, n_seq_max=2)",
        "ContextError",
        ["n_seq_max", "2", "n_outputs_max"],
    ),
    "cache type of no kernel": ("model.context(type_k='q2_k')", VALUE, ["type_k", "q2_k", "q8_0"]),
    "cache type too wide for a head": ("model.context(type_k='q8_0')", "ContextError", ["type_k", "32", "16"]),
    "quantized values without flash attention": (
        "load('wide').context(type_v='q8_0', flash_attn_type='disabled')",
        "ContextError",
        ["[Ff]lash|flash_attn"],
    ),
    "encoder-decoder with several sequences": ("load('t5').context(n_seq_max=2)", "ContextError", ["kv_unified"]),
    "rollback beyond a micro-batch": (
        "load('lfm2').context(n_ctx=64, n_ubatch=8, n_rs_seq=8)",
        VALUE,
        ["n_rs_seq", "8", "range"],
    ),
    "rollback of all but one token of a micro-batch": (
        "load('lfm2').context(n_ctx=64, n_batch=8, n_ubatch=64, n_rs_seq=7)",
        VALUE,
        ["n_rs_seq", "7", "range"],
    ),
    "rollback beyond a micro-batch that sequences made smaller": (
        "load('lfm2').context(n_ctx=64, n_batch=5, n_seq_max=4, n_rs_seq=3, embeddings=True)",
        "ContextError",
        ["n_rs_seq 3", "n_ubatch", "4"],
    ),
    "pooling over more tokens than outputs": (
        "load('bert').context(n_ctx=32, n_ubatch=8, n_outputs_max=4, embeddings=True, pooling_type='mean')",
        "ContextError",
        ["n_ubatch 8", "n_outputs_max 4"],
    ),
    "pooling over more tokens than outputs, causal": (
        "fresh(n_ubatch=8, n_outputs_max=4, embeddings=True, pooling_type='mean')",
        "ContextError",
        ["n_ubatch 8", "n_outputs_max 4"],
    ),
    "vocabulary only": ("load('tiny', vocab_only=True).context()", "ContextError", ["vocab_only"]),
    "save of a vocabulary only": ("load('tiny', vocab_only=True).save(folder + 'x')", VALUE, ["vocab_only"]),
    "context of no model": ("llama_cy.Context(5)", TYPE, ["int", "Model"]),
    "context of None": ("llama_cy.Context(None)", TYPE, ["None", "model|Model"]),
    # batches
    "more tokens than n_batch": (
        "fresh(n_batch=4).decode(batch(*((1, i, (0,), False) for i in range(5))))",
        "InvalidBatchError",
        ["5 tokens", "n_batch", "4"],
    ),
    "more tokens than room": ("b = Batch(1); b.add(1, 0); b.add(1, 1)", VALUE, ["full", "1"]),
    "token of -1": ("Batch(1).add(-1, 0)", VALUE, ["token", "-1", "range"]),
    "token of n_vocab": ("fresh().decode(batch((395, 0, (0,), True)))", "InvalidBatchError", ["395", "range"]),
    "token of 2**31": ("Batch(1).add(2**31, 0)", VALUE, ["token", "2147483648", "range"]),
    "pos of -1": ("Batch(1).add(1, -1)", VALUE, ["pos", "-1", "range"]),
    "pos of 2**31": ("Batch(1).add(1, 2**31)", VALUE, ["pos", "2147483648", "range"]),
    "pos that is text": ("Batch(1).add(1, '0')", TYPE, ["pos", "str"]),
    "seq_ids that is a number": ("Batch(1).add(1, 0, 5)", TYPE, ["seq_ids", "int"]),
    "no sequence": ("Batch(1).add(1, 0, ())", VALUE, ["seq_ids", "0 sequences", "range"]),
    "too many sequences": ("Batch(1).add(1, 0, (0, 1))", VALUE, ["seq_ids", "2 sequences", "range"]),
    "a sequence twice": ("Batch(1, n_seq_max=2).add(1, 0, (0, 0))", VALUE, ["twice"]),
    "a sequence twice, spelled differently": ("Batch(1, n_seq_max=2).add(1, 0, (1, True))", VALUE, ["twice"]),
    "sequence of -1": ("Batch(1).add(1, 0, (-1,))", VALUE, ["seq_id", "-1", "range"]),
    "sequence of 256": ("Batch(1).add(1, 0, (256,))", VALUE, ["seq_id", "256", "range"]),
    "sequence beyond the context's": ("fresh().decode(batch((1, 0, (1,), True)))", "InvalidBatchError", ["batch"]),
    "position with a gap": ("decoded().decode(batch((1, 9, (0,), True)))", "InvalidBatchError", ["batch"]),
    "position again": ("decoded().decode(batch((1, 0, (0,), True)))", "InvalidBatchError", ["batch"]),
    "sequences of one token in separate memories": (
        "fresh(n_seq_max=2).decode(batch((1, 0, (0, 1), True), n_seq_max=2))",
        "InvalidBatchError",
        ["kv_unified"],
    ),
    "a mean over more than a micro-batch": (
        "fresh(n_ubatch=2, embeddings=True, pooling_type='mean').decode([1, 2, 3])",
        "InvalidBatchError",
        ["3 tokens", "n_ubatch", "2"],
    ),
    "means over sequences that separate memories split": (
        "fresh(n_seq_max=2, embeddings=True, pooling_type='mean').decode("
        "batch((1, 0, (0,), True), (1, 0, (1,), True), (2, 1, (1,), True)))",
        "InvalidBatchError",
        ["1 to 2 tokens", "kv_unified"],
    ),
    "more outputs than n_outputs_max": (
        "fresh(n_outputs_max=1).decode(batch(*((1, i, (0,), True) for i in range(3))))",
        "InvalidBatchError",
        ["3 outputs", "n_outputs_max", "1"],
    ),
    "a batch of 2**31 tokens": ("Batch(2**31)", VALUE, ["n_tokens_max", "2147483648", "range"]),
    "a batch of too much memory": ("Batch(2**20, n_seq_max=256)", VALUE, ["268435456", "range"]),
    "a batch closed by its token": ("b = Batch(1); b.add(Treacherous(b.close), 0)", "ClosedError", ["closed"]),
    "a batch closed by its position": ("b = Batch(1); b.add(1, Treacherous(b.close))", "ClosedError", ["closed"]),
    "a batch closed by its sequence": ("b = Batch(1); b.add(1, 0, [Treacherous(b.close)])", "ClosedError", ["closed"]),
    "a batch filled by its sequence": (
        "b = Batch(1); b.add(1, 0, [Treacherous(lambda: b.add(2, 0))])",
        VALUE,
        ["full"],
    ),
    "a context closed by a token": ("c = fresh(); c.decode([Treacherous(c.close)])", "ContextBusyError", ["in use"]),
    "a context closed by the prompt": (
        "c = fresh(); next(c.generate([Treacherous(c.close)]))",
        "ClosedError",
        ["closed"],
    ),
    "a context closed by a row": ("c = decoded(); c.logits(Treacherous(c.close))", "ContextBusyError", ["in use"]),
    "a context closed by a viewed row": (
        "c = decoded(); c.logits_view(Treacherous(c.close))",
        "ClosedError",
        ["closed"],
    ),
    "a context closed by a sequence": ("c = fresh(); c.memory.seq_rm(Treacherous(c.close))", "ClosedError", ["closed"]),
    "a model closed by a parameter": (
        "m = load('tiny'); m.context(n_ctx=Treacherous(m.close, 64))",
        "ClosedError",
        ["closed"],
    ),
    # rows
    "row before any decode": ("fresh().logits(0)", VALUE, ["row 0"]),
    "last row before any decode": ("fresh().logits()", VALUE, ["row -1"]),
    "row not asked for": ("decoded().logits(0)", VALUE, ["row 0"]),
    "row beyond the batch": ("decoded().logits(3)", VALUE, ["row 3"]),
    "row from too far behind": ("decoded().logits(-2)", VALUE, ["row -2"]),
    "row of 2**31 - 1": ("decoded().logits(2**31 - 1)", VALUE, ["row 2147483647"]),
    "row of 2**31": ("decoded().logits(2**31)", VALUE, ["2147483648", "range"]),
    "row of -2**31": ("decoded().logits(-2**31)", VALUE, ["-2147483648", "range"]),
    "row that is text": ("decoded().logits('0')", TYPE, ["str"]),
    "view of a row not asked for": ("decoded().logits_view(0)", VALUE, ["row 0"]),
    "embedding without embeddings": ("decoded().embeddings()", VALUE, ["no embeddings", "embeddings=True"]),
    "embedding of a sequence without pooling": ("decoded().embeddings_seq(0)", VALUE, ["pooling"]),
    # samplers
    "sampling before any decode": ("Sampler.greedy().sample(fresh())", VALUE, ["row -1"]),
    "sampling a row not asked for": ("Sampler.greedy().sample(decoded(), 0)", VALUE, ["row 0"]),
    "sampling row 2**31": ("Sampler.greedy().sample(decoded(), 2**31)", VALUE, ["idx", "2147483648", "range"]),
    "empty chain": ("SamplerChain().sample(decoded())", VALUE, ["greedy", "dist"]),
    "chain with no final sampler": (
        "SamplerChain(Sampler.top_k(3), Sampler.temp(0.5)).sample(decoded())",
        VALUE,
        ["greedy", "dist"],
    ),
    "loop with no final sampler": ("next(fresh().generate([1], Sampler.top_k(1)))", VALUE, ["greedy", "dist"]),
    "completion with an empty chain": ("fresh().complete([1], SamplerChain())", VALUE, ["greedy", "dist"]),
    "sampling from no context": ("Sampler.greedy().sample(None)", TYPE, ["context|Context", "None"]),
    "accepting -1": ("Sampler.dist().accept(-1)", VALUE, ["token", "-1", "range"]),
    "accepting 2**31": ("Sampler.dist().accept(2**31)", VALUE, ["token", "2147483648", "range"]),
    "a chain in itself": ("c = SamplerChain(); c.add(c)", VALUE, ["itself"]),
    "a chain around its own chain": (
        "a, b = SamplerChain(), SamplerChain(); a.add(b); b.add(a)",
        "ClosedError",
        ["moved"],
    ),
    "a sampler in two chains": (
        "s = Sampler.greedy(); SamplerChain(s); SamplerChain(s)",
        "ClosedError",
        ["moved into a chain"],
    ),
    "a sampler in a chain twice": ("s = Sampler.greedy(); SamplerChain(s, s)", "ClosedError", ["moved into a chain"]),
    "a chain of something else": ("SamplerChain(5)", TYPE, ["int"]),
    "a chain of None": ("SamplerChain(None)", TYPE, ["None"]),
    # memory
    "sequence of -2": ("fresh().memory.seq_rm(-2)", VALUE, ["seq_id", "-2", "range"]),
    "sequence of n_seq_max": ("fresh().memory.seq_rm(1)", VALUE, ["seq_id", "1", "range"]),
    "sequence of None": ("fresh().memory.seq_rm(None)", TYPE, ["seq_id", "NoneType"]),
    "all sequences where one is meant": ("fresh().memory.seq_keep(-1)", VALUE, ["seq_id", "-1", "range"]),
    "p0 of -2": ("fresh().memory.seq_rm(0, -2, 1)", VALUE, ["p0", "-2", "range"]),
    "p1 of 2**31": ("fresh().memory.seq_rm(0, 0, 2**31)", VALUE, ["p1", "2147483648", "range"]),
    "a part between separate memories": (
        "decoded(n_seq_max=2).memory.seq_cp(0, 1, 0, 2)",
        VALUE,
        ["kv_unified", r"\[0, 2\)"],
    ),
    "positions beyond 2**31": ("decoded().memory.seq_add(0, 0, -1, 2**31 - 1)", VALUE, ["delta", "2147483647"]),
    "divided by 0": ("decoded().memory.seq_div(0, 0, -1, 0)", VALUE, ["d is 0", "range"]),
    "shift where there is none": (
        "load('bert').context(n_ctx=64).memory.seq_add(0, 0, -1, 1)",
        "ContextError",
        ["memory"],
    ),
    # threads
    "one pool for two contexts": (
        "p = Threadpool(1); a, b = fresh(), fresh(); a.attach(p); b.attach(p)",
        VALUE,
        ["pool", "another context"],
    ),
    "a pool that is none": ("fresh().attach(5)", TYPE, ["int|Threadpool"]),
    "no pool": ("fresh().attach(None)", TYPE, ["None"]),
    "2**31 threads": ("Threadpool(2**31)", VALUE, ["n_threads", "2147483648", "range"]),
    # encoders
    "encode without an encoder": ("fresh().encode([1])", "ContextError", ["no encoder"]),
    "decode before encode": ("load('t5').context(n_ctx=64).decode([1])", "InvalidBatchError", ["encode"]),
    "generate with an encoder": ("load('bert').context(n_ctx=64).complete([1])", "LlamaError", ["encode"]),
    "positions beyond the table": (
        "load('bert').context(n_ctx=1024, n_batch=1024, n_ubatch=1024).encode([1] * 600)",
        "InvalidBatchError",
        ["599", r"range \[0, 128\)"],
    ),
    # a model without a tokenizer
    "tokenize without a tokenizer": ("load('no-vocab').vocab.tokenize('a')", VALUE, ["no tokenizer"]),
    "detokenize without a tokenizer": ("load('no-vocab').vocab.detokenize([1])", VALUE, ["no tokenizer"]),
    "piece without a tokenizer": ("load('no-vocab').vocab.token_to_piece(1)", VALUE, ["no tokenizer"]),
    "text without a tokenizer": ("load('no-vocab').vocab.get_text(1)", VALUE, ["no tokenizer"]),
    "score without a tokenizer": ("load('no-vocab').vocab.get_score(1)", VALUE, ["no tokenizer"]),
    "attributes without a tokenizer": ("load('no-vocab').vocab.get_attr(1)", VALUE, ["no tokenizer"]),
    "control without a tokenizer": ("load('no-vocab').vocab.is_control(1)", VALUE, ["no tokenizer"]),
    "stream without a tokenizer": ("list(fresh(load('no-vocab')).stream([1]))", VALUE, ["no tokenizer"]),
    "chat template that is a number": ("model.chat_template(5)", TYPE, ["int"]),
    # states
    "state that is None": ("fresh().state.set(None)", TYPE, ["NoneType"]),
    "state that is text": ("fresh().state.set('a')", TYPE, ["str"]),
    "empty state": ("fresh().state.set(b'')", "StateError", ["0 bytes"]),
    "state of zeros": ("fresh().state.set(bytes(100))", "StateError", ["not a snapshot"]),
    "state in every second byte": ("fresh().state.set(memoryview(bytes(100))[::2])", TYPE, ["contiguous"]),
    "state of another context": (
        "fresh(n_ctx=512).state.set(decoded().state.get())",
        "StateError",
        ["another model, or a context with other parameters"],
    ),
}


@pytest.fixture(scope="module")
def came_to(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("models")
    write_llama(folder / "tiny.gguf")
    write_llama(folder / "wide.gguf", n_embd=128)
    write_llama(folder / "no-vocab.gguf", vocab=no_vocab(300))
    write_llama(folder / "no-bos.gguf", metadata={"tokenizer.ggml.add_bos_token": False})
    write_bert(folder / "bert.gguf")
    write_t5(folder / "t5.gguf")
    write_mamba(folder / "mamba.gguf")
    write_lfm2(folder / "lfm2.gguf")
    return outcomes(SETUP, {name: source for name, (source, *_) in CASES.items()}, folder)


@pytest.mark.parametrize("case", CASES)
def test_refused(came_to: dict[str, Outcome], case: str) -> None:
    _, error, patterns = CASES[case]
    outcome = came_to[case]
    assert error in outcome.raised, outcome
    if error == VALUE:
        assert outcome.raised[0] in (VALUE, "InvalidBatchError"), outcome
    for pattern in patterns:
        assert re.search(pattern, outcome.text), outcome


def test_cache_type_and_head_size(tmp_path: Path) -> None:
    """A head may be wider than the model's width divided by its heads."""
    path = write_llama(tmp_path / "heads.gguf", head_dim=32)
    params: dict[str, Any] = {"type_k": "q8_0", "type_v": "q8_0"}
    with llama_cy.Model(path, n_gpu_layers=0) as model, model.context(n_ctx=64, n_threads=1, **params) as context:
        context.decode([1, 2])
        assert context.logits().shape == (model.vocab.n_tokens,)
