"""What the package shows: every public object with its name and docstring."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import llama_cy


class Documented(NamedTuple):
    """A public object with the name by which a user reaches it."""

    name: str
    value: Any

    @property
    def doc(self) -> str:
        """Its docstring, without the signature that Cython puts in front."""
        described = self.value.__func__ if isinstance(self.value, classmethod) else self.value
        # None, the default of a field, has a docstring from CPython 3.13 on.
        text = inspect.getdoc(described) or "" if described is not None else ""
        own_name = self.name.rpartition(".")[2]
        return re.sub(rf"\A{own_name}\(.*\)( -> .*)?\n\n", "", text)

    @property
    def summary(self) -> str:
        return self.doc.partition("\n\n")[0]


def members(name: str, cls: type) -> Iterator[Documented]:
    """Yield the public members a class defines; the bases outside the package are not ours to document."""
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("llama_cy") and not issubclass(base, enum.Enum):
            for key, value in {**dict.fromkeys(inspect.get_annotations(base)), **vars(base)}.items():
                if not key.startswith("_"):
                    yield Documented(f"{name}.{key}", value)


def public() -> Iterator[Documented]:
    """Yield the public objects of the package, in the order of their names."""
    for name in llama_cy.__all__:
        value = getattr(llama_cy, name)
        yield Documented(name, value)
        if isinstance(value, type):
            yield from members(name, value)
        elif isinstance(value, ModuleType):
            for key, function in vars(value).items():
                if not key.startswith("_") and getattr(function, "__module__", None) == value.__name__:
                    yield Documented(f"{name}.{key}", function)


def sections(doc: str) -> dict[str, str]:
    """Split a docstring at its underlined headings."""
    parts = re.split(r"^(\S.*)\n-{3,}$", doc, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))
