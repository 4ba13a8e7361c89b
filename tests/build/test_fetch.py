"""``vendor/fetch.py``, run on small source distributions made here and, once, on the real one."""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.sdist import ROOT, Sdist, Vendor, git, load, make_sdist


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Sdist:
    return make_sdist(tmp_path_factory.mktemp("sdist"))


@pytest.fixture
def vendor(tmp_path: Path, sdist: Sdist) -> Vendor:
    return Vendor(tmp_path / "vendor", sdist)


def test_fetch_check_and_second_run(vendor: Vendor) -> None:
    started = time.time()
    code, out, err = vendor.run()
    assert (code, err) == (0, "")
    assert out.startswith("fetching llama.cpp ")
    assert sorted(path.name for path in vendor.tree.iterdir()) == sorted(
        {".llama_cy_commit", *(name.partition("/")[0] for name in load(vendor.script).KEEP)}
    )
    assert vendor.leftovers() == []
    stamp = load(vendor.script).stamp()
    assert stamp.commit == vendor.sdist.commit
    assert stamp.proof == "archive hash and git tree proved"
    # A build that compares file times must see a new version as changed.
    assert (vendor.tree / "include" / "llama.h").stat().st_mtime >= started - 1

    before = vendor.tree.stat()
    started = time.monotonic()
    code, out, err = vendor.run(index="http://127.0.0.1:9/simple")
    assert time.monotonic() - started < 1
    assert (code, err) == (0, "")
    assert "fetching" not in out
    assert (vendor.tree.stat().st_ino, vendor.tree.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)

    code, out, _ = vendor.run("--check")
    assert code == 0
    assert out.endswith("unchanged\n")
    (vendor.tree / "src" / "file.txt").write_text("edited")
    assert "was changed since it was fetched" in vendor.fails("--check")
    assert vendor.run("--force")[0] == 0
    assert vendor.run("--check")[0] == 0


def test_check_without_tree_says_so(vendor: Vendor) -> None:
    assert "is not there" in vendor.fails("--check")


def test_hash_mismatch_leaves_old_tree(vendor: Vendor) -> None:
    assert vendor.run()[0] == 0
    inode = vendor.tree.stat().st_ino
    actual = re.search(r"sha256:(\w+)", vendor.sdist.pin)
    assert actual is not None
    vendor.pin.write_text(vendor.sdist.pin.replace(actual[1], "0" * 64))
    line = vendor.fails()
    assert "hash mismatch" in line
    assert actual[1] in line
    assert vendor.tree.stat().st_ino == inode


def test_unreachable_index(vendor: Vendor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "are you offline?" in vendor.fails(index=f"http://127.0.0.1:{port}/simple")
    assert not vendor.tree.exists()


def test_index_without_the_package(vendor: Vendor, tmp_path: Path) -> None:
    line = vendor.fails(env={"PIP_FIND_LINKS": str(tmp_path)})
    assert "no source distribution llama-cpp-python==0.0.1" in line


def limit_file_size(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_no_room_for_pip(vendor: Vendor) -> None:
    line = vendor.fails(preexec_fn=limit_file_size(2000))
    assert "no room for llama.cpp" in line
    assert not vendor.tree.exists()


def test_no_room_to_unpack(vendor: Vendor, tmp_path: Path) -> None:
    def grow(tree: Path) -> None:
        (tree / "models" / "large").write_bytes(bytes(1_000_000))

    large = make_sdist(tmp_path, spoil=grow)
    vendor.pin.write_text(large.pin)
    program = (
        f"import sys; sys.path.insert(0, {str(vendor.path)!r}); import fetch, pathlib\n"
        f"fetch.download = lambda *a, **k: pathlib.Path({str(large.archive)!r})\nsys.exit(fetch.main())"
    )
    limit = limit_file_size(100_000)
    done = subprocess.run(
        [sys.executable, "-c", program], preexec_fn=limit, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: no room for llama\.cpp [^\n]+\n", done.stderr)
    assert not vendor.tree.exists()
    assert vendor.leftovers() == []


@pytest.mark.parametrize(
    ("code", "text"), [(errno.ENOSPC, "no room"), (errno.EDQUOT, "no room"), (errno.EROFS, "not writable")]
)
def test_os_errors_in_one_line(
    vendor: Vendor, sdist: Sdist, monkeypatch: pytest.MonkeyPatch, code: int, text: str
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    fetch = vendor.module(monkeypatch, sdist)
    monkeypatch.setattr(tarfile.TarFile, "extract", fail)
    with pytest.raises(fetch.FetchError, match=text):
        fetch.fetch()
    assert vendor.leftovers() == []
    pip_says = (
        f"Collecting x\nERROR: Could not install packages due to an OSError: [Errno {code}] {os.strerror(code)}\n"
    )
    assert text in fetch.diagnose(pip_says, "x==1")


def test_vendor_not_writable(vendor: Vendor, sdist: Sdist, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object, **options: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(vendor.path))

    fetch = vendor.module(monkeypatch, sdist)
    monkeypatch.setattr(fetch.tempfile, "mkdtemp", fail)
    with pytest.raises(fetch.FetchError, match=rf"^{re.escape(str(vendor.path))} is not writable"):
        fetch.fetch()


def edit(tree: Path) -> None:
    (tree / "src" / "file.txt").write_text("edited")


def add(tree: Path) -> None:
    (tree / "src" / "extra.txt").write_text("added")


def hide(tree: Path) -> None:
    (tree / "docs" / "build.md").unlink()


def corrupt(tree: Path) -> None:
    objects = tree.parents[1] / ".git" / "modules" / "vendor" / "llama.cpp" / "objects"
    largest = max((path for path in objects.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.chmod(0o644)
    largest.write_bytes(b"corrupt")


def forget_objects(tree: Path) -> None:
    shutil.rmtree(tree.parents[1] / ".git")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (edit, "not a clean checkout of .*: 1 files differ, the first is src/file.txt"),
        (add, "not a clean checkout of .*: 1 files differ, the first is src/extra.txt"),
        (hide, "not a clean checkout of .*: 1 files differ, the first is docs/build.md"),
        (corrupt, "git objects do not prove commit"),
        (forget_objects, "not the tree that was expected"),
    ],
)
def test_tree_that_is_not_the_commit(
    vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Path], object], text: str
) -> None:
    fetch = vendor.module(monkeypatch, make_sdist(tmp_path, spoil=spoil))
    with pytest.raises(fetch.FetchError, match=text):
        fetch.fetch()
    assert not vendor.tree.exists()
    assert vendor.leftovers() == []


def test_other_commit_than_pinned(vendor: Vendor, sdist: Sdist, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = vendor.module(monkeypatch, sdist)
    vendor.pin.write_text(sdist.pin.replace(sdist.commit, "0" * 40))
    with pytest.raises(fetch.FetchError, match=f"holds llama.cpp commit {sdist.commit}, not 0000"):
        fetch.fetch()


def test_missing_part_of_the_tree(vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = vendor.module(monkeypatch, make_sdist(tmp_path))
    monkeypatch.setattr(fetch, "KEEP", (*fetch.KEEP, "missing"))
    with pytest.raises(fetch.FetchError, match=r"has no vendor/llama\.cpp/missing"):
        fetch.fetch()


def test_truncated_archive(vendor: Vendor, sdist: Sdist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(sdist.archive.read_bytes()[: sdist.archive.stat().st_size // 2])
    fetch = vendor.module(monkeypatch, Sdist(cut, sdist.commit))
    vendor.pin.write_text(sdist.pin)
    with pytest.raises(fetch.FetchError, match=r"cut\.tar\.gz"):
        fetch.fetch()


def test_file_modes_are_noise(vendor: Vendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = vendor.module(monkeypatch, make_sdist(tmp_path, spoil=lambda tree: (tree / "build.sh").chmod(0o755)))
    assert fetch.fetch() == vendor.tree


def test_without_git_the_stamp_says_so(vendor: Vendor, tmp_path: Path) -> None:
    assert vendor.run(env={"PATH": str(tmp_path)})[0] == 0
    assert load(vendor.script).stamp().proof == "archive hash proved; no git here to prove the tree"
    assert (vendor.tree / "include" / "llama.h").is_file()
    assert not (vendor.tree / "docs").exists()


def test_without_pip(vendor: Vendor, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    assert subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0
    code, _, err = vendor.run(python=str(python))
    assert (code, err) == (0, "")
    assert load(vendor.script).stamp().commit == vendor.sdist.commit


def test_no_pip_anywhere(vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = load(vendor.script)
    monkeypatch.setattr(fetch.subprocess, "run", lambda command, **options: subprocess.CompletedProcess(command, 1))
    monkeypatch.setattr(fetch.sysconfig, "get_path", lambda name: str(vendor.path))
    monkeypatch.setattr(fetch.sysconfig, "get_config_var", lambda name: None)
    with pytest.raises(fetch.FetchError, match=r"has no pip: .*LLAMA_CPP_SOURCE"):
        fetch.pip({})


def make_checkout(path: Path) -> Path:
    (path / "include").mkdir(parents=True)
    (path / "include" / "llama.h").touch()
    return path


def test_named_source_comes_first(vendor: Vendor, tmp_path: Path) -> None:
    make_checkout(vendor.tree)
    fetch = load(vendor.script)
    mine = make_checkout(tmp_path / "mine")
    assert fetch.source_dir({"LLAMA_CPP_SOURCE": str(mine)}) == mine
    assert fetch.source_dir({}) == vendor.tree
    with pytest.raises(fetch.FetchError) as caught:
        fetch.source_dir({"LLAMA_CPP_SOURCE": str(tmp_path)})
    assert str(caught.value).startswith(f"LLAMA_CPP_SOURCE={tmp_path} is not")


def test_own_checkout_is_never_replaced(vendor: Vendor) -> None:
    make_checkout(vendor.tree)
    git("init", "-q", cwd=vendor.tree)
    git("add", "-A", cwd=vendor.tree)
    git("commit", "-q", "-m", "Mine", cwd=vendor.tree)
    commit = git("rev-parse", "HEAD", cwd=vendor.tree).strip()
    code, out, _ = vendor.run()
    assert code == 0
    assert f"a checkout of your own, at commit {commit}: left as it is" in out
    assert "stays" in vendor.fails("--force")
    assert "checkout of your own" in vendor.fails("--check")
    assert load(vendor.script).commit_of(vendor.tree) == commit


def test_fetched_tree_follows_the_pin(
    vendor: Vendor, sdist: Sdist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.tree.mkdir()  # an empty directory is as good as none
    fetch = vendor.module(monkeypatch, sdist)
    assert fetch.source_dir({}) == vendor.tree
    newer = make_sdist(tmp_path, version="0.0.2")
    fetch = vendor.module(monkeypatch, newer)
    assert "the pin is" in vendor.fails("--check")
    assert fetch.source_dir({}) == vendor.tree
    assert fetch.commit_of(vendor.tree) == newer.commit != sdist.commit
    assert "llama_0_0_2" in (vendor.tree / "include" / "llama.h").read_text()
    assert vendor.leftovers() == []


def test_something_else_in_its_place(vendor: Vendor) -> None:
    vendor.tree.mkdir()
    (vendor.tree / "notes.txt").touch()
    assert "move it away" in vendor.fails()


def test_pin_that_says_nothing(vendor: Vendor) -> None:
    vendor.pin.write_text("llama-cpp-python==0.0.1\n")
    assert "lacks" in vendor.fails()


def test_concurrent_runs_fetch_once(vendor: Vendor) -> None:
    processes = [vendor.start() for _ in range(3)]
    results = [(process.communicate(timeout=120), process.returncode) for process in processes]
    assert [(err, code) for (_, err), code in results] == [("", 0)] * 3
    assert sum("fetching" in out for (out, _), _ in results) == 1
    assert vendor.run("--check")[0] == 0
    assert vendor.leftovers() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_interrupted_run_leaves_nothing(vendor: Vendor, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        process = vendor.start(index=f"http://127.0.0.1:{silent.getsockname()[1]}/simple", start_new_session=True)
        connection, _ = silent.accept()  # pip is waiting for an answer now
        with connection:
            assert vendor.leftovers() != []
            # A terminal's Ctrl-C reaches pip too; the others reach the process that is named.
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
            _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert not vendor.tree.exists()
    if number == signal.SIGKILL:  # what nobody can catch, the next run cleans up
        assert vendor.run()[0] == 0
    assert vendor.leftovers() == []


@pytest.mark.network
def test_real_archive(vendor: Vendor) -> None:
    """The pinned archive is what the pin says; pip's cache makes this cheap the second time."""
    shutil.copy(ROOT / "vendor" / "llama.cpp.txt", vendor.pin)
    vendor.environ = dict(os.environ)
    code, _, err = vendor.run()
    assert (code, err) == (0, "")
    fetch = load(vendor.script)
    assert fetch.stamp().proof == "archive hash and git tree proved"
    assert fetch.commit_of(vendor.tree) == fetch.pinned().commit
    assert len(list((vendor.tree / "models").glob("ggml-vocab-*.gguf"))) > 10
    assert (vendor.tree / "tools" / "mtmd" / "mtmd.h").is_file()
