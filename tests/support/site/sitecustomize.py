"""Let a child of a test place its models as its parent does: see ``support/unasked.py``."""

from __future__ import annotations

import importlib
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


class AfterImport(MetaPathFinder):
    """Patch ``llama_cy.loading`` as soon as a program has imported it."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find that module alone, with a loader that patches it."""
        if name != "llama_cy.loading":
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path)
        assert spec is not None
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            sys.path.insert(0, str(Path(__file__).parents[1]))
            importlib.import_module("unasked").patch(module)
            del sys.path[0]

        loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, AfterImport())
