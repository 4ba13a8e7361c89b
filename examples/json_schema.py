"""JSON that a schema allows, whatever the model would rather say."""

import json

import llama_cy

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "[A-Z][a-z]{2,6}"},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "likes": {"type": "array", "items": {"enum": ["cake", "trees", "books"]}, "minItems": 1, "maxItems": 2},
    },
    "required": ["name", "age", "likes"],
}

grammar = llama_cy.json_schema_to_grammar(SCHEMA)
print(grammar, end="\n\n")
with llama_cy.demo_model() as model, model.context(n_ctx=256) as context:
    chain = llama_cy.SamplerChain(llama_cy.Sampler.grammar(model.vocab, grammar), llama_cy.Sampler.dist(seed=1))
    print(json.loads(context.complete("Tell me of a child: ", chain).text))
