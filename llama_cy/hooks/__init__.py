"""How PyInstaller packs an application that uses llama_cy; it finds this through an entry point."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folder with the hook."""
    return [str(Path(__file__).parent)]
