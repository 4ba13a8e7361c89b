"""``llama-cy generate``."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Any

import typer

from ..checks import INT32_MAX, UINT32_MAX
from ..context import Context
from ..model import Model
from ..sampler_chain import SamplerChain, sampling
from ..stream import TextStream
from ..threadpool import MAX_THREADS
from .chat import apply_chat_template, require_jinja2
from .options import AsJson, Debug, ModelPath, Quiet, load, text_of
from .terminal import ExitCode, emit, emit_json, note


def n_gpu_layers(text: str) -> str | int:
    """Read the value of ``--n-gpu-layers``."""
    if text == "auto":
        return text
    with contextlib.suppress(ValueError):
        if -1 <= (number := int(text)) <= INT32_MAX:
            return number
    raise typer.BadParameter(f"{text!r} is neither auto nor an integer in [-1, {INT32_MAX}]")


def stop_text(text: str) -> str:
    """Check a value of ``--stop``."""
    if not text:
        raise typer.BadParameter("a stop text must not be empty")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise typer.BadParameter(f"{text!r} is not valid UTF-8") from None
    return text


def generate(
    prompt: Annotated[str, typer.Argument(help="Text to go on from; - reads it from stdin.", show_default=False)],
    *,
    model: ModelPath = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=0, help="Generate at most so many.")] = 512,
    temperature: Annotated[float, typer.Option(min=0, help="0 takes the most probable token each time.")] = 0.8,
    top_k: Annotated[
        int, typer.Option(min=0, max=INT32_MAX, help="Draw from the K most probable tokens; 0: from all.")
    ] = 40,
    top_p: Annotated[float, typer.Option(min=0, max=1, help="Draw from the tokens that sum to P; 1: off.")] = 0.95,
    min_p: Annotated[
        float, typer.Option(min=0, max=1, help="Draw from tokens with P times the highest probability; 0: off.")
    ] = 0.05,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=UINT32_MAX - 1, help="Repeats a result; drawn at random unless given."),
    ] = None,
    repeat_penalty: Annotated[float, typer.Option(min=0, help="Above 1 avoids the last 64 tokens; 1: off.")] = 1.0,
    stop: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", parser=stop_text, help="End before this text; may be repeated."),
    ] = None,
    n_ctx: Annotated[
        int | None,
        typer.Option(min=1, max=INT32_MAX, help="Tokens that prompt and text may have; as trained, if memory allows."),
    ] = None,
    n_threads: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_THREADS, help="Threads; the physical cores unless given."),
    ] = None,
    gpu_layers: Annotated[
        Any,
        typer.Option(
            "--n-gpu-layers", metavar="auto|N", parser=n_gpu_layers, help="Layers on the GPU; -1: all; auto: if any."
        ),
    ] = "auto",
    chat: Annotated[bool, typer.Option("--chat", help="Put PROMPT into the model's chat template.")] = False,
    echo: Annotated[bool, typer.Option("--echo", help="Print PROMPT in front of the text.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Continue a text, or answer with --chat: text to stdout as it comes, statistics to stderr."""
    try:
        sampler = sampling(
            temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repeat_penalty=repeat_penalty, seed=seed
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if chat:
        require_jinja2()
    text = text_of(prompt)
    shown = text.decode("utf-8", "replace") if echo and not as_json else ""
    progress = not quiet and sys.stderr is not None and sys.stderr.isatty()
    loaded = load(model, quiet, n_gpu_layers=gpu_layers, progress=progress)
    if chat:
        rendered = apply_chat_template(loaded, text.decode("utf-8", "surrogateescape"))
        text = rendered.encode("utf-8", "surrogateescape")
    with loaded, loaded.context(n_ctx=n_ctx, n_threads=n_threads) as context:
        if shown:
            emit(shown)
        stream = context.stream(beginning(context, text), sampler, max_tokens=max_tokens, stop=stop or ())
        generated, interrupted = run(stream, show=not as_json)
        if as_json:
            emit_json(result(generated, stream, sampler, loaded))
    if interrupted:
        note(f"interrupted after {len(stream.tokens)} tokens")
        raise typer.Exit(ExitCode.INTERRUPTED)
    if not quiet and not as_json:
        note(statistics(stream, sampler))


def beginning(context: Context, text: bytes) -> bytes | list[int]:
    """Return what the loop begins with: the text, or the decoder's first token where an encoder reads the text."""
    model = context.model
    if not (model.has_encoder and model.has_decoder):
        return text
    context.encode(model.vocab.tokenize(text, parse_special=True))
    first = model.vocab.bos if model.decoder_start_token is None else model.decoder_start_token
    return [] if first is None else [first]


def gather(stream: TextStream, show: bool, pieces: list[str]) -> None:
    """Add the pieces of a text as they come, and show them."""
    for piece in stream:
        pieces.append(piece)
        if show:
            emit(piece)


def run(stream: TextStream, show: bool) -> tuple[str, bool]:
    """Generate, and show the pieces as they come; return the text, and whether Ctrl-C ended it."""
    pieces: list[str] = []
    interrupted = False
    try:
        # A call, because CPython 3.13.0 loses an interrupt that comes at the end of a loop in a try block.
        gather(stream, show, pieces)
    except KeyboardInterrupt:
        interrupted = True
        stream.close()
    finally:
        # A shell's prompt, or the line on stderr that follows, starts on a line of its own.
        if show and pieces and not pieces[-1].endswith("\n"):
            emit("\n")
    return "".join(pieces), interrupted


def statistics(stream: TextStream, sampler: SamplerChain) -> str:
    """Return speed, seed and finish reason in one line."""
    timings = stream.timings
    return (
        f"{timings.prompt_tokens} prompt tokens at {timings.prompt_tokens_per_second:.1f} tokens/s, "
        f"{timings.tokens} generated at {timings.tokens_per_second:.1f} tokens/s, "
        f"seed: {'none' if sampler.seed is None else sampler.seed}, finish reason: {stream.finish_reason}"
    )


def result(text: str, stream: TextStream, sampler: SamplerChain, model: Model) -> dict[str, Any]:
    """Return what ``--json`` prints."""
    timings = stream.timings
    return {
        "text": text,
        "tokens": stream.tokens,
        "finish_reason": stream.finish_reason,
        "seed": sampler.seed,
        "model": model.path,
        "timings": {
            **timings._asdict(),
            "prompt_tokens_per_second": timings.prompt_tokens_per_second,
            "tokens_per_second": timings.tokens_per_second,
        },
    }
