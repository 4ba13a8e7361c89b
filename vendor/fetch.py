"""Fetch the pinned llama.cpp source into ``vendor/llama.cpp``: ``python vendor/fetch.py``.

Needs the standard library and any pip. See ``vendor/README.md`` for what is fetched, from where, and what is proved.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

VENDOR = Path(__file__).resolve().parent
PIN = VENDOR / "llama.cpp.txt"
TREE = VENDOR / "llama.cpp"
STAMP = ".llama_cy_commit"
SUBMODULE = "vendor/llama.cpp"
GIT_DIR = f".git/modules/{SUBMODULE}"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)

# What the build (core, common, mtmd) and the tests (vocabularies, templates, grammars) read, and the licences.
KEEP = (
    *("CMakeLists.txt", "LICENSE", "AUTHORS", "cmake", "common", "ggml", "grammars", "include", "licenses", "models"),
    *("src", "tools/mtmd", "vendor"),
)

# pip prepares the metadata of every source distribution it downloads. This stands in for the package's own build
# backend, so that none of its build code runs and none of its build requirements is installed.
BUILD_BACKEND = """\
import os

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    name = "{name}-{version}.dist-info"
    os.makedirs(os.path.join(metadata_directory, name))
    with open(os.path.join(metadata_directory, name, "METADATA"), "w") as f:
        f.write("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return name
"""


class FetchError(Exception):
    """What went wrong, in one line."""


class Pin(NamedTuple):
    requirement: str
    version: str
    sha256: str
    commit: str


class Stamp(NamedTuple):
    commit: str
    sha256: str
    proof: str
    files: str


def pinned() -> Pin:
    """Return the pin that ``vendor/llama.cpp.txt`` holds."""
    text = PIN.read_text(encoding="utf-8")
    commit = re.search(r"^# llama\.cpp commit: ([0-9a-f]{40})$", text, re.M)
    package = re.search(r"^(([\w-]+)==(\S+)) --hash=sha256:([0-9a-f]{64})$", text, re.M)
    if commit is None or package is None:
        raise FetchError(f"{PIN} lacks '# llama.cpp commit: <commit>' or '<package>==<version> --hash=sha256:<hash>'")
    return Pin(package[1], package[3], package[4], commit[1])


def stamp(tree: Path = TREE) -> Stamp | None:
    """Return the stamp of a fetched tree; None for a tree that did not come from here."""
    try:
        lines = (tree / STAMP).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    values = dict(line.split(" ", 1) for line in lines if " " in line)
    return Stamp(*(values.get(field, "") for field in Stamp._fields))


def is_checkout(tree: Path) -> bool:
    return (tree / "include" / "llama.h").is_file()


def is_empty(tree: Path) -> bool:
    return tree.is_dir() and not any(tree.iterdir())


def commit_of(source: Path) -> str:
    """Return the upstream commit of a source tree, by its stamp or its own git objects; "unknown" without either."""
    if found := stamp(source):
        return found.commit
    if (source / ".git").exists() and has_git():
        done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=source, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return "unknown"


def source_dir(environ: Mapping[str, str]) -> Path:
    """Return the llama.cpp source to build.

    ``LLAMA_CPP_SOURCE`` comes first, then a checkout at ``vendor/llama.cpp``, then the pinned source, fetched there.
    """
    if chosen := environ.get("LLAMA_CPP_SOURCE"):
        source = Path(chosen).expanduser().resolve()
        if not is_checkout(source):
            raise FetchError(f"LLAMA_CPP_SOURCE={chosen} is not a llama.cpp checkout: it has no include/llama.h")
        return source
    return fetch()


def fetch(*, force: bool = False, verbose: bool = False) -> Path:
    """Bring the pinned llama.cpp to ``vendor/llama.cpp`` unless it is there already, and return that path."""
    try:
        if force or not is_current(pinned()):
            with lock() as alone:
                pin = pinned()
                if force or not is_current(pin):  # another process may have fetched it while we waited
                    print(f"fetching llama.cpp {pin.commit[:12]} from {pin.requirement} ...", flush=True)
                    install(pin, clean=alone, verbose=verbose)
    except OSError as error:
        raise FetchError(explain(error)) from error
    return TREE


def is_current(pin: Pin) -> bool:
    """Tell whether ``vendor/llama.cpp`` stays: fetched from this pin, or a checkout of the user's own."""
    if not os.path.lexists(TREE) or is_empty(TREE):
        return False
    found = stamp()
    if found is None:
        if is_checkout(TREE):
            return True
        raise FetchError(f"{TREE} exists and is not a llama.cpp checkout (it has no include/llama.h): move it away")
    return found.commit == pin.commit and found.sha256 == pin.sha256 and is_checkout(TREE)


@contextlib.contextmanager
def lock() -> Iterator[bool]:
    """Let one process at a time fetch; a second one waits. Yield whether the lock is held."""
    import fcntl  # POSIX only; a build from LLAMA_CPP_SOURCE does not need it

    # The pin itself is the lock file: no extra file stays behind. Network file systems lock only what is open to write.
    with PIN.open("r+b" if os.access(PIN, os.W_OK) else "rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another fetch of {TREE} ...", flush=True)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # no locks here: the final rename is still atomic, only the work may be done twice
            yield False
            return
        yield True


def install(pin: Pin, *, clean: bool, verbose: bool = False) -> None:
    """Download, prove and unpack the pinned source beside the target, then swap it in."""
    if os.path.lexists(TREE) and stamp() is None and not is_empty(TREE):
        raise FetchError(f"{TREE} is a checkout of your own and stays: move it away to fetch the pinned source")
    if clean:
        for leftover in VENDOR.glob(".llama.cpp.*"):  # of a run that was killed
            shutil.rmtree(leftover, ignore_errors=True)
    with workspace() as work:
        archive = download(f"{pin.requirement} --hash=sha256:{pin.sha256}", work, verbose=verbose)
        new, proof = unpack(archive, work, pin.commit)
        values = Stamp(pin.commit, pin.sha256, proof, digest(new))
        lines = (f"{field} {value}\n" for field, value in zip(Stamp._fields, values, strict=True))
        (new / STAMP).write_text("".join(lines), encoding="utf-8")
        if TREE.exists():
            TREE.rename(work / "old")
        try:
            new.rename(TREE)
        except BaseException:
            if (work / "old").exists():
                (work / "old").rename(TREE)
            raise


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """Yield a directory beside the target, on its file system, that is gone afterwards."""
    work = Path(tempfile.mkdtemp(prefix=".llama.cpp.", dir=VENDOR))
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def download(requirement: str, work: Path, *, verbose: bool = False) -> Path:
    """Let pip download a source distribution and, if the requirement has a hash, verify it."""
    name, _, version = requirement.partition(" ")[0].partition("==")
    backend = work / "backend" / "scikit_build_core"
    downloads, scratch = work / "download", work / "scratch"
    for directory in (backend, downloads, scratch):
        directory.mkdir(parents=True)
    (backend / "__init__.py").touch()
    build = BUILD_BACKEND.format(name=name.replace("-", "_"), version=version)
    (backend / "build.py").write_text(build, encoding="utf-8")
    (work / "requirements.txt").write_text(requirement + "\n", encoding="utf-8")
    python_path = os.pathsep.join(filter(None, [str(backend.parent), os.environ.get("PYTHONPATH")]))
    environ = dict(os.environ, PYTHONPATH=python_path, TMPDIR=str(scratch))
    environ.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PIP_REQUIRE_VIRTUALENV="0")
    environ.setdefault("PIP_RETRIES", "2")
    command = [
        *pip(environ), "download", "-vv", "--no-deps", "--no-binary", ":all:", "--no-build-isolation",
        *(["--require-hashes"] if "--hash" in requirement else []),
        "-r", str(work / "requirements.txt"), "-d", str(downloads),
    ]  # fmt: skip
    done = subprocess.run(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                          errors="replace", cwd=work, check=False)  # fmt: skip
    if verbose:
        print(done.stdout, file=sys.stderr)
    archives = list(downloads.glob("*.tar.gz"))
    if done.returncode != 0 or len(archives) != 1:
        raise FetchError(diagnose(done.stdout, requirement))
    shutil.rmtree(scratch)
    return archives[0]


def pip(environ: Mapping[str, str]) -> list[str]:
    """Return a command that runs pip: this interpreter's, the wheel that comes with ensurepip, or its base's."""
    bundled = [Path(sysconfig.get_path("stdlib"), "ensurepip", "_bundled")]
    if directory := sysconfig.get_config_var("WHEEL_PKG_DIR"):  # where Linux distributions move those wheels
        bundled.insert(0, Path(directory))
    wheels = [str(wheel / "pip") for directory in bundled for wheel in sorted(directory.glob("pip-*.whl"))]
    base = getattr(sys, "_base_executable", sys.executable)
    # -I: inside an isolated build, PYTHONPATH and sitecustomize hide the environment's own pip.
    for python in ([sys.executable, "-I"], [sys.executable], *([] if wheels else [[base, "-I"]])):
        if subprocess.run([*python, "-c", "import pip"], env=environ, capture_output=True, check=False).returncode == 0:
            return [*python, "-m", "pip"]
    if wheels:
        return [sys.executable, wheels[-1]]
    raise FetchError(f"{sys.executable} has no pip: run {Path(__file__)} once with a Python that has one, "
                     "or set LLAMA_CPP_SOURCE to a llama.cpp checkout")  # fmt: skip


def diagnose(output: str, requirement: str) -> str:
    """Return the one line that matters in what ``pip -vv`` printed."""
    package = requirement.partition(" ")[0]
    if "DO NOT MATCH THE HASHES" in output:
        got = re.search(r"Got\s+([0-9a-f]{64})", output)
        return f"hash mismatch: {package} has sha256 {got[1] if got else 'unknown'}, not the one in {PIN}"
    for code, _, path in re.findall(r"\[Errno (\d+)\] ([^:'\n]*)(?:: '([^'\n]*)')?", output):
        if int(code) in NO_ROOM + NOT_WRITABLE:
            return explain(OSError(int(code), os.strerror(int(code)), path or None))
    if cause := re.search(r"Could not fetch URL \S+: (?:connection error|There was a problem)(.*) - skipping", output):
        reason = re.split(r"\[Errno -?\d+\] |Caused by ", cause[1])[-1].strip(" :()'")
        return (f"no package index can be reached to download {package} ({reason}): "
                "are you offline? LLAMA_CPP_SOURCE can name a llama.cpp checkout instead")  # fmt: skip
    if "No matching distribution found" in output:
        return f"the package index has no source distribution {package}"
    errors = re.findall(r"^(?:ERROR: (?!Exception:)|[\w.]+(?:Error|Exception): )(.*)", output, re.M)
    return f"pip could not download {package}: {errors[-1].strip() if errors else 'it gave no reason'}"


def explain(error: OSError) -> str:
    reason = error.strerror or str(error)
    if error.errno in NO_ROOM:
        return f"no room for llama.cpp in {VENDOR}, which takes about 350 MB while it is unpacked: {reason}"
    if error.errno in NOT_WRITABLE:
        return f"{error.filename or VENDOR} is not writable: {reason}"
    return f"{error.filename or VENDOR}: {reason}"


def has_git() -> bool:
    if shutil.which("git") is None:
        return False
    # macOS has a git that only says how to install the developer tools.
    return subprocess.run(["git", "--version"], capture_output=True, check=False).returncode == 0


def unpack(archive: Path, work: Path, commit: str) -> tuple[Path, str]:
    """Unpack what we keep of the archive's llama.cpp; return where, and what was proved about it."""
    with_git = has_git()
    full, git_dir, new = work / "full", work / "git", work / "new"
    for directory in (full, git_dir / "refs", new):
        directory.mkdir(parents=True)
    if (head := upstream_commit(archive)) != commit:
        raise FetchError(f"{archive.name} holds llama.cpp commit {head}, not {commit}")
    extract(archive, full, git_dir, everything=with_git)
    if with_git:
        prove(full, git_dir, commit)
    for name in KEEP:
        if not (full / name).exists():
            raise FetchError(f"{archive.name} has no {SUBMODULE}/{name}: not the tree that was expected")
        (new / name).parent.mkdir(parents=True, exist_ok=True)
        (full / name).rename(new / name)
    return new, "archive hash and git tree proved" if with_git else "archive hash proved; no git here to prove the tree"


@contextlib.contextmanager
def opened(archive: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(archive, "r:gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError, KeyError, ValueError, zlib.error) as error:
        raise FetchError(f"{archive.name} cannot be unpacked: {error}") from error


def inner_path(member: tarfile.TarInfo) -> PurePosixPath:
    """Return the path below the archive's only top directory."""
    return PurePosixPath(*PurePosixPath(member.name).parts[1:])


def upstream_commit(archive: Path) -> str:
    """Return the commit that is checked out in the archive."""
    with opened(archive) as tar:
        for member in tar:
            if inner_path(member) == PurePosixPath(GIT_DIR, "HEAD") and (content := tar.extractfile(member)):
                return content.read().decode("ascii", "replace").strip()
    raise FetchError(f"{archive.name} has no {GIT_DIR}/HEAD: not the tree that was expected")


def extract(archive: Path, full: Path, git_dir: Path, *, everything: bool) -> None:
    """Extract what we keep of llama.cpp or, to prove it, ``everything`` and the git objects."""
    now = time.time()
    # Older Pythons lack the filter; newer ones warn without it.
    options: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with opened(archive) as tar:
        for member in tar:
            path = inner_path(member)
            if path.is_relative_to(SUBMODULE):
                target, name = full, path.relative_to(SUBMODULE)
                wanted = everything or any(name.is_relative_to(kept) for kept in KEEP)
            elif path.is_relative_to(GIT_DIR):
                target, name = git_dir, path.relative_to(GIT_DIR)
                # Neither its configuration nor its index: git is to trust nothing but the objects.
                wanted = everything and name.parts[:1] in (("HEAD",), ("objects",), ("shallow",))
            else:
                continue
            if wanted and name.parts:
                # The archive's times are all alike and old: a build that compares times would miss a new version.
                member.name, member.mtime = str(name), now
                tar.extract(member, target, **options)


def prove(tree: Path, git_dir: Path, commit: str) -> None:
    """Raise unless the tree is, file for file, that commit, by the git objects of the archive."""
    (git_dir / "config").write_text("[core]\n\trepositoryformatversion = 0\n\tfilemode = false\n", encoding="ascii")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    environ.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull, GIT_OPTIONAL_LOCKS="0", LC_ALL="C")

    def git(*arguments: str) -> str:
        command = ["git", f"--git-dir={git_dir}", f"--work-tree={tree}", *arguments]
        done = subprocess.run(command, env=environ, cwd=tree, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            reason = (done.stderr.strip() or "it gave no reason").splitlines()[-1]
            raise FetchError(f"the archive's git objects do not prove commit {commit}: git {arguments[0]}: {reason}")
        return done.stdout

    git("fsck", "--no-dangling", "--no-reflogs", commit)
    git("read-tree", commit)
    if changes := git("status", "--porcelain", "--untracked-files=all", "--ignored").splitlines():
        raise FetchError(f"the archive's llama.cpp is not a clean checkout of {commit}: "
                         f"{len(changes)} files differ, the first is {changes[0].split(maxsplit=1)[1]}")  # fmt: skip


def digest(tree: Path) -> str:
    """Return a hash over the names and contents of all files but the stamp."""
    total = hashlib.sha256()
    for path in sorted(path for path in tree.rglob("*") if path.is_file() and path.name != STAMP):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{content} {path.relative_to(tree).as_posix()}\n".encode())
    return total.hexdigest()


def describe() -> str:
    if found := stamp():
        return f"{TREE} is llama.cpp {found.commit} ({found.proof})"
    return f"{TREE} is a checkout of your own, at commit {commit_of(TREE)}: left as it is"


def check() -> str:
    """Say what is at ``vendor/llama.cpp``; raise unless it is the pinned source, unchanged. Needs no network."""
    pin, found = pinned(), stamp()
    if found is None:
        raise FetchError(describe() if is_checkout(TREE) else f"{TREE} is not there")
    if (found.commit, found.sha256) != (pin.commit, pin.sha256):
        raise FetchError(f"{TREE} is llama.cpp {found.commit}, the pin is {pin.commit}")
    if digest(TREE) != found.files:
        raise FetchError(f"{TREE} was changed since it was fetched: python {Path(__file__)} --force restores it")
    return f"{describe()}, unchanged"


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch the pinned llama.cpp source into vendor/llama.cpp.")
    parser.add_argument("--force", action="store_true", help="fetch even if the pinned source is there already")
    parser.add_argument("--check", action="store_true", help="only tell whether it is there, unchanged")
    parser.add_argument("--verbose", action="store_true", help="show what pip prints")
    arguments = parser.parse_args()
    # So that a terminated run removes its workspace, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        if arguments.check:
            print(check())
        else:
            fetch(force=arguments.force, verbose=arguments.verbose)
            print(describe())
    except (FetchError, OSError) as error:
        print(f"error: {explain(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
