"""Every parameter of models, contexts and samplers with values of wrong types and out of range, in a child."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.child import Outcome, outcomes

import llama_cy

SETUP = """
import sys
from math import inf, nan
import llama_cy
path = sys.argv[3]
model = llama_cy.Model(path, n_gpu_layers=0)
"""

# By kind: values that are never good, with the exception and what the message says of them.
HUGE = "an integer of 16610 bits"
INTEGER = {
    "'5'": ("TypeError", "str"),
    "1.5": ("TypeError", "float"),
    "nan": ("TypeError", "float"),
    "[]": ("TypeError", "list"),
    "-2": ("ValueError", "-2"),
    "2**32": ("ValueError", "4294967296"),
    "2**63": ("ValueError", "9223372036854775808"),
    "-2**63": ("ValueError", "-9223372036854775808"),
    "10**5000": ("ValueError", HUGE),
}
POSITIVE = INTEGER | {"0": ("ValueError", " 0"), "-1": ("ValueError", "-1")}
REAL = {
    "'1'": ("TypeError", "str"),
    "b'1'": ("TypeError", "bytes"),
    "None": ("TypeError", "NoneType"),
    "[]": ("TypeError", "list"),
    "1j": ("TypeError", "complex"),
    "nan": ("ValueError", "nan"),
    "inf": ("ValueError", "inf"),
    "-inf": ("ValueError", "-inf"),
    "1e39": ("ValueError", "1e+39"),
    "10**400": ("ValueError", "inf"),
}
AT_LEAST_0 = REAL | {"-1e-9": ("ValueError", "-1e-09"), "-1": ("ValueError", "-1")}
SHARE = AT_LEAST_0 | {"1.000001": ("ValueError", "1.000001")}
FLAG = {
    "'no'": ("TypeError", "str"),
    "None": ("TypeError", "NoneType"),
    "1.0": ("TypeError", "float"),
    "[]": ("TypeError", "list"),
    "2": ("ValueError", "2"),
    "-1": ("ValueError", "-1"),
}
CHOICE = {
    "'nonsense'": ("ValueError", "'nonsense'"),
    "''": ("ValueError", "''"),
    "'x' * 5000": ("ValueError", "xxx"),
    "999": ("ValueError", "999"),
    "2**63": ("ValueError", "9223372036854775808"),
    "None": ("TypeError", "None"),
    "1.5": ("TypeError", "1.5"),
    "[]": ("TypeError", "[]"),
}

CONTEXT = {
    **dict.fromkeys(["n_ctx", "n_batch", "n_ubatch", "n_seq_max", "n_threads", "n_threads_batch"], POSITIVE),
    **dict.fromkeys(["n_rs_seq", "n_outputs_max", "n_outputs_max_per_seq", "yarn_orig_ctx", "poll"], INTEGER),
    **dict.fromkeys(
        ["ctx_type", "rope_scaling_type", "pooling_type", "attention_type", "type_k", "type_v"],
        CHOICE,
    ),
    # None is the choice that suits the device.
    "flash_attn_type": {value: bad for value, bad in CHOICE.items() if value != "None"},
    **dict.fromkeys(["rope_freq_base", "rope_freq_scale"], AT_LEAST_0),
    **dict.fromkeys(["yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"], REAL),
    **dict.fromkeys(["embeddings", "offload_kqv", "no_perf", "op_offload", "swa_full", "kv_unified"], FLAG),
    "eval_callback": {"5": ("TypeError", "int"), "'print'": ("TypeError", "str")},
    "eval_filter": {"'l_out-0'": ("ValueError", "nothing to call")},
    "ctx_other": {"5": ("TypeError", "int"), "'model'": ("TypeError", "str")},
}
MODEL = {
    "n_gpu_layers": INTEGER,
    "main_gpu": INTEGER,
    **dict.fromkeys(["split_mode", "load_mode", "lazy_mode"], CHOICE),
    **dict.fromkeys(["vocab_only", "check_tensors", "use_extra_bufts", "no_host", "load_mtp"], FLAG),
    "tensor_buft_overrides": {
        "5": ("TypeError", "int"),
        "{'a': 5}": ("TypeError", "int"),
        "{5: 'cpu'}": ("TypeError", "int"),
        "{'(': 'cpu'}": ("ValueError", "regular expression"),
        "{'a': 'auto'}": ("ValueError", "auto"),
    },
    "tensor_split": {
        "5": ("TypeError", "int"),
        "'0.5'": ("TypeError", "str"),
        "['a']": ("TypeError", "str"),
        "[-1]": ("ValueError", "-1"),
        "[nan]": ("ValueError", "nan"),
        "[1] * 1000": ("ValueError", "1000"),
    },
    "kv_overrides": {
        "5": ("TypeError", "int"),
        "'a'": ("TypeError", "str"),
        "['a']": ("TypeError", "list"),
        "{5: 1}": ("TypeError", "int"),
        "{'a': None}": ("TypeError", "NoneType"),
        "{'a': [1]}": ("TypeError", "list"),
        "{'a': 2**63}": ("ValueError", "9223372036854775808"),
        "{'': 1}": ("ValueError", "''"),
        "{'k' * 128: 1}": ("ValueError", "128 bytes"),
        "{'a': 'v' * 128}": ("ValueError", "128 bytes"),
        "{'a\\0b': 1}": ("ValueError", "NUL"),
    },
    "progress": {"5": ("TypeError", "int"), "'yes'": ("TypeError", "str"), "[]": ("TypeError", "list")},
    "device": {
        "5": ("TypeError", "int"),
        "None": ("TypeError", "NoneType"),
        "[5]": ("TypeError", "int"),
        "''": ("BackendError", "''"),
        "'cuda:77'": ("BackendError", "cuda:77"),
    },
}
TOKEN_MAP = {
    "5": ("TypeError", "int"),
    "[1]": ("TypeError", "list"),
    "'ab'": ("TypeError", "str"),
    "{'a': 1}": ("TypeError", "str"),
    "{1: 'a'}": ("TypeError", "str"),
    "{-1: 1}": ("ValueError", "-1"),
    "{2**31: 1}": ("ValueError", "2147483648"),
    "{1: nan}": ("ValueError", "nan"),
    "{1: inf}": ("ValueError", "inf"),
}
ABOVE_0 = AT_LEAST_0 | {"0": ("ValueError", "0"), "1e-45": ("ValueError", "1e-45")}
SEED = INTEGER | {"-1": ("ValueError", "-1"), "2**32 - 1": ("ValueError", "4294967295")}
N_VOCAB = {value: bad for value, bad in POSITIVE.items() if value != "None"}
VOCAB = {"None": ("TypeError", "None"), "5": ("TypeError", "int"), "model": ("TypeError", "Model")}
GRAMMAR = {
    "5": ("TypeError", "int"),
    "b'root'": ("TypeError", "bytes"),
    "''": ("GrammarError", "empty"),
    "'root'": ("GrammarError", "line 1, column 5"),
    "'root ::= root'": ("GrammarError", "left recursion"),
    "'root ::= x'": ("GrammarError", "'x' is not defined"),
    "'root ::= <[99999999]>'": ("GrammarError", "<[99999999]>"),
    "'root ::= <no such token>'": ("GrammarError", "<no such token>"),
    "'root ::= \\0'": ("GrammarError", "null character"),
    "'root ::= \\ud800'": ("GrammarError", "surrogate"),
}
ROOT = {
    "5": ("TypeError", "int"),
    "'other'": ("GrammarError", "'other'"),
    "''": ("GrammarError", "''"),
}
# The parameter's name, and what the message calls it.
SAMPLING = {
    "temperature": ("t", AT_LEAST_0),
    "top_k": ("k", INTEGER),
    "top_p": ("p", SHARE),
    "min_p": ("p", SHARE),
    "repeat_penalty": ("repeat", ABOVE_0),
    "frequency_penalty": ("freq", REAL),
    "presence_penalty": ("present", REAL),
    "penalty_last_n": ("last_n", INTEGER),
    "logit_bias": ("bias|token", TOKEN_MAP),
    "seed": ("seed", SEED),
}
SAMPLERS = {
    "init": {"sampler": {"5": ("TypeError", "int"), "None": ("TypeError", "NoneType")}},
    "greedy": {},
    "dist": {"seed": SEED},
    "top_k": {"k": INTEGER},
    "top_p": {"p": SHARE, "min_keep": POSITIVE},
    "min_p": {"p": SHARE, "min_keep": POSITIVE},
    "temp": {"t": AT_LEAST_0},
    "penalties": {"last_n": INTEGER, "repeat": ABOVE_0, "freq": REAL, "present": REAL, "n_vocab": N_VOCAB},
    "logit_bias": {"biases": TOKEN_MAP, "n_vocab": N_VOCAB},
    "typical": {"p": SHARE, "min_keep": POSITIVE},
    "temp_ext": {"t": AT_LEAST_0, "delta": AT_LEAST_0, "exponent": AT_LEAST_0 | {"1001": ("ValueError", "1001")}},
    "xtc": {"p": SHARE, "t": SHARE, "min_keep": POSITIVE, "seed": SEED},
    "top_n_sigma": {"n": AT_LEAST_0},
    "mirostat": {
        **{"n_vocab": POSITIVE, "seed": SEED, "tau": AT_LEAST_0, "eta": SHARE},
        "m": POSITIVE | {"1": ("ValueError", "1")},
    },
    "mirostat_v2": {"seed": SEED, "tau": AT_LEAST_0, "eta": SHARE},
    "adaptive_p": {
        "target": REAL | {"-0.5": ("ValueError", "-0.5"), "1.5": ("ValueError", "1.5")},
        "decay": AT_LEAST_0 | {"0.991": ("ValueError", "0.991")},
        "seed": SEED,
    },
    "dry": {
        **{"vocab": VOCAB, "multiplier": AT_LEAST_0, "base": REAL | {"0.99": ("ValueError", "0.99")}},
        **{"allowed_length": POSITIVE, "last_n": INTEGER | {"2**20 + 1": ("ValueError", "1048577")}},
        "seq_breakers": {
            "5": ("TypeError", "int"),
            "'ab'": ("TypeError", "str"),
            "[1]": ("TypeError", "int"),
            "[b'a']": ("TypeError", "bytes"),
            "['']": ("ValueError", "0 bytes"),
            "['x' * 41]": ("ValueError", "41 bytes"),
        },
    },
    "infill": {"vocab": VOCAB},
    "grammar": {"vocab": VOCAB, "grammar": GRAMMAR, "root": ROOT},
    "grammar_lazy": {
        **{"vocab": VOCAB, "grammar": GRAMMAR, "root": ROOT},
        "trigger_patterns": {
            "5": ("TypeError", "int"),
            "'ab'": ("TypeError", "str"),
            "[1]": ("TypeError", "int"),
            "['(']": ("GrammarError", "Mismatched"),
            "['a{1']": ("GrammarError", "regular expression"),
            "['[z-a]']": ("GrammarError", "regular expression"),
        },
        "trigger_tokens": {
            "5": ("TypeError", "int"),
            "'ab'": ("TypeError", "str"),
            "['a']": ("TypeError", "str"),
            "[-1]": ("ValueError", "-1"),
            "[10**9]": ("ValueError", "1000000000"),
        },
    },
}
REQUIRED = {
    **dict.fromkeys(["top_p", "min_p", "typical"], ("p=0.5",)),
    **{"logit_bias": ("biases={}",), "temp_ext": ("t=1", "delta=0.5"), "xtc": ("p=0.5", "t=0.1")},
    **{"mirostat": ("n_vocab=9",), "adaptive_p": ("target=0.5",), "dry": ("vocab=model.vocab",)},
    "grammar": ("vocab=model.vocab", "grammar='root ::= \"a\"'"),
    "grammar_lazy": ("vocab=model.vocab", "grammar='root ::= \"a\"'", "trigger_tokens=[1]"),
}
# What a message calls it, where that is not the parameter's name.
CALLED = {
    **{"biases": "bias|token", "seq_breakers": "sequence breaker|seq_breakers", "grammar": "grammar|line"},
    **{"trigger_patterns": "trigger pattern|trigger_patterns", "trigger_tokens": "token"},
}
OTHERS = {
    "Batch": ("llama_cy.Batch(**{given})", {"n_tokens_max": POSITIVE}),
    "Batch of many": ("llama_cy.Batch(1, **{given})", {"n_seq_max": POSITIVE}),
    "Threadpool": ("llama_cy.Threadpool(**{given})", {"n_threads": POSITIVE}),
    "polling Threadpool": ("llama_cy.Threadpool(1, **{given})", {"poll": INTEGER}),
}

Case = tuple[str, str, str, str]


def cases() -> dict[str, Case]:
    """Name of each case to its source, the exception, the words for the parameter and those for the value."""
    found = {}

    def add(what: str, source: str, name: str, called: str, values: dict[str, tuple[str, str]]) -> None:
        for value, (error, shown) in values.items():
            given = f"dict({name}={value})"
            found[f"{what} {name}={value}"] = (source.replace("{given}", given), error, called, shown)

    for name, values in CONTEXT.items():
        add("Context", "model.context(**{given})", name, name, values)
    for name, values in MODEL.items():
        add("Model", "llama_cy.Model(path, **{given})", name, name, values)
    for name, (called, values) in SAMPLING.items():
        # Penalties are built only where one is on.
        on = ", repeat_penalty=1.1" if name == "penalty_last_n" else ""
        add("sampling", f"llama_cy.sampling(**{{given}}{on})", name, called, values)
    for method, parameters in SAMPLERS.items():
        for name, values in parameters.items():
            rest = ", ".join(text for text in REQUIRED.get(method, ()) if not text.startswith(f"{name}="))
            called = CALLED.get(name, name)
            add(f"Sampler.{method}", f"llama_cy.Sampler.{method}(**{{given}}, {rest})", name, called, values)
    for what, (source, parameters) in OTHERS.items():
        for name, values in parameters.items():
            add(what, source, name, name, values)
    return found


BAD = cases()


@pytest.fixture(scope="module")
def came_to(tiny_path: Path) -> dict[str, Outcome]:
    return outcomes(SETUP, {name: source for name, (source, *_) in BAD.items()}, tiny_path)


@pytest.mark.parametrize("parameter", dict.fromkeys(case.split("=")[0] for case in BAD))
def test_refused(came_to: dict[str, Outcome], parameter: str) -> None:
    of_this = [case for case in BAD if case.split("=")[0] == parameter]
    assert of_this
    for case in of_this:
        _, error, called, shown = BAD[case]
        outcome = came_to[case]
        assert outcome.raised[:1] == (error,), (case, outcome)
        assert re.search(called, outcome.text), (case, outcome)
        assert shown in outcome.text, (case, outcome)
        if error == "ValueError":
            # The range, the list of choices, or the limit.
            assert re.search(r"range|expected|limit|at most|NUL| to 127", outcome.text), (case, outcome)


UNKNOWN: dict[str, Any] = {"nonsense": 1}


class TestNoParameterIsMissing:
    """The tables above must grow with the signatures."""

    def test_of_context(self, tiny: llama_cy.Model) -> None:
        with pytest.raises(TypeError, match="has no parameter 'nonsense'") as caught:
            tiny.context(**UNKNOWN)
        assert set(str(caught.value).split("it takes ")[1].split(", ")) == set(CONTEXT)

    def test_of_model(self, tiny_path: Path) -> None:
        with pytest.raises(TypeError, match="has no parameter 'nonsense'") as caught:
            llama_cy.Model(tiny_path, **UNKNOWN)
        taken = set(str(caught.value).split("it takes ")[1].split(", "))
        assert taken | {"n_gpu_layers", "progress"} == set(MODEL)

    def test_of_samplers(self) -> None:
        makers = {name for name, value in vars(llama_cy.Sampler).items() if isinstance(value, staticmethod)}
        makers |= {name for name in dir(llama_cy.Sampler) if inspect.isbuiltin(getattr(llama_cy.Sampler, name))}
        assert {name for name in makers if not name.startswith("_")} == set(SAMPLERS)


class TestGoodOnesPass:
    """What the tables refuse is not more than they should."""

    @pytest.mark.parametrize("n_ctx", [1, 255, 256, 257])
    def test_smallest_contexts(self, tiny: llama_cy.Model, n_ctx: int) -> None:
        with tiny.context(n_ctx=n_ctx, n_batch=1, n_ubatch=1, n_threads=1) as context:
            context.decode([1, 2, 3])
            assert context.n_ctx >= n_ctx

    def test_numpy_numbers(self, tiny: llama_cy.Model) -> None:
        numbers: dict[str, Any] = {"n_ctx": np.int64(64), "n_threads": np.uint8(1), "embeddings": np.bool_(True)}
        with tiny.context(**numbers) as context:
            context.decode(np.array([1, 2], dtype=np.int32))
            context.decode(np.array([1, 2], dtype=np.int64))
            llama_cy.sampling(temperature=np.float32(0.5), top_k=np.int16(3)).sample(context)

    def test_extremes_of_samplers(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context:
            context.decode([1])
            for chain in (
                llama_cy.sampling(temperature=3.4e38, top_k=2**31 - 1, top_p=1, min_p=1, seed=0),
                llama_cy.sampling(temperature=1e-45, top_k=1, top_p=0, min_p=0, seed=2**32 - 2),
                llama_cy.sampling(repeat_penalty=3.4e38, frequency_penalty=3.4e38, presence_penalty=-3.4e38, seed=1),
                llama_cy.sampling(repeat_penalty=2**-126, frequency_penalty=-3.4e38, penalty_last_n=2**20, seed=1),
                llama_cy.sampling(logit_bias=dict.fromkeys(range(tiny.vocab.n_tokens), 3.4e38), seed=1),
                llama_cy.SamplerChain(llama_cy.Sampler.temp_ext(3.4e38, 3.4e38, 1000), llama_cy.Sampler.dist(1)),
                llama_cy.SamplerChain(llama_cy.Sampler.xtc(1, 0, 2**31 - 1, 0), llama_cy.Sampler.dist(1)),
                llama_cy.SamplerChain(llama_cy.Sampler.xtc(1, 0, 1, 0), llama_cy.Sampler.dist(1)),
                llama_cy.SamplerChain(llama_cy.Sampler.typical(0, 2**31 - 1), llama_cy.Sampler.dist(1)),
                llama_cy.SamplerChain(llama_cy.Sampler.top_n_sigma(3.4e38), llama_cy.Sampler.dist(1)),
                llama_cy.SamplerChain(llama_cy.Sampler.mirostat(tiny.vocab.n_tokens, 0, 1000, 1, 2**31 - 1)),
                llama_cy.SamplerChain(llama_cy.Sampler.mirostat(tiny.vocab.n_tokens, 0, 0, 0, 2)),
                llama_cy.SamplerChain(llama_cy.Sampler.mirostat_v2(0, 1000, 1)),
                llama_cy.SamplerChain(llama_cy.Sampler.mirostat_v2(0, 0, 0)),
                llama_cy.SamplerChain(llama_cy.Sampler.adaptive_p(-1, 0)),
                llama_cy.SamplerChain(llama_cy.Sampler.adaptive_p(1, 0.99)),
                llama_cy.SamplerChain(
                    llama_cy.Sampler.dry(tiny.vocab, 3.4e38, 3.4e38, 1, 2**20, ["x" * 40]), llama_cy.Sampler.greedy()
                ),
            ):
                for _ in range(3):
                    assert 0 <= chain.sample(context) < tiny.vocab.n_tokens

    def test_no_token_is_left(self, tiny: llama_cy.Model) -> None:
        with tiny.context(n_ctx=64, n_threads=1) as context:
            context.decode([1])
            banned = dict.fromkeys(range(tiny.vocab.n_tokens), float("-inf"))
            for temperature in (0, 1):
                with pytest.raises(ValueError, match="rule out every token"):
                    llama_cy.sampling(temperature=temperature, logit_bias=banned, seed=1).sample(context)
