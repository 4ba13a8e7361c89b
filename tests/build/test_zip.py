"""A zip file with llama_cy in it: the import says why it can't be, and what to do."""

from __future__ import annotations

import zipfile
from pathlib import Path

from support.child import check_output

import llama_cy

PROGRAM = """
import sys
# An editable install would come to help.
sys.meta_path[:] = [finder for finder in sys.meta_path if "Editable" not in getattr(finder, "__name__", "")]
sys.path.insert(0, sys.argv[1])
try:
    import llama_cy
except ImportError as error:
    print(error)
"""


def test_the_import_names_the_way_out(tmp_path: Path) -> None:
    package = Path(llama_cy.__file__).parent
    archive = tmp_path / "app.pyz"
    with zipfile.ZipFile(archive, "w") as target:
        for path in (*package.glob("*.py"), *package.glob("_llama.*.so")):
            target.write(path, f"llama_cy/{path.name}")
    told = check_output(PROGRAM, archive)
    assert f"can't be imported out of {archive}" in told
    assert "shiv or PyInstaller" in told
