"""Wrong parameters of models, contexts, samplers and requests, for the table of wrong calls."""

from __future__ import annotations

from benchmarks.wrong_setups import Row, row

__all__ = ["PARAMETERS"]

# Of a context: the name of ours, the value, and the names of others where they have another or none.
CONTEXT: dict[str, dict[str, str]] = {
    "n_ctx": {"values": "-1, 2**32, '5', 1.5"},
    "n_batch": {"values": "-1, 2**32, None"},
    "n_ubatch": {"values": "0, -1", "llama_cpp_python": "n_ubatch"},
    "n_seq_max": {"values": "0, -1", "llama_cpp_python": "", "xllamacpp": "n_parallel"},
    "n_threads": {"values": "-2, 10**6, 2**32", "xllamacpp": ""},
    "rope_freq_base": {"values": "nan, -1.0, 'a'"},
    "rope_freq_scale": {"values": "nan, -1.0"},
    "yarn_beta_fast": {"values": "inf"},
    "type_k": {"values": "999, 10", "xllamacpp": "cache_type_k"},
    "type_v": {"values": "999, -1", "xllamacpp": "cache_type_v"},
    "pooling_type": {"values": "99, -7"},
    "rope_scaling_type": {"values": "99"},
    "flash_attn_type": {"values": "77", "llama_cpp_python": ""},
    "embeddings": {"values": "'no'", "llama_cpp_python": "embedding", "xllamacpp": "embedding"},
}


def of_context(name: str, value: str, others: dict[str, str]) -> Row:
    python = others.get("llama_cpp_python", name)
    server = others.get("xllamacpp", name)
    keywords = f"{{'n_ctx': 256, 'n_batch': 32, 'verbose': False}} | {{{python!r}: {value}}}"
    return row(
        f"fresh({name}={value}).decode([1])",
        f"fresh({name}={value}).decode(low.llama_batch_get_one([1]))",
        python and f"Llama(sys.argv[1], **{keywords}).eval([1])",
        server and f"server = serve({server}={value}); ask()",
    )


def of_chain(ours: str, cyllama: str = "", request: str = "") -> Row:
    """One sampler before the choice by chance."""
    return row(
        f"SamplerChain(Sampler.{ours}, Sampler.dist(1)).sample(decoded())",
        cyllama and f"s = sampler(); s.add_{cyllama}; s.add_dist(1); s.sample(decoded(), -1)",
        request and f"llama.create_completion('a', max_tokens=4, **{{{request}}})",
        request and f"ask(**{{{request}}})",
    )


def of_model(ours: str, cyllama: str = "", python: str = "", server: str = "") -> Row:
    """The file, or one parameter of a model."""
    return row(
        f"llama_cy.Model({ours})",
        cyllama,
        python and f"Llama({python}, verbose=False)",
        server and f"serve({server})",
    )


def file(value: str) -> Row:
    return of_model(value, f"low.LlamaModel({value}, params, verbose=False)", value, value)


def setting(name: str, value: str) -> Row:
    return of_model(
        f"sys.argv[1], {name}={value}",
        f"params.{name} = {value}; low.LlamaModel(sys.argv[1], params, verbose=False)",
        f"sys.argv[1], {name}={value}",
        f"{name}={value}",
    )


def request(ours: str, python: str, server: str | None = None) -> Row:
    """One request for a text."""
    return row(
        f"fresh().complete({ours})",
        llama_cpp_python=f"llama.create_completion({python})",
        xllamacpp=f"ask({python if server is None else server})",
    )


PARAMETERS: dict[str, Row] = {
    f"{name} of {value} for a context": of_context(name, value, others)
    for name, others in CONTEXT.items()
    for value in others["values"].split(", ")
} | {
    # samplers
    "top_k of 2**31": of_chain("top_k(2**31)", "top_k(2**31)", "'top_k': 2**31"),
    "top_k of 'a'": of_chain("top_k('a')", "top_k('a')", "'top_k': 'a'"),
    "top_p of nan": of_chain("top_p(nan)", "top_p(nan, 1)", "'top_p': nan"),
    "top_p of -1": of_chain("top_p(-1)", "top_p(-1, 1)", "'top_p': -1"),
    "min_p of nan": of_chain("min_p(nan)", "min_p(nan, 1)", "'min_p': nan"),
    "min_p of 2": of_chain("min_p(2)", "min_p(2, 1)", "'min_p': 2"),
    "typical of nan": of_chain("typical(nan)", "typical(nan, 1)", "'typical_p': nan"),
    "temperature of nan": of_chain("temp(nan)", "temp(nan)", "'temperature': nan"),
    "temperature of inf": of_chain("temp(inf)", "temp(inf)", "'temperature': inf"),
    "temperature of 'hot'": of_chain("temp('hot')", "temp('hot')", "'temperature': 'hot'"),
    "temperature of None": of_chain("temp(None)", "temp(None)", "'temperature': None"),
    "penalties over -5 tokens": of_chain("penalties(-5, 1.1)", "penalties(-5, 1.1, 0.0, 0.0)"),
    "a penalty of nan": of_chain("penalties(8, nan)", "penalties(8, nan, 0.0, 0.0)", "'repeat_penalty': nan"),
    "a penalty of 0": of_chain("penalties(8, 0)", "penalties(8, 0.0, 0.0, 0.0)", "'repeat_penalty': 0.0"),
    "a frequency penalty of inf": of_chain(
        "penalties(8, 1, inf)", "penalties(8, 1.0, inf, 0.0)", "'frequency_penalty': inf"
    ),
    "xtc of nan": of_chain("xtc(nan, 0.1, seed=1)", "xtc(nan, 0.1, 1, 1)"),
    "a seed of -2": row("Sampler.dist(-2)", "sampler().add_dist(-2)"),
    "a seed of 2**64": row(
        "Sampler.dist(2**64)",
        "sampler().add_dist(2**64)",
        "llama.create_completion('a', max_tokens=4, seed=2**64)",
        "ask(seed=2**64)",
    ),
    "a seed that is text": row(
        "Sampler.dist('a')",
        "sampler().add_dist('a')",
        "llama.create_completion('a', max_tokens=4, seed='a')",
        "ask(seed='a')",
    ),
    "mirostat of nan": row(
        "Sampler.mirostat_v2(1, tau=nan).sample(decoded())",
        "s = sampler(); s.add_mirostat_v2(1, nan, 0.1); s.sample(decoded(), -1)",
        "llama.create_completion('a', max_tokens=4, mirostat_mode=2, mirostat_tau=nan)",
        "ask(mirostat=2, mirostat_tau=nan)",
    ),
    "a bias for token -1": row(
        "Sampler.logit_bias({-1: 1.0})",
        llama_cpp_python="llama.create_completion('a', max_tokens=4, logit_bias={'-1': 1.0})",
        xllamacpp="ask(logit_bias=[[-1, 1.0]])",
    ),
    "a bias of nan": row(
        "Sampler.logit_bias({5: nan})",
        llama_cpp_python="llama.create_completion('a', max_tokens=4, logit_bias={'5': nan})",
        xllamacpp="ask(logit_bias=[[5, nan]])",
    ),
    "a bias that is text": row(
        "Sampler.logit_bias({5: 'a'})",
        llama_cpp_python="llama.create_completion('a', max_tokens=4, logit_bias={'5': 'a'})",
        xllamacpp="ask(logit_bias=[[5, 'a']])",
    ),
    "a grammar that is None's text": row(
        "Sampler.grammar(model.vocab, None)",
        "sampler().add_grammar(vocab, None, 'root')",
        "LlamaGrammar.from_string(None)",
    ),
    "a grammar of bytes that are no text": row(
        "Sampler.grammar(model.vocab, b'root ::= \\xff')",
        "sampler().add_grammar(vocab, b'root ::= \\xff', 'root')",
        "LlamaGrammar.from_string(b'root ::= \\xff')",
    ),
    "a grammar repeated 10**9 times": row(
        "Sampler.grammar(model.vocab, 'root ::= \"a\"{1000000000}')",
        "sampler().add_grammar(vocab, 'root ::= \"a\"{1000000000}', 'root')",
        "llama.create_completion('a', max_tokens=4, grammar=LlamaGrammar.from_string('root ::= \"a\"{1000000000}'))",
        "ask(grammar='root ::= \"a\"{1000000000}')",
    ),
    "a grammar nested 100,000 deep": row(
        "Sampler.grammar(model.vocab, 'root ::= ' + '(' * 100000 + '\"a\"' + ')' * 100000)",
        "sampler().add_grammar(vocab, 'root ::= ' + '(' * 100000 + '\"a\"' + ')' * 100000, 'root')",
        "llama.create_completion('a', max_tokens=4, "
        "grammar=LlamaGrammar.from_string('root ::= ' + '(' * 100000 + '\"a\"' + ')' * 100000))",
        "ask(grammar='root ::= ' + '(' * 100000 + '\"a\"' + ')' * 100000)",
    ),
    "a JSON schema of an unknown type": row(
        "llama_cy.json_schema_to_grammar({'type': 'nonsense'})",
        "low.json_schema_to_grammar({'type': 'nonsense'})",
        'LlamaGrammar.from_json_schema(\'{"type": "nonsense"}\')',
        "ask(json_schema={'type': 'nonsense'})",
    ),
    "a JSON schema that refers to nothing": row(
        "llama_cy.json_schema_to_grammar({'$ref': '#/$defs/none'})",
        "low.json_schema_to_grammar({'$ref': '#/$defs/none'})",
        'LlamaGrammar.from_json_schema(\'{"$ref": "#/$defs/none"}\')',
        "ask(json_schema={'$ref': '#/$defs/none'})",
    ),
    # models
    "a model that is not there": file("'/nowhere/model.gguf'"),
    "a folder for a model": file("'/tmp'"),
    "a program for a model": file("sys.executable"),
    "an empty file for a model": file("'/dev/null'"),
    "an empty path for a model": file("''"),
    "None for a path": file("None"),
    "a number for a path": file("5"),
    "a path with NUL": file("'a\\0b'"),
    "n_gpu_layers that are text": setting("n_gpu_layers", "'all'"),
    "n_gpu_layers of 2**31": setting("n_gpu_layers", "2**31"),
    "main_gpu of 2**31": setting("main_gpu", "2**31"),
    "split_mode of 99": setting("split_mode", "99"),
    "tensor_split of text": setting("tensor_split", "['a']"),
    "tensor_split of 1,000 parts": setting("tensor_split", "[1.0] * 1000"),
    "an override of a key too long": of_model(
        "sys.argv[1], kv_overrides={'a' * 1000: 1}", python="sys.argv[1], kv_overrides={'a' * 1000: 1}"
    ),
    "an adapter that is not there": row(
        "model.load_adapter('/nowhere/lora.gguf')",
        "model.lora_adapter_init('/nowhere/lora.gguf')",
        "Llama(sys.argv[1], lora_path='/nowhere/lora.gguf', verbose=False)",
    ),
    # requests
    "a prompt of None": request("None, max_tokens=4", "None, max_tokens=4", "None"),
    "a prompt that is a number": request("5", "5, max_tokens=4", "5"),
    "a stop that is a number": request("'a', stop=5", "'a', max_tokens=4, stop=5", "stop=5"),
    "stops that are numbers": request("'a', stop=[5]", "'a', max_tokens=4, stop=[5]", "stop=[5]"),
    "an empty stop": request("'a', stop=['']", "'a', max_tokens=4, stop=['']", "stop=['']"),
    "max_tokens of 2**63": request("'a', max_tokens=2**63", "'a', max_tokens=2**63", "max_tokens=2**63"),
    "max_tokens that are text": request("'a', max_tokens='5'", "'a', max_tokens='5'", "max_tokens='5'"),
    "max_tokens of nan": request("'a', max_tokens=nan", "'a', max_tokens=nan", "max_tokens=nan"),
    "-5 probabilities": request("'a', logprobs=-5", "'a', max_tokens=4, logprobs=-5", "n_probs=-5"),
    "probabilities that are text": request("'a', logprobs='a'", "'a', max_tokens=4, logprobs='a'", "n_probs='a'"),
    "a prompt longer than the context": request("'a ' * 2000", "'a ' * 2000, max_tokens=4", "'a ' * 2000"),
    "an adapter's number that is none": row(
        "fresh().set_adapters({5: 1.0})",
        xllamacpp="ask(lora=[{'id': 99, 'scale': 1.0}])",
    ),
    "a chat without messages": row(
        "llama_cy.chat_apply_template('chatml', None)",
        "model.chat_apply_template('chatml', None, True)",
        "llama.create_chat_completion(None, max_tokens=4)",
        "server.handle_chat_completions({'messages': None})['choices']",
    ),
    "a message that is a number": row(
        "llama_cy.chat_apply_template('chatml', [5])",
        "model.chat_apply_template('chatml', [5], True)",
        "llama.create_chat_completion([5], max_tokens=4)",
        "server.handle_chat_completions({'messages': [5]})['choices']",
    ),
    "an unknown chat template": row(
        "llama_cy.chat_apply_template('{% nonsense', [{'role': 'user', 'content': 'a'}])",
        "model.chat_apply_template('{% nonsense', [low.LlamaChatMessage('user', 'a')], True)",
    ),
}
