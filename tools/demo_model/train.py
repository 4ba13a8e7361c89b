"""Training of the demo model and of its draft, and a check on held-out content while it runs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from tools.demo_model.batches import Rows, pack
from tools.demo_model.corpus import MAKERS, Document, held_out_conversations, held_out_stories
from tools.demo_model.model import Config, Llama
from tools.demo_model.tokenizer import Tokenizer

WARMUP = 0.03  # share of the run


@dataclass(frozen=True)
class Run:
    steps: int
    rows_per_step: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    minutes: float = 60.0  # the schedule is squeezed into this where the steps would take longer
    compiled: bool = False
    seed: int = 1


def _optimizer(model: Llama, run: Run) -> torch.optim.Optimizer:
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    norms = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [{"params": matrices, "weight_decay": run.weight_decay}, {"params": norms, "weight_decay": 0.0}]
    fused = next(model.parameters()).is_cuda
    return torch.optim.AdamW(groups, lr=run.learning_rate, betas=(0.9, 0.98), fused=fused)


def _rate(progress: float) -> float:
    if progress < WARMUP:
        return progress / WARMUP
    return 0.5 * (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP)))


def _batches(rows: Rows, run: Run, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    tokens, documents, learned = (
        torch.from_numpy(array).to(device) for array in (rows.tokens, rows.documents, rows.learned)
    )
    generator = torch.Generator().manual_seed(run.seed)
    while True:
        order = torch.randperm(len(rows), generator=generator).to(device)
        for part in order.split(run.rows_per_step):
            if len(part) == run.rows_per_step:
                yield tokens[part].long(), documents[part], learned[part]


def _losses(model: Llama, tokens: Tensor, documents: Tensor, learned: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return cross entropy and correctness ``[row, time - 1]``, and which of them count."""
    logits = model(tokens, documents)[:, :-1].float()
    targets = tokens[:, 1:]
    counts = learned[:, 1:] & (documents[:, 1:] == documents[:, :-1])
    entropy = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
    return entropy, logits.argmax(-1) == targets, counts


def _autocast(device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")


def train(config: Config, rows: Rows, run: Run, device: torch.device) -> Llama:
    """Train one model from scratch."""
    torch.manual_seed(run.seed)
    model = Llama(config)
    model.to(device)
    print(f"{model.n_params:,} parameters, {len(rows):,} rows of {rows.tokens.shape[1]} tokens", flush=True)
    step_losses = torch.compile(_losses) if run.compiled else _losses
    optimizer = _optimizer(model, run)
    started, step, progress = time.monotonic(), 0, 0.0
    for tokens, documents, learned in _batches(rows, run, device):
        for group in optimizer.param_groups:
            group["lr"] = run.learning_rate * _rate(progress)
        with _autocast(device):
            entropy, _, counts = step_losses(model, tokens, documents, learned)
        loss = (entropy * counts).sum() / counts.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 250 == 0 or step <= 3:
            print(f"step {step} loss {loss.item():.4f} seconds {time.monotonic() - started:.1f}", flush=True)
        progress = max(step / run.steps, (time.monotonic() - started) / (60 * run.minutes))
        if progress >= 1:
            break
    print(f"trained for {step} steps, {step * run.rows_per_step * rows.tokens.shape[1]:,} tokens", flush=True)
    return model


def check(model: Llama, tokenizer: Tokenizer, device: torch.device, count: int = 400) -> dict[str, float]:
    """Return, on held-out content, the stories' perplexity and each task's share of exact greedy answers.

    An answer is what greedy decoding gives exactly where every token of it is the likeliest one.
    """
    model.eval()
    results: dict[str, float] = {}
    documents = {"story": [Document("story", story=story.text) for story in held_out_stories(count, seed=0)]}
    for kind in MAKERS:
        if kind not in ("talk", "told story"):
            drawn = held_out_conversations(kind, count, seed=0)
            documents[kind] = [Document(kind, messages=conversation.messages) for conversation in drawn]
    for kind, drawn_documents in documents.items():
        entropy_sum, right, tokens_seen = 0.0, 0, 0
        for document in drawn_documents:
            rows = pack([tokenizer.encode_document(document)], model.config.n_ctx)
            length = int((rows.documents[0] > 0).sum())
            arrays = (rows.tokens[:, :length], rows.documents[:, :length], rows.learned[:, :length])
            tokens, numbers, learned = (torch.from_numpy(array).to(device) for array in arrays)
            with torch.no_grad():
                entropy, correct, counts = _losses(model, tokens.long(), numbers, learned)
            entropy_sum += float((entropy * counts).sum())
            tokens_seen += int(counts.sum())
            right += int((correct | ~counts).all())
        results[kind] = math.exp(entropy_sum / tokens_seen) if kind == "story" else right / len(drawn_documents)
    return results
