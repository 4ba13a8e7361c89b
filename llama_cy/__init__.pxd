from llama_cy.adapter cimport LoraAdapter
from llama_cy.batch cimport Batch
from llama_cy.batch_ext cimport BatchExt
from llama_cy.context cimport Context
from llama_cy.model cimport Model
from llama_cy.sampler cimport Sampler
from llama_cy.sampler_chain cimport SamplerChain
from llama_cy.vocab cimport Vocab
