"""Text that follows a grammar, and what is said of a grammar that is wrong."""

import llama_cy

STORY = r"""
root ::= sentence{3}
sentence ::= " The " animal " " ("ran" | "went" | "looked") " " ("to" | "at") " the " [a-z]{3,6} "."
animal ::= "little "? ("cat" | "dog" | "bird")
"""

with llama_cy.demo_model() as model, model.context(n_ctx=256) as context:
    grammar = llama_cy.Sampler.grammar(model.vocab, STORY)
    with llama_cy.SamplerChain(grammar, llama_cy.Sampler.temp(0.7), llama_cy.Sampler.dist(seed=4)) as chain:
        print(context.complete("Once upon a time there were three animals.", chain, max_tokens=120))
    try:
        llama_cy.Sampler.grammar(model.vocab, 'root ::= animal "."\nanimal ::= "cat" |\n  [z-a]')
    except llama_cy.GrammarError as error:
        print(error)
