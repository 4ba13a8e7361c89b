"""A window stays alive while a story is told in it: shown under a virtual display."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import child

APP = Path(__file__).resolve().parents[2] / "examples" / "apps" / "tk_story.py"

PROGRAM = """
import importlib.util, sys, time, tkinter
import llama_cy

spec = importlib.util.spec_from_file_location("tk_story", sys.argv[1])
tk_story = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tk_story)

def slowly(stream):
    # As a larger model does: a story of the built-in one may be over between two looks at it.
    for piece in stream:
        time.sleep(0.005)
        yield piece

class Window(tk_story.StoryWindow):
    def generate(self, stream):
        super().generate(slowly(stream))

root = tkinter.Tk()
window = Window(root, llama_cy.demo_model())
beats, telling, lengths = 0, 0, set()

def beat():
    global beats, telling
    beats += 1
    if window.button["state"] == "disabled":
        telling += 1
        lengths.add(len(window.text.get("1.0", "end")))
    root.after(1, beat)

def wait_for_end():
    if window.button["state"] == "disabled":
        root.after(10, wait_for_end)
    else:
        print(window.text.get("1.0", "end").strip())
        window.text.delete("1.0", "end")
        # Closed in the middle of the next one.
        window.tell()
        root.after(30, window.close)

beat()
window.button.invoke()
wait_for_end()
root.mainloop()
assert telling > 10, telling
# It grew while the events went on.
assert len(lengths) > 3, lengths
assert not window.teller.is_alive()
assert window.context.closed
"""


@pytest.fixture(scope="module")
def display() -> Iterator[str]:
    """Start a virtual display and give its name."""
    if importlib.util.find_spec("_tkinter") is None:
        pytest.skip("this Python was built without Tk")
    server = shutil.which("Xvfb")
    if server is None:
        if not os.environ.get("DISPLAY") and sys.platform != "darwin":
            pytest.skip("there is no display, and no Xvfb to make one (apt install xvfb)")
        yield os.environ.get("DISPLAY", "")
        return
    read, write = os.pipe()
    # It chooses a free number, and says which.
    command = [server, "-displayfd", str(write), "-screen", "0", "800x600x24", "-nolisten", "tcp"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as process:
        os.close(write)
        with os.fdopen(read) as pipe:
            number = pipe.readline().strip()
        try:
            yield f":{number}"
        finally:
            process.terminate()


def test_the_window_stays_alive(display: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(child.ENVIRON, "DISPLAY", display)
    assert len(child.check_output(PROGRAM, APP).split()) > 20
