"""The gate: every function of llama.h is wrapped by a public object and called by a test, or there is a reason.

``python -m tools.gate`` prints the table.
"""
