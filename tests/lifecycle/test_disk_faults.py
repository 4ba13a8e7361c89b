"""A disk that is full, and a folder that nobody may write to: an exception, and no half file under any name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.child import check_output

SAVERS = {
    "snapshot": "context.snapshot().save(path)",
    "snapshot of a sequence": "context.snapshot(0).save(path)",
    "state": "context.state.save(path)",
    "session": "context.state.save_session(path)",
    "session of a sequence": "context.state.save_session(path, seq_id=0)",
    "model": "model.save(path)",
    "adapter": "llama_cy.write_lora(path, model, {'output.weight': pair})",
    "control vector": "llama_cy.ControlVector(directions).save(path)",
    "quantization": "llama_cy.quantize(source, path, 'Q8_0')",
}

SETUP = """
# Nobody may not read where these are.
import hashlib, random, shutil, tempfile
import json, os, resource, signal, stat, sys
import numpy as np
import llama_cy
import llama_cy.adapter_file, llama_cy.control_vector, llama_cy.quantize, llama_cy.session, llama_cy.whole_file

source, folder, saver, before = sys.argv[1:]
model = llama_cy.Model(source, n_gpu_layers=0)
context = model.context(n_ctx=64, n_threads=1)
context.decode(list(range(1, 40)))
pair = np.ones((4, model.n_embd)), np.ones((model.vocab.n_tokens, 4))
directions = np.ones((model.n_layer, model.n_embd), np.float32)
path = os.path.join(folder, "saved")

def save():
    try:
        exec(saver)
    except (OSError, llama_cy.LlamaError) as error:
        return type(error).__name__
    return ""
"""

FULL = """
assert save() == "", save()
size = os.path.getsize(path)
os.unlink(path)
if before:
    with open(path, "w") as file:
        file.write(before)
found = {}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in sorted({0, 1, 40, size // 3, size - 4097, size - 1} & set(range(size))):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    raised = save()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    left = {name: os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder)}
    if not raised or left != ({"saved": len(before)} if before else {}):
        found[limit] = [raised, left]
# With room again, the same objects do it.
assert save() == "", save()
assert os.path.getsize(path) == size
print(json.dumps(found))
"""


@pytest.mark.parametrize("before", ["", "what was there"])
@pytest.mark.parametrize("saver", SAVERS)
def test_a_full_disk(tiny_path: Path, tmp_path: Path, saver: str, before: str) -> None:
    """The system refuses to write more than so many bytes to a file, as it does on a full disk."""
    assert json.loads(check_output(SETUP + FULL, tiny_path, tmp_path, SAVERS[saver], before)) == {}


READ_ONLY = """
os.chmod(folder, 0o555)
if os.getuid() == 0:
    # Nothing is read-only for root.
    os.setuid(65534)
print(json.dumps([save(), os.listdir(folder)]))
"""


@pytest.mark.parametrize("saver", SAVERS)
def test_a_folder_that_nobody_may_write_to(tiny_path: Path, tmp_path: Path, saver: str) -> None:
    # Whoever the child becomes must get here.
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o5 != 0o5:
            folder.chmod(0o755)
    source = tmp_path / "source.gguf"
    source.write_bytes(tiny_path.read_bytes())
    (tmp_path / "shut").mkdir()
    raised, left = json.loads(check_output(SETUP + READ_ONLY, source, tmp_path / "shut", SAVERS[saver], ""))
    assert (raised, left) == ("PermissionError", [])


OTHERS = """
os.mkfifo(path)
assert save() == "OSError"
assert stat.S_ISFIFO(os.stat(path).st_mode)
os.unlink(path)
os.mkdir(path)
assert save() == "IsADirectoryError"
os.rmdir(path)
os.symlink("elsewhere", path)
assert save() == ""
assert os.readlink(path) == "elsewhere"
print(sorted(os.listdir(folder)), os.path.getsize(os.path.join(folder, "elsewhere")) > 0)
"""


@pytest.mark.parametrize("saver", SAVERS)
def test_what_is_no_file_stays(tiny_path: Path, tmp_path: Path, saver: str) -> None:
    """Whoever saves to /dev/null as root would take it from everybody. A link stays a link."""
    assert check_output(SETUP + OTHERS, tiny_path, tmp_path, SAVERS[saver], "") == "['elsewhere', 'saved'] True\n"
