"""In a notebook: tables, a progress bar under the cell, and Ctrl-C; in a real kernel."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.manager import KernelManager
from support.child import environment
from support.llama_models import write_llama

import llama_cy
from llama_cy.completion import Completion, Timings
from llama_cy.notebook import completion_html, in_notebook, model_html

SECONDS = 60


class Reader(HTMLParser):
    """Reads back what a browser would show, and refuses tags that are not ours."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@given(text=st.text(st.characters(exclude_characters="\r\x00", exclude_categories=["Cs"])))
def test_text_is_escaped(text: str) -> None:
    html = completion_html(Completion(text, [1, 2], "stop", Timings(1, 0.1, 2, 0.5)))
    assert re.fullmatch(r"<div><pre style='white-space: pre-wrap'>[^<>]*</pre><small>[^<>]*</small></div>", html)
    read = Reader(html)
    assert "".join(read.texts) == f"{text}2 tokens, stop, 4 tokens per second"
    assert read.tags == ["div", "pre", "small"]


def test_a_completion_without_times() -> None:
    assert "0 tokens, length<" in completion_html(Completion("", [], "length", Timings(0, 0.0, 0, 0.0)))


def test_a_model_is_a_table(tmp_path: Path) -> None:
    path = write_llama(tmp_path / "<b>model.gguf", metadata={"general.name": "<script>alert(1)</script>"})
    with llama_cy.Model(path) as model:
        html = model_html(model)
        assert model._repr_html_() == html
        assert "<script" not in html
        assert "<b>" not in html
        texts = Reader(html).texts
        assert texts[0] == "<script>alert(1)</script>"
        assert str(path) in texts
        assert f"{model.n_params:,}" in texts
    assert "closed" in model_html(model)


def test_a_vocabulary_is_a_table_too(tiny_path: Path) -> None:
    with llama_cy.Model(tiny_path, vocab_only=True) as model:
        assert "vocabulary" in model_html(model)


def test_this_is_no_notebook() -> None:
    assert not in_notebook()
    code = "from llama_cy.notebook import in_notebook; import IPython; assert not in_notebook()"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS)


class Kernel:
    """A kernel of Jupyter."""

    def __init__(self) -> None:
        self.manager: Any = KernelManager(kernel_name="python3")
        spec: Any = self.manager.kernel_spec
        spec.argv[0] = sys.executable
        self.manager.start_kernel(env=environment(), stderr=subprocess.DEVNULL)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=SECONDS)

    def run(self, code: str, interrupt_at: str = "") -> tuple[str, list[tuple[str, Any]]]:
        """Run a cell; return how it ended, and its messages. Interrupt it when it has printed this."""
        asked = self.client.execute(code)
        found: list[tuple[str, Any]] = []
        while True:
            message = self.client.get_iopub_msg(timeout=SECONDS)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            found.append((kind, content))
            if interrupt_at and kind == "stream" and interrupt_at in content["text"]:
                # A second one would meet the kernel where it answers, which then does not.
                interrupt_at = ""
                self.manager.interrupt_kernel()
            if kind == "status" and content["execution_state"] == "idle":
                break
        reply = self.client.get_shell_msg(timeout=SECONDS)
        return reply["content"].get("ename", ""), found

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()
        self.manager.context.destroy()


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """Start a kernel and load the built-in model in it."""
    made = Kernel()
    try:
        error, messages = made.run(
            "import llama_cy, os\n"
            "model = llama_cy.Model(llama_cy.demo_model_path(), n_gpu_layers=0, progress=True)\n"
            "context = model.context(n_ctx=2**17, n_threads=1)\n"
        )
        assert error == "", messages
        made.loading = messages  # type: ignore[attr-defined]
        yield made
    finally:
        made.close()


def htmls(messages: list[tuple[str, Any]], *kinds: str) -> list[str]:
    return [content["data"]["text/html"] for kind, content in messages if kind in kinds and "data" in content]


@pytest.mark.slow
def test_progress_is_shown_under_the_cell(kernel: Any) -> None:
    shown = htmls(kernel.loading, "display_data", "update_display_data")
    assert shown[0] == "<progress value='0.000' max='1'></progress> demo.gguf 0%"
    assert shown[-1] == "<progress value='1.000' max='1'></progress> demo.gguf 100%"
    assert [content for kind, content in kernel.loading if kind == "stream"] == []


@pytest.mark.slow
def test_objects_are_shown_as_html(kernel: Any) -> None:
    assert "llama_cy demo" in htmls(kernel.run("model")[1], "execute_result")[0]
    _, messages = kernel.run("context.complete('Once upon a time', max_tokens=5)")
    assert "tokens per second" in htmls(messages, "execute_result")[0]


CELLS = {
    "complete": "print('begun', flush=True); context.complete('Once', ignore_eog=True)",
    "a long prompt": "print('begun', flush=True); context.decode([1] * 2**16)",
    "stream": "for text in context.stream('Once', ignore_eog=True): print('begun', flush=True)",
    "asyncio": "print('begun', flush=True); await context.acomplete('Once', ignore_eog=True)",
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_an_interrupted_cell_ends(kernel: Any, cell: str) -> None:
    error, _ = kernel.run(CELLS[cell], interrupt_at="begun")
    # Under asyncio a kernel cancels the cell's task.
    assert error == "KeyboardInterrupt" or (cell == "asyncio" and error == "CancelledError")
    error, messages = kernel.run("print(context.complete('Once upon a time', max_tokens=5).finish_reason)")
    assert (error, "".join(content["text"] for kind, content in messages if kind == "stream")) == ("", "length\n")
