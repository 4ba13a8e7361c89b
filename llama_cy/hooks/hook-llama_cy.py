"""What PyInstaller can't see: compiled modules import each other out of its sight, and the models are data."""

from importlib.util import find_spec
from pathlib import Path

_spec = find_spec("llama_cy")
assert _spec is not None
assert _spec.origin is not None
_package = Path(_spec.origin).parent

hiddenimports = sorted(
    {f"llama_cy.{path.name.partition('.')[0]}" for path in _package.iterdir() if path.suffix in (".py", ".so", ".pyd")}
    - {"llama_cy.__init__"}
)
datas = [(str(path), "llama_cy/models") for path in _package.glob("models/*.gguf")]
binaries = [
    (str(path), f"llama_cy/_variants/{path.parent.name}")
    for path in _package.glob("_variants/*/_llama.*")
    if path.is_file()
]
