"""Lay out a chat as a prompt, in one of the layouts that llama.cpp knows by name."""

import llama_cy

messages = [
    {"role": "system", "content": "You count."},
    {"role": "user", "content": "One, two?"},
]
for name in ("chatml", "llama3", "gemma"):
    print(f"{name}: {llama_cy.chat_apply_template(messages, name)!r}")
