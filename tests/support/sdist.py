"""Source distributions laid out like llama-cpp-python's, and a ``vendor`` directory that fetches them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME, VERSION = "llama_cpp_python", "0.0.1"
PYPROJECT = '[build-system]\nrequires = ["scikit-build-core"]\nbuild-backend = "scikit_build_core.build"\n'


class Sdist(NamedTuple):
    archive: Path
    commit: str

    @property
    def pin(self) -> str:
        digest = hashlib.sha256(self.archive.read_bytes()).hexdigest()
        version = self.archive.name.removeprefix(f"{NAME}-").removesuffix(".tar.gz")
        return f"# llama.cpp commit: {self.commit}\nllama-cpp-python=={version} --hash=sha256:{digest}\n"


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"{path.stem}_{abs(hash(path))}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def git(*arguments: str, cwd: Path) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


def make_sdist(
    folder: Path, *, version: str = VERSION, header: str = "", spoil: Callable[[Path], object] = lambda tree: None
) -> Sdist:
    """Make an archive laid out like the real one; ``spoil`` changes its llama.cpp after the commit."""
    if shutil.which("git") is None:
        pytest.skip("needs git, whose objects the archive holds")
    top = folder / f"{NAME}-{version}"
    tree = top / "vendor" / "llama.cpp"
    tree.mkdir(parents=True)
    (top / "pyproject.toml").write_text(PYPROJECT)
    (top / "PKG-INFO").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {version}\n")
    for name in load(ROOT / "vendor" / "fetch.py").KEEP:
        path = tree / name if Path(name).suffix or name.isupper() else tree / name / "file.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} {version}\n")
    (tree / "include" / "llama.h").write_text(header or f"int llama_{version.replace('.', '_')}(void);\n")
    (tree / "docs").mkdir()
    (tree / "docs" / "build.md").write_text("not needed\n")
    (tree / "build.sh").write_text("exit 0\n")
    git("init", "-q", cwd=tree)
    git("add", "-A", cwd=tree)
    git("commit", "-q", "-m", "Tree", cwd=tree)
    git("checkout", "-q", "--detach", cwd=tree)
    commit = git("rev-parse", "HEAD", cwd=tree).strip()
    objects = top / ".git" / "modules" / "vendor" / "llama.cpp"
    objects.parent.mkdir(parents=True)
    (tree / ".git").rename(objects)
    (tree / ".git").write_text("gitdir: ../../.git/modules/vendor/llama.cpp\n")
    spoil(tree)
    archive = folder / f"{top.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(top, top.name)
    shutil.rmtree(top)
    return Sdist(archive, commit)


class Vendor:
    """A ``vendor`` directory of its own, and the ways to run its ``fetch.py``."""

    def __init__(self, path: Path, sdist: Sdist) -> None:
        self.path, self.sdist = path, sdist
        self.tree, self.pin = path / "llama.cpp", path / "llama.cpp.txt"
        self.script = path / "fetch.py"
        path.mkdir()
        shutil.copy(ROOT / "vendor" / "fetch.py", self.script)
        self.pin.write_text(sdist.pin)
        # The user's own pip settings must not reach the tests.
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        self.environ |= {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0"}
        self.environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(sdist.archive.parent)}

    def start(
        self, *arguments: str, python: str = sys.executable, index: str = "", **options: Any
    ) -> subprocess.Popen[str]:
        environ = dict(self.environ)
        if index:
            del environ["PIP_NO_INDEX"], environ["PIP_FIND_LINKS"]
            environ["PIP_INDEX_URL"] = index
        command = [python, str(self.script), *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, env=environ | options.pop("env", {}), **pipes, **options)

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        with self.start(*arguments, **options) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def fails(self, *arguments: str, **options: Any) -> str:
        """Run it; expect exit code 1, nothing left behind, and return the one line it says."""
        code, _, err = self.run(*arguments, **options)
        assert code == 1, err
        assert re.fullmatch(r"error: [^\n]+\n", err)
        assert self.leftovers() == []
        return err

    def leftovers(self) -> list[str]:
        known = {"fetch.py", "llama.cpp.txt", "llama.cpp", "__pycache__"}
        return sorted({path.name for path in self.path.iterdir()} - known)

    def module(self, monkeypatch: pytest.MonkeyPatch, sdist: Sdist) -> Any:
        """Return its ``fetch`` module, with that archive in the place of pip's download."""
        self.pin.write_text(sdist.pin)
        fetch = load(self.script)
        monkeypatch.setattr(fetch, "download", lambda *arguments, **options: sdist.archive)
        return fetch
