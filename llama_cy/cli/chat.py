"""A model's own chat template, a Jinja program, applied to one message."""

from __future__ import annotations

import datetime
import json
from typing import Any, NoReturn

from ..model import Model


def require_jinja2() -> None:
    """Raise the error that says what to install, before anything expensive is done."""
    try:
        import jinja2  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(f'--chat needs jinja2 ({error}): pip install "llama_cy[cli]"') from None


def apply_chat_template(model: Model, content: str) -> str:
    """Return the prompt that asks the model for an answer to one message of a user.

    Parameters
    ----------
    model : Model
        With a chat template in its metadata.
    content : str
        What the user says.

    Raises
    ------
    ValueError
        The model has no template, or the template fails on this message.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    source = model.chat_template()
    if source is None:
        raise ValueError(f"the model has no chat template, so there is nothing for --chat to apply: {model.path}")
    # These settings and names are the ones that templates are written for; the file is not trusted, hence the sandbox.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.datetime.now().strftime(form)
    vocab = model.vocab
    try:
        return environment.from_string(source).render(
            messages=[{"role": "user", "content": content}],
            add_generation_prompt=True,
            tools=None,
            documents=None,
            bos_token="" if vocab.bos is None else vocab.get_text(vocab.bos),
            eos_token="" if vocab.eos is None else vocab.get_text(vocab.eos),
        )
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"the model's chat template fails: {type(error).__name__}: {error}") from error


def _tojson(value: Any, indent: int | None = None) -> str:
    # Jinja's own escapes for HTML, which no model was trained on.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
