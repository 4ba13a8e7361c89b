"""Texts that end the recursion of a regular expression only when the stack is full, on stacks of any size."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.child import check_output, outcomes
from support.vocab_files import vocab_files

LONG = 60_000
# One letter, blanks, digits, marks, letters of several bytes, and what alternates within one match.
RUNS = (
    "a",
    "A",
    "Aa",
    " ",
    " \t",
    "\n",
    " \n",
    "1",
    ".",
    "./",
    ".\n",
    "a1",
    "a'",
    "日",
    "かカ",
    "🙂",
    "e\u0301",
    "กำ",
    "Éé",
)
TOKENIZE = """
import sys, threading
import llama_cy

model = llama_cy.Model(sys.argv[1], vocab_only=True)
vocab = model.vocab
for run in sys.argv[2:]:
    text = (run * {length})[:{length}]
    found = []
    threading.stack_size({stack})
    thread = threading.Thread(target=lambda: found.append(vocab.tokenize(text, add_special=False)))
    thread.start()
    thread.join()
    tokens = found[0]
    if vocab.type.name == "BPE":
        assert vocab.detokenize(tokens) == text, run
    # The words of a text end where blanks do.
    assert tokens and tokens == vocab.tokenize(text.encode(), add_special=False), run
"""
EXPRESSIONS = [file for file in vocab_files() if file.name in ("deepseek-coder", "deepseek-llm", "falcon", "gpt-2")]


@pytest.mark.parametrize("file", EXPRESSIONS, ids=lambda file: file.name)
def test_text_without_a_break(file: object) -> None:
    check_output(TOKENIZE.format(length=LONG, stack=0), file.path, *RUNS)  # type: ignore[attr-defined]


@pytest.mark.parametrize("file", EXPRESSIONS[:1], ids=lambda file: file.name)
@pytest.mark.parametrize("length", [10, 1_000, 20_000])
def test_threads_with_small_stacks(file: object, length: int) -> None:
    check_output(TOKENIZE.format(length=length, stack=32_768), file.path, "a", "a b. ")  # type: ignore[attr-defined]


SMALL = """
import sys, threading
import llama_cy

model = llama_cy.Model(sys.argv[1], n_gpu_layers=0)
context = model.context(n_ctx=64, n_threads=1)
context.decode([1])
stream = context.stream([1, 2], ignore_eog=True)
next(stream)
uses = {
    "decode": lambda: context.decode([1]),
    "stream": lambda: next(stream),
    "context": lambda: model.context(n_ctx=64, n_threads=1),
    "embed": lambda: model.embed(["a"]),
    "plan": lambda: llama_cy.plan_memory(sys.argv[1]),
    "facts": lambda: (model.desc, context.memory.seq_pos_max, model.vocab.tokenize("a b")),
}
refused = []

def work(name):
    try:
        uses[name]()
    except llama_cy.ContextError as error:
        assert "threading.stack_size()" in str(error), error
        refused.append(name)

for stack in (32_768, 65_536):
    threading.stack_size(stack)
    for name in uses:
        thread = threading.Thread(target=work, args=(name,))
        thread.start()
        thread.join()
assert refused == ["decode", "stream", "context", "embed", "plan"] * 2, refused
threading.stack_size(262_144)
works = lambda: (context.decode([1]), model.context(n_ctx=64, n_threads=1).close(), refused.clear())
other = threading.Thread(target=works)
other.start()
other.join()
assert not refused
threading.stack_size(32_768)
closing = threading.Thread(target=context.close)
closing.start()
closing.join()
print(context.closed)
"""


def test_contexts_say_what_stack_they_need(tiny_path: Path) -> None:
    assert check_output(SMALL, tiny_path) == "True\n"


LAZY = """
import sys, threading
import llama_cy

model = llama_cy.Model(sys.argv[3], vocab_only=True)
vocab = model.vocab
# The longest piece, as the search takes its time at each.
bar = max(range(len(vocab)), key=lambda token: len(vocab.token_to_piece(token)))
(start,) = vocab.tokenize("x", add_special=False)
(wrong,) = vocab.tokenize("5", add_special=False)

def lazy(pattern=r"^[\\s\\S]*?(x)", **more):
    return llama_cy.Sampler.grammar_lazy(vocab, 'root ::= "x" [a-z]*', trigger_patterns=[pattern], **more)

def waited(sampler, n=500):
    for _ in range(n):
        sampler.accept(bar)
    return sampler

def triggers(sampler):
    sampler.accept(start)
    sampler.accept(wrong)

def in_thread(work, stack):
    threading.stack_size(stack)
    raised = []
    def run():
        try:
            work()
        except Exception as error:
            raised.append(error)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise raised[0]
"""
REFUSED = {
    "after a long wait": "triggers(waited(lazy()))",
    "its clone": "triggers(waited(lazy(), 90).clone())",
    "what it was copied to": "other = lazy(); other.copy(waited(lazy(), 100)); triggers(other)",
    "after a reset": "other = waited(lazy(), 100); other.reset(); triggers(other)",
    "in a chain": "triggers(llama_cy.SamplerChain(waited(lazy(), 100), llama_cy.Sampler.greedy()))",
    "groups within groups": "triggers(waited(lazy(r'[\\s\\S]*(?:y|(?:a)|(?:(b)))*?(x)'), 3))",
    "on a small stack": "in_thread(lambda: triggers(waited(lazy(), 20)), 32768)",
    "by a token": "other = waited(lazy(trigger_tokens=[start]), 20); other.accept(start); waited(other, 1)",
    "too deep": "lazy('(' * 40_000 + ')' * 40_000)",
    "too long": "lazy('a' * 60_000)",
    "too often": "lazy('(a{300}){300}')",
    "not closed": "lazy('(' * 40_000)",
}


def test_lazy_grammar() -> None:
    (gpt2,) = [file.path for file in vocab_files() if file.name == "gpt-2"]
    found = outcomes(LAZY, REFUSED, gpt2)
    assert {name: outcome.raised[:1] for name, outcome in found.items()} == dict.fromkeys(REFUSED, ("GrammarError",))


NESTED = """
chain = llama_cy.SamplerChain(llama_cy.Sampler.greedy())
for _ in range(100_000):
    chain = llama_cy.SamplerChain(chain)
"""


def test_chains_in_one_another() -> None:
    found = outcomes("import llama_cy", {"nested": NESTED})
    assert found["nested"].raised[0] == "ValueError", found
    assert "64 chains" in found["nested"].text


def test_vocabulary_alone(tiny_path: Path) -> None:
    setup = "import sys\nimport llama_cy\nmodel = llama_cy.Model(sys.argv[3], vocab_only=True)"
    reads = (
        "n_params", "size", "desc", "n_ctx_train", "n_embd", "n_embd_inp", "n_embd_out", "n_layer", "n_head",
        "n_head_kv", "n_swa", "rope_type", "rope_freq_scale_train", "cls_labels", "has_encoder", "has_decoder",
        "is_recurrent", "is_hybrid", "is_diffusion", "decoder_start_token", "metadata", "ftype", "n_layer_nextn",
        "chat_template()",
    )  # fmt: skip
    needs = {
        "context": "model.context()",
        "embed": "model.embed('a')",
        "rerank": "model.rerank('a', ['b'])",
        "save": "model.save('/nowhere/m.gguf')",
        "adapter": "model.load_adapter('/nowhere/lora.gguf')",
    }
    found = outcomes(setup, {name: f"model.{name}" for name in reads} | needs, tiny_path)
    for name in reads:
        assert found[name].raised == (), (name, found[name])
    for name in ("n_embd", "n_layer", "n_head", "n_head_kv"):
        assert found[name].text == "0"
    for name in needs:
        assert {"ValueError", "ContextError", "AdapterError"} & set(found[name].raised), (name, found[name])
        assert "vocab" in found[name].text or "weights" in found[name].text, (name, found[name])
