"""Build against an installed llama.cpp (``LLAMA_CY_LINK=system``), when its headers say what the mirror says."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

PREFIXES = ("/opt/homebrew/opt/llama.cpp", "/opt/homebrew", "/usr/local", "/usr")
LIBRARIES = ("llama", "ggml", "ggml-cpu", "ggml-base")
# What the probe's compiler and linker say of a name that is not there.
UNDEFINED = re.compile(r"undefined (?:reference to|symbol:) [`'\"]?_?(\w+)|^\s+\"_(\w+)\", referenced from", re.M)


class InstalledError(Exception):
    """Why the installed llama.cpp cannot be used, in one line."""


class Installed(NamedTuple):
    prefix: Path
    include: Path
    library: Path

    @property
    def link_args(self) -> list[str]:
        """Flags that link it, and find it again unless the loader does anyway."""
        standard = self.prefix == Path("/usr")
        return [f"-L{self.library}", *(f"-l{name}" for name in LIBRARIES),
                *([] if standard else [f"-Wl,-rpath,{self.library}"])]  # fmt: skip


def find(environ: Mapping[str, str]) -> Installed:
    """Look in ``CMAKE_PREFIX_PATH``, then where Homebrew and distributions install."""
    given = [part for part in re.split(r"[;:]", environ.get("CMAKE_PREFIX_PATH", "")) if part]
    for prefix in map(Path, (*given, *PREFIXES)):
        folders = [prefix / "lib", prefix / "lib64", *sorted((prefix / "lib").glob("*-linux-*"))]
        for folder in folders:
            if any((folder / f"libllama.{kind}").exists() for kind in ("so", "dylib")):
                if (prefix / "include" / "llama.h").is_file():
                    return Installed(prefix, prefix / "include", folder)
                raise InstalledError(f"{folder} has libllama but {prefix}/include has no llama.h: install its headers")
    where = ", ".join([*given, *PREFIXES])
    raise InstalledError(f"LLAMA_CY_LINK=system, and no llama.cpp is in {where}; CMAKE_PREFIX_PATH says where it is")


class Claim(NamedTuple):
    """One thing that the mirror says, as a line of C++."""

    name: str
    line: str


def claims(table: str) -> Iterator[Claim]:
    """Read the functions, and the values and layouts, that ``llama_cy_api.h`` was generated from."""
    members = table.partition("struct llama_cy_table {")[2].partition("\n};")[0].partition("signature;")[2]
    for member in re.sub(r"\s+", " ", members).split(";"):
        if found := re.search(r"\(\*(\w+)\)", member):
            # The table's own first members are no functions of llama.cpp.
            kind = member.replace(found[0], "(*)", 1).strip()
            yield Claim(found[1], f"static_assert(std::is_same<decltype(&::{found[1]}), {kind}>::value);")
    for condition in re.findall(r"^LLAMA_CY_CHECK\((.*)\);$", table, re.M):
        # `sizeof(struct x) == 8`, `offsetof(struct x, y) == 0`, `NAME == 1`
        inner = re.search(r"\((?:struct |union )?(\w+)(?:, (\w+))?\)", condition)
        name = ".".join(filter(None, inner.groups())) if inner else condition.split()[0]
        yield Claim(name, f"static_assert({condition});")


def compile_probe(compiler: Sequence[str], source: Path, *arguments: str) -> str:
    """Compile or link the probe; return what the compiler said of its errors."""
    done = subprocess.run([*compiler, "-x", "c++", "-std=c++17", "-w", str(source), *arguments],
                          capture_output=True, text=True, check=False)  # fmt: skip
    if done.returncode != 0 and not done.stderr:
        raise InstalledError(f"{compiler[0]} failed without a word")
    return done.stderr if done.returncode else ""


def check(installed: Installed, table: Path, compiler: Sequence[str], folder: Path) -> None:
    """Compare the installed headers and libraries with the mirror.

    Raises
    ------
    InstalledError
        With the names of the functions, structs and constants that differ.
    """
    all_claims = list(claims(table.read_text(encoding="utf-8")))
    head = ["#include <cstddef>", "#include <type_traits>"]
    head += [f'#include "{name}.h"' for name in ("ggml-cpu", "ggml-opt", "gguf", "llama")]
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / "installed_probe.cpp"
    probe.write_text("\n".join([*head, *(claim.line for claim in all_claims)]) + "\n", encoding="utf-8")
    limit = "-fmax-errors=0" if "clang" not in version(compiler) else "-ferror-limit=0"
    said = compile_probe(compiler, probe, f"-I{installed.include}", "-fsyntax-only", limit)
    lines = {int(number) for number in re.findall(rf"{re.escape(probe.name)}:(\d+):\d+: (?:fatal )?error", said)}
    differ = [claim.name for number, claim in enumerate(all_claims, len(head) + 1) if number in lines]
    if said and not differ:
        raise InstalledError(f"the headers in {installed.include} do not compile: {said.strip().splitlines()[0]}")
    if not differ:
        functions = [claim.name for claim in all_claims if "decltype" in claim.line]
        body = [f"    (const void *) &::{name}," for name in functions]
        text = [*head, "const void * all[] = {", *body, "};", "int main(int n, char **) { return all[n] == nullptr; }"]
        probe.write_text("\n".join(text) + "\n", encoding="utf-8")
        output = ("-o", str(folder / "installed_probe"))
        said = compile_probe(compiler, probe, f"-I{installed.include}", *output, "-x", "none", *installed.link_args)
        differ = sorted({first or second for first, second in UNDEFINED.findall(said)})
        if said and not differ:
            raise InstalledError(f"{installed.library} does not link: {said.strip().splitlines()[-1]}")
    if differ:
        names = ", ".join(dict.fromkeys(differ))
        raise InstalledError(
            f"the llama.cpp in {installed.prefix} is not the one that include/ mirrors; it differs in {names}: "
            "install the pinned version, make a mirror of yours, or build without LLAMA_CY_LINK=system"
        )


def version(compiler: Sequence[str]) -> str:
    return subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False).stdout


if __name__ == "__main__":
    import os

    found = find(os.environ)
    here = Path(__file__).resolve().parent.parent
    check(found, here / "include" / "llama_cy_api.h", [os.environ.get("CXX", "c++")], here / "build")
    print(f"the llama.cpp in {found.prefix} is what include/ mirrors", file=sys.stderr)
