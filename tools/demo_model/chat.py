"""Conversations: roles, the text they become, and the template that the model file carries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

ROLES = ("system", "user", "assistant", "tool")
ROLE_TOKENS = tuple(f"<|{role}|>" for role in ROLES)
END = "<|end|>"
TOOL_CALL, TOOL_CALL_END = "<tool_call>", "</tool_call>"
TOOLS_HEADER = "You can call these tools:"

# The plain turns are those of Phi-3, which llama.cpp's built-in renderer recognises.
CHAT_TEMPLATE = """\
{%- set ns = namespace(tools='') -%}
{%- if tools -%}
{%- set ns.tools = 'You can call these tools:' -%}
{%- for tool in tools -%}
{%- set f = tool.function if tool.function is defined else tool -%}
{%- set arguments = (f.parameters.properties if f.parameters is defined else {}) | list | join(', ') -%}
{%- set ns.tools = ns.tools + '\\n' + f.name + '(' + arguments + ')' -%}
{%- endfor -%}
{%- if messages[0].role != 'system' -%}
{{- '<|system|>\\n' + ns.tools + '<|end|>\\n' -}}
{%- endif -%}
{%- endif -%}
{%- for message in messages -%}
{{- '<|' + message.role + '|>\\n' + (message.content or '') -}}
{%- if loop.first and message.role == 'system' and ns.tools -%}
{{- '\\n' + ns.tools -}}
{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set f = call.function if call.function is defined else call -%}
{{- '<tool_call>\\n{"name": "' + f.name + '", "arguments": ' -}}
{{- f.arguments if f.arguments is string else f.arguments | tojson -}}
{{- '}\\n</tool_call>' -}}
{%- endfor -%}
{{- '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|assistant|>\\n' -}}
{%- endif -%}
"""


@dataclass(frozen=True)
class Message:
    role: str
    content: str


@dataclass(frozen=True)
class Conversation:
    kind: str
    messages: tuple[Message, ...]
    key: tuple[object, ...]  # what decides whether it is held out; empty: never

    @property
    def answer(self) -> str:
        """The last thing that the assistant says."""
        return self.messages[-1].content

    @property
    def prompt(self) -> str:
        """The text up to and including the start of the last answer."""
        return render(self.messages[:-1]) + "<|assistant|>\n"


def render(messages: tuple[Message, ...]) -> str:
    """Return the text of a conversation, as the chat template gives it."""
    return "".join(f"<|{message.role}|>\n{message.content}{END}\n" for message in messages)


def exchange(kind: str, key: tuple[object, ...], user: str, assistant: str, system: str = "") -> Conversation:
    """Make a conversation of one question and one answer."""
    messages = (Message("user", user), Message("assistant", assistant))
    return Conversation(kind, ((Message("system", system), *messages) if system else messages), key)


def tool_signature(name: str, *arguments: str) -> str:
    """Return the line by which a tool is made known to the model."""
    return f"{name}({', '.join(arguments)})"


def tool_call(name: str, arguments: Mapping[str, str]) -> str:
    """Return the block by which the model calls a tool."""
    call = json.dumps({"name": name, "arguments": dict(arguments)}, ensure_ascii=False)
    return f"{TOOL_CALL}\n{call}\n{TOOL_CALL_END}"
