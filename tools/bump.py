"""Move the llama.cpp pin to another version: ``make bump VERSION=x.y.z``.

Pins that version of llama-cpp-python's source distribution by hash and upstream commit, fetches it, regenerates the
mirror and prints what changed in the API. When a step fails, the old pin and the old mirror stay.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]


class BumpError(Exception):
    """What went wrong, in one line."""


def load_fetch() -> ModuleType:
    """Load ``vendor/fetch.py``, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("llama_cy_fetch", ROOT / "vendor" / "fetch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


fetch = load_fetch()


def bump(version: str) -> None:
    """Pin, fetch and mirror that version; print the differences."""
    if not re.fullmatch(r"\d+(\.\d+)+\w*", version):
        raise BumpError(f"{version!r} is not a version such as 0.3.36")
    if os.path.lexists(fetch.TREE) and not fetch.is_empty(fetch.TREE) and fetch.stamp() is None:
        raise BumpError(f"{fetch.TREE} is a checkout of your own: move it away first")
    if not fetch.has_git():
        raise BumpError("git is needed to prove the new tree: install it first")
    old = fetch.pinned()
    with fetch.lock(), fetch.workspace() as work:
        archive = fetch.download(f"{old.requirement.partition('==')[0]}=={version}", work)
        commit = fetch.upstream_commit(archive)
        tree, _ = fetch.unpack(archive, work, commit)
        pin = work / fetch.PIN.name
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        name = old.requirement.partition("==")[0]
        pin.write_text(f"# llama.cpp commit: {commit}\n{name}=={version} --hash=sha256:{digest}\n", encoding="utf-8")
        files = mirror(tree, pin, work / "mirror") | {fetch.PIN: pin.read_text(encoding="utf-8")}
        header = "\n".join(path.read_text(encoding="utf-8") for path in sorted(tree.glob("**/include/*.h")))
    before = {path: path.read_text(encoding="utf-8") for path in files if path.exists()}
    try:
        write(files)
        fetch.fetch()
    except BaseException:
        write(before)
        for path in files.keys() - before.keys():
            path.unlink(missing_ok=True)
        raise
    print(f"{name} {old.version} -> {version}, llama.cpp {old.commit[:12]} -> {commit[:12]}")
    print(*differences(functions(before), functions(files), header), sep="\n")


def mirror(source: Path, pin: Path, output: Path) -> dict[Path, str]:
    """Return the generated files for that source, by where they belong."""
    options = ["--source", str(source), "--pin", str(pin), "--output", str(output)]
    done = subprocess.run(
        [sys.executable, "-m", "tools.mirror", *options], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or "no reason given").splitlines()[-1]
        raise BumpError(f"the mirror of the new headers could not be generated: {reason}")
    paths = [path for path in output.rglob("*") if path.is_file()]
    return {ROOT / path.relative_to(output): path.read_text(encoding="utf-8") for path in paths}


def write(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        path.write_text(text, encoding="utf-8", newline="\n")


def functions(files: Mapping[Path, str]) -> dict[str, str]:
    """Return the declaration of every function in the ``.pxd`` files, by name."""
    found = {}
    for path, text in files.items():
        if path.suffix == ".pxd":
            for line in re.sub(r",\n +", ", ", text).splitlines():
                if match := re.match(r"    (?!ctypedef )((?:[\w*]+ )+?(\w+)\(.*\)) (?:no)?except", line):
                    found[match[2]] = match[1]
    return found


def differences(before: Mapping[str, str], after: Mapping[str, str], header: str) -> Iterator[str]:
    """Yield lines that say which functions came, went, were deprecated or changed."""
    gone = [name for name in before if name not in after]
    deprecated = [name for name in gone if re.search(rf"\b{name}\(", header)]
    groups = {
        "added": [after[name] for name in after if name not in before],
        "removed": [before[name] for name in gone if name not in deprecated],
        "deprecated": [before[name] for name in deprecated],
        "changed": [
            f"{before[name]}\n    now: {after[name]}" for name in after if before.get(name, after[name]) != after[name]
        ],
    }
    for title, lines in groups.items():
        yield f"{len(lines)} functions {title}"
        yield from (f"  {line}" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Move the llama.cpp pin to another version of its source distribution."
    )
    parser.add_argument("version", help="a version of llama-cpp-python, such as 0.3.36")
    try:
        bump(parser.parse_args().version)
    except (BumpError, fetch.FetchError, OSError) as error:
        reason = fetch.explain(error) if isinstance(error, OSError) else error
        print(f"error: {reason}; the pin is unchanged", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
