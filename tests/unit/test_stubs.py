"""The stubs say what the compiled modules do: proven by stubtest, by mypy on user code, and by running that code."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import typing
from collections.abc import Callable
from pathlib import Path
from types import NoneType

import numpy as np
import numpy.typing as npt
import pytest
import typing_extensions
from typeguard import CollectionCheckStrategy, ForwardRefPolicy, check_type

import llama_cy
from llama_cy import activations, context_params, gguf_header, loading

PACKAGE = Path(llama_cy.__file__).parent
STUBS = {path.stem: ast.parse(path.read_text()) for path in sorted(PACKAGE.glob("*.pyi"))}
CLASSES = {
    node.name: {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
    for tree in STUBS.values()
    for node in tree.body
    if isinstance(node, ast.ClassDef)
}

# Regular expressions of what stubtest is to pass over.
ALLOWLIST = r"""
llama_cy\.\w+\.(\w+\.)?__(test|pyx_capi|reduce_cython|setstate_cython)__  # Cython adds them to modules and classes
llama_cy\.\w+\.[A-Z][A-Z0-9_]+  # constants, imported ones too: the package exports none
llama_cy\.cli\.__main__  # an import of it is a run
llama_cy\.cli\.options\..*  # aliases of Annotated, which stubtest takes for their first argument
(llama_cy\.\w+\._?(Array|Column))?  # aliases of NDArray, which is one itself from NumPy 2.5 on
(llama_cy\.error)?  # bound by `except … as` and unbound behind it; may be absent
(llama_cy\.snapshot\.Snapshot\.__buffer__)?  # what has a buffer shows no method before Python 3.12
"""

OPTIONAL_PACKAGES = "[mypy]\n[mypy-tqdm.*]\nignore_missing_imports = True\n"

# Checked by mypy and then run with `assert_type` looking at the values: both must agree with the stubs.
USER_CODE = """
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import numpy.typing as npt
from typing_extensions import assert_type

import llama_cy
from llama_cy import Batch, Context, Model, Sampler, SamplerChain

FinishReason = Literal["stop", "length", "eog", "cancelled"]


def load(path: Path) -> Model:
    shares: list[float] = []
    Model(os.fsencode(path), vocab_only=True).close()
    Model(str(path), vocab_only=True).close()
    with Model(path, n_gpu_layers="auto", progress=shares.append, load_mode="mmap", vocab_only=False) as model:
        assert_type(model, Model)
    return Model(
        path, n_gpu_layers=0, progress=None, split_mode=llama_cy.SplitMode.NONE, main_gpu=0, tensor_split=[1.0],
        load_mode=llama_cy.LoadMode.AUTO, lazy_mode="auto", kv_overrides={"a": 1, "b": "x", "c": True, "d": 0.5},
        check_tensors=True, use_extra_bufts=True, no_host=False, load_mtp=False,
    )


def use_model(model: Model, folder: Path) -> None:
    assert_type(model.chat_template(), str | None)
    assert_type(model.chat_template("tool_use"), str | None)
    assert_type(model.metadata, dict[str, str])
    model.save(folder / "copy.gguf")


def use_vocab(vocab: llama_cy.Vocab) -> list[int]:
    tokens = vocab.tokenize("Once upon a time", add_special=True, parse_special=False)
    assert_type(tokens, list[int])
    assert_type(vocab.tokenize(b"bytes"), list[int])
    assert_type(vocab.token_to_piece(tokens[0], lstrip=1, special=True), bytes)
    assert_type(vocab.token_to_piece(np.int32(tokens[0])), bytes)
    assert_type(vocab.detokenize(np.array(tokens, dtype=np.int32), remove_special=True), str)
    assert_type(vocab.detokenize_bytes(tuple(tokens), unparse_special=True), bytes)
    assert_type(vocab.get_text(0), str)
    assert_type(vocab.get_score(0), float)
    assert_type(vocab.get_attr(0), llama_cy.TokenAttr)
    assert_type(vocab.is_eog(0), bool)
    assert_type(vocab.is_control(0), bool)
    assert_type(len(vocab), int)
    return tokens


def use_batch(tokens: list[int]) -> Batch:
    batch = Batch(64, n_seq_max=2)
    for pos, token in enumerate(tokens):
        assert_type(batch.add(token, pos, seq_ids=(0, 1), logits=pos + 1 == len(tokens)), int)
    assert_type(batch.token, npt.NDArray[np.int32])
    assert_type(batch.logits, npt.NDArray[np.bool_])
    assert_type(Batch.from_arrays(tokens, range(len(tokens)), [0] * len(tokens), False), Batch)
    assert_type(len(batch), int)
    return batch


def use_context(context: Context, tokens: list[int]) -> None:
    pool = llama_cy.Threadpool(1, poll=0)
    context.attach(pool, pool)
    batch = use_batch(tokens)
    context.decode(batch)
    batch.clear()
    batch.close()
    context.memory.clear()
    context.decode(np.array(tokens, dtype=np.int32))
    context.synchronize()
    assert_type(context.logits(), npt.NDArray[np.float32])
    assert_type(context.logits(i=-1), npt.NDArray[np.float32])
    assert_type(context.logits_view(-1), npt.NDArray[np.float32])
    memory = context.memory
    assert_type(memory.seq_pos_min(0), int)
    assert_type(memory.seq_pos_max(), int)
    assert_type(memory.seq_rm(0, p0=1, p1=-1), bool)
    memory.seq_cp(0, 1, p0=-1, p1=-1)
    memory.seq_keep(0)
    memory.seq_add(0, 0, -1, 2)
    memory.seq_div(0, 0, -1, 2)
    context.decode([1])
    state = context.state
    blob = state.get()
    assert_type(blob, bytes)
    state.set(bytearray(blob))
    context.cancel()


def use_embeddings(model: Model, tokens: list[int]) -> None:
    with model.context(n_ctx=64, embeddings=True, pooling_type="mean", attention_type="causal") as context:
        context.decode(tokens)
        assert_type(context.embeddings_seq(0), npt.NDArray[np.float32])
    with model.context(n_ctx=64, embeddings=True, pooling_type=llama_cy.PoolingType.NONE) as context:
        context.decode(tokens)
        assert_type(context.embeddings(-1), npt.NDArray[np.float32])


def use_samplers(context: Context, tokens: list[int]) -> None:
    chain = SamplerChain(Sampler.top_k(40), Sampler.top_p(0.9, min_keep=2), Sampler.min_p(0.05), Sampler.temp(0.8))
    chain.add(Sampler.penalties(64, repeat=1.1, freq=0.1, present=0)).add(Sampler.logit_bias({0: -math.inf}))
    chain.add(Sampler.dist(seed=1))
    assert_type(chain.clone(), SamplerChain)
    assert_type(Sampler.greedy().clone(), Sampler)
    assert_type(len(chain), int)
    context.memory.clear()
    context.decode(tokens)
    token = chain.sample(context, idx=-1)
    assert_type(token, int)
    chain.accept(token)
    chain.reset()
    with llama_cy.sampling(temperature=0, logit_bias={1: 0.5}, seed=1) as greedy:
        assert_type(greedy, SamplerChain)


def generate(context: Context) -> None:
    chain = llama_cy.sampling(seed=1)
    ids: Iterator[int] = context.generate("Once", chain, max_tokens=4, stop_tokens=[0], ignore_eog=True)
    for token in ids:
        assert_type(token, int)
    with context.stream("Once", max_tokens=4, stop=["\\n\\n"], stop_tokens=(), ignore_eog=True) as stream:
        text: Iterator[str] = stream
        for piece in text:
            assert_type(piece, str)
        assert_type(stream.finish_reason, FinishReason | None)
    done = context.complete([1, 2], max_tokens=4, stop="the", ignore_eog=True)
    assert_type(done, llama_cy.Completion)
    assert_type(done.text, str)
    assert_type(done.tokens, list[int])
    assert_type(done.timings.tokens_per_second, float)
    assert_type(context.complete(None, max_tokens=1).timings.tokens, int)


def use_package() -> None:
    assert_type(llama_cy.devices(), list[llama_cy.Device])
    assert_type(llama_cy.devices()[0].type, llama_cy.DeviceType)
    assert_type(llama_cy.version(), llama_cy.Version)
    assert_type(llama_cy.get_include(), str)
    assert_type(llama_cy.demo_model_path(draft=True), Path)
    assert_type(llama_cy.live_objects(), dict[str, int])


def main(path: Path, folder: Path) -> None:
    with load(path) as model:
        use_model(model, folder)
        tokens = use_vocab(model.vocab)
        use_embeddings(model, tokens)
        with model.context(
            n_ctx=128, n_batch=64, n_ubatch=32, n_seq_max=2, n_threads=1, n_threads_batch=1, poll=0, type_k="f16",
            type_v=llama_cy.GGMLType.F16, flash_attn_type="auto", rope_freq_base=0, yarn_beta_fast=32.0,
            kv_unified=True,
        ) as context:
            assert_type(context, Context)
            use_context(context, tokens)
            use_samplers(context, tokens)
            generate(context)
    use_package()
"""

# One mistake on each line, with the code of mypy's error for it.
MISTAKES = """
import llama_cy
from llama_cy import Batch, Context, Model, Sampler

def wrong(model: Model, context: Context, batch: Batch) -> None:
    Model("a.gguf", n_gpu_layers="all")  # arg-type
    Model("a.gguf", -1)  # call-arg
    Model("a.gguf", n_gpu_layer=1)  # call-arg
    Model("a.gguf", progress=lambda: None)  # arg-type
    Model("a.gguf", kv_overrides={"key": None})  # dict-item
    model.n_embd = 1  # misc
    model.context(pooling_type=1.5)  # arg-type
    model.context(n_context=1)  # call-arg
    Context("a.gguf")  # arg-type
    llama_cy.Vocab()  # call-arg
    Sampler()  # call-arg
    Sampler.temp("hot")  # arg-type
    Sampler.logit_bias({"word": 1.0})  # dict-item
    llama_cy.SamplerChain(40)  # arg-type
    llama_cy.sampling(0.8)  # call-arg
    batch.add("word", 0)  # arg-type
    batch.add(1, 0, (0,), True)  # call-arg
    context.decode("text")  # arg-type
    context.generate([1], stop="x")  # call-arg
    context.complete("text", greedy=True)  # call-arg
    context.logits(0.5)  # arg-type
    context.state.set("text")  # arg-type
    model.save(1)  # arg-type
    class Mine(Batch): ...  # misc
"""


def run_mypy(module: str, code: str, folder: Path) -> list[str]:
    """Check `code` strictly, as a user's file beside an installed package, and return mypy's lines."""
    path = folder / f"{module}.py"
    path.write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", f"--cache-dir={folder / 'cache'}", str(path)]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if path.name in line and " error: " in line]


def test_every_compiled_module_has_a_stub() -> None:
    assert set(STUBS) == {path.stem for path in PACKAGE.glob("*.pyx")}
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.slow
def test_stubtest(tmp_path: Path) -> None:
    (tmp_path / "allowlist").write_text(ALLOWLIST)
    (tmp_path / "mypy.ini").write_text(OPTIONAL_PACKAGES)
    command = [sys.executable, "-m", "mypy.stubtest", "llama_cy", "--concise"]
    command += ["--allowlist", str(tmp_path / "allowlist"), "--mypy-config-file", str(tmp_path / "mypy.ini")]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stdout


@pytest.mark.slow
def test_user_code_passes_strict_mypy(tmp_path: Path) -> None:
    assert run_mypy("user_code", USER_CODE, tmp_path) == []


@pytest.mark.slow
def test_each_mistake_is_found(tmp_path: Path) -> None:
    found = run_mypy("mistakes", MISTAKES, tmp_path)
    wanted = {
        number: code for number, line in enumerate(MISTAKES.splitlines(), 1) if (code := line.partition("  # ")[2])
    }
    got = {int(re.findall(r":(\d+): error", line)[0]): re.findall(r"\[([\w-]+)\]$", line)[0] for line in found}
    assert got == wanted


def agree(value: object, annotation: object) -> object:
    """Check that a value is what its annotation says."""
    check_type(
        value,
        annotation,
        forward_ref_policy=ForwardRefPolicy.IGNORE,
        collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS,
    )
    if isinstance(value, np.ndarray):
        assert scalar_of(annotation) is value.dtype.type
    return value


def scalar_of(annotation: object) -> object:
    """Return T of NDArray[T], which may be optional."""
    options = typing.get_args(annotation)
    last = typing.get_args(options[0] if NoneType in options else annotation)[-1]
    # NDArray keeps T itself from NumPy 2.5 on; before, it is an ndarray of a shape and a dtype[T].
    return (typing.get_args(last) or (last,))[0]


def test_user_code_gets_what_the_stubs_promise(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(typing_extensions, "assert_type", agree)
    namespace: dict[str, Callable[[Path, Path], None]] = {}
    exec(compile(USER_CODE, "user_code.py", "exec", dont_inherit=True), namespace)
    namespace["main"](tiny_path, tmp_path)


def is_property(member: ast.FunctionDef) -> bool:
    return any(isinstance(decorator, ast.Name) and decorator.id == "property" for decorator in member.decorator_list)


def test_properties_have_the_types_of_the_stubs(tiny_path: Path, tmp_path: Path) -> None:
    names = {**vars(typing), **vars(gguf_header), **vars(llama_cy), "np": np, "npt": npt}
    chain = llama_cy.sampling(seed=1)
    with llama_cy.Model(tiny_path) as model, model.context(n_ctx=64) as context:
        stream = context.stream("Once", chain, max_tokens=2)
        stream.complete()
        members = [model, context, model.vocab, context.memory, context.state, llama_cy.Sampler.greedy(), chain]
        members += [llama_cy.Batch(4), llama_cy.BatchExt(context), llama_cy.Threadpool(1), stream, stream.loop]
        llama_cy.write_lora(
            tmp_path / "lora.gguf", model, {"output.weight": (np.ones((1, 64)), np.ones((context.n_vocab, 1)))}
        )
        members.append(model.load_adapter(tmp_path / "lora.gguf"))
        members.append(activations.Activations())
        plan = llama_cy.plan_memory(tiny_path)
        members += [plan, *plan.devices]
        members.append(context.snapshot(0))
        members.append(trained(tiny_path))
        with tiny_path.open("rb") as file:
            header = gguf_header.read_header(file, 0, "model", "tiny.gguf")
        members += [header, header.tensors["output.weight"], header.values["tokenizer.ggml.tokens"]]
        objects = {base.__name__: member for member in members for base in type(member).__mro__}
        checked = []
        for class_name, methods in CLASSES.items():
            for name, method in methods.items():
                if is_property(method):
                    assert method.returns is not None
                    agree(getattr(objects[class_name], name), eval(ast.unparse(method.returns), names))
                    checked.append(name)
    assert len(checked) > 60


def trained(path: Path) -> llama_cy.Trainer:
    """Return a trainer that was made, whose context is closed."""
    with (
        llama_cy.Model(path, load_mode="none") as model,
        model.context(n_ctx=256, n_batch=256, n_ubatch=256) as context,
    ):
        return llama_cy.Trainer(context)


def keywords(class_name: str, method: str) -> set[str]:
    return {argument.arg for argument in CLASSES[class_name][method].args.kwonlyargs}


def accepted(params: Callable[[], object]) -> set[str]:
    """Ask for the names behind ``**params``: the error for an unknown one lists them."""
    with pytest.raises(TypeError, match="it takes ") as caught:
        params()
    return set(str(caught.value).partition("it takes ")[2].split(", "))


def test_params_are_spelled_out() -> None:
    context = accepted(lambda: context_params.ContextParams({"?": 0}))
    assert keywords("Context", "__new__") == keywords("Model", "context") == context
    model = accepted(lambda: loading.LoadParams("auto", {"?": 0}))
    assert keywords("Model", "__new__") == model | {"n_gpu_layers", "progress", "trusted"}
    loop = keywords("TokenLoop", "__new__")
    assert keywords("Context", "generate") == loop
    stream = keywords("TextStream", "__new__")
    assert keywords("Context", "stream") == keywords("Context", "complete") == stream == loop | {"stop"}
