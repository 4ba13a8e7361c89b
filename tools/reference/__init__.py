"""Write docs/reference: one page per noun, from the docstrings and the stubs. ``python -m tools.reference``."""
