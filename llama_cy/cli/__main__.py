"""``python -m llama_cy.cli``."""

from . import main

main()
