"""Chats as text, in the layouts that llama.cpp knows without running a template."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int32_t
from libcpp cimport bool as c_bool
from libcpp.vector cimport vector
from llama cimport import_llama_cy, llama_chat_apply_template, llama_chat_builtin_templates, llama_chat_message

from collections.abc import Mapping

from .checks import each, flag

import_llama_cy()

# The length comes back as an int32, and markup comes on top.
MOST_BYTES = 2**30


cdef str shortened(str text):
    return text if len(text) <= 60 else text[:60] + "..."


cdef bytes c_text(str name, object value):
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    cdef bytes data = value.encode("utf-8")
    if b"\0" in data:
        raise ValueError(f"{name} has a NUL character at byte {data.index(0)}; C would end the text there")
    return data


def chat_builtin_templates():
    """List the layouts that :func:`chat_apply_template` knows by name. Wraps ``llama_chat_builtin_templates``.

    Returns
    -------
    tuple of str
    """
    cdef vector[const char *] names
    names.resize(llama_chat_builtin_templates(NULL, 0))
    llama_chat_builtin_templates(names.data(), names.size())
    return tuple([names[i].decode("utf-8") for i in range(names.size())])


def chat_apply_template(messages, template="chatml", *, add_assistant=True):
    """Lay out a chat as the text of a prompt. Wraps ``llama_chat_apply_template``.

    Parameters
    ----------
    messages : iterable of mapping
        Each with the keys ``role`` and ``content``, both str, and no other.
    template : str
        One of :func:`chat_builtin_templates`; or the Jinja source of a model's template
        (:meth:`Model.chat_template`), by which llama.cpp recognizes the layout. It never runs the template.
    add_assistant : bool
        End with what begins the assistant's answer.

    Returns
    -------
    str
        Without the BOS token, which :meth:`Vocab.tokenize` adds; pass ``parse_special=True`` there. Markup inside of
        a message's content counts as markup then.

    Raises
    ------
    ValueError
        The template is none that llama.cpp knows: render it with Jinja then.
    """
    cdef vector[llama_chat_message] chat
    cdef llama_chat_message message
    cdef c_bool c_add = flag("add_assistant", add_assistant)
    cdef bytes c_template = c_text("template", template)
    cdef const char * source = c_template
    cdef int32_t size, n
    kept = []
    total = 1024
    for i, given in enumerate(each("messages", messages, "an iterable of messages")):
        if not isinstance(given, Mapping):
            raise TypeError(f"messages[{i}] must be a mapping with role and content, not {type(given).__name__}")
        if given.keys() != {"role", "content"}:
            raise ValueError(f"messages[{i}] has the keys {sorted(map(str, given))}; expected role and content")
        kept.append((c_text(f"messages[{i}]['role']", given["role"]),
                     c_text(f"messages[{i}]['content']", given["content"])))  # fmt: skip
        message.role, message.content = kept[-1][0], kept[-1][1]
        chat.push_back(message)
        total += 256 + len(kept[-1][0]) + len(kept[-1][1])
    if total > MOST_BYTES:
        raise ValueError(f"the messages take {total} bytes, which is out of range [0, {MOST_BYTES}]")
    cdef bytes text
    cdef char * buffer
    n = total
    while True:
        size = n
        text = PyBytes_FromStringAndSize(NULL, size)
        buffer = PyBytes_AS_STRING(text)
        with nogil:
            n = llama_chat_apply_template(source, chat.data(), chat.size(), c_add, buffer, size)
        if n < 0:
            raise ValueError(
                f"llama.cpp does not know the template {shortened(template)!r}; by name it knows "
                f"{', '.join(chat_builtin_templates())}"
            )
        if n <= size:
            return text[:n].decode("utf-8")
