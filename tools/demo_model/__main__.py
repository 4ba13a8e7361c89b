"""Make the demo model: ``python -m tools.demo_model all``, or one step after another."""

from __future__ import annotations

import argparse
import json
import os
from itertools import islice
from pathlib import Path

from tools.demo_model.corpus import training_documents

MODELS = Path(__file__).parents[2] / "llama_cy" / "models"
STEPS = ("corpus", "tokenizer", "train", "export", "evaluate")


def show_corpus(options: argparse.Namespace) -> None:
    """Print the first documents of the corpus."""
    from tools.demo_model.chat import render

    for document in islice(training_documents(options.seed, 0, options.documents), options.documents):
        print(f"--- {document.kind}\n{document.story or render(document.messages)}")


def train_tokenizer(options: argparse.Namespace) -> None:
    """Train the tokenizer."""
    from tools.demo_model import tokenizer

    tokenizer.train_tokenizer(options.work / "tokenizer.model", options.seed)
    print(f"{len(tokenizer.Tokenizer(options.work / 'tokenizer.model'))} tokens")


def train_models(options: argparse.Namespace) -> None:
    """Train the demo model and its draft, and check both on held-out content."""
    import torch

    from tools.demo_model import batches, model, train
    from tools.demo_model.tokenizer import Tokenizer

    path = options.work / "tokenizer.model"
    tokenizer = Tokenizer(path)
    shapes = {"demo": model.demo_config(len(tokenizer)), "demo-draft": model.draft_config(len(tokenizer))}
    n_ctx = shapes["demo"].n_ctx
    rows = batches.training_rows(path, options.seed, options.shards, n_ctx, os.cpu_count() or 1)
    print(f"corpus of {int((rows.documents > 0).sum()):,} tokens", flush=True)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.set_float32_matmul_precision("high")
    checked = {}
    for name, minutes in (("demo", options.minutes), ("demo-draft", options.draft_minutes)):
        run = train.Run(options.steps, options.rows, minutes=minutes, compiled=device.type == "cuda", seed=options.seed)
        trained = train.train(shapes[name], rows, run, device)
        model.save(trained, options.work / f"{name}.npz")
        checked[name] = train.check(trained, tokenizer, device, options.checked)
        print(name, json.dumps(checked[name]), flush=True)
    (options.work / "checked.json").write_text(json.dumps(checked, indent=1) + "\n")


def export_models(options: argparse.Namespace) -> None:
    """Write both models as GGUF files."""
    from tools.demo_model import export

    for name in ("demo", "demo-draft"):
        path = export.export(
            options.work / f"{name}.npz", options.work / "tokenizer.model", options.models / f"{name}.gguf"
        )
        print(f"{path} {path.stat().st_size:,} bytes")


def evaluate_models(options: argparse.Namespace) -> None:
    """Measure the exported files through the bindings and write the figures into the model card."""
    from tools.demo_model import evaluate

    results = evaluate.evaluate(options.models / "demo.gguf", options.models / "demo-draft.gguf", options.seed)
    print(evaluate.table(results))
    card = options.models / "README.md"
    if card.exists():
        evaluate.write_card(card, results)


def main() -> None:
    """Run the steps that are named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo_model", description=__doc__)
    parser.add_argument("step", choices=(*STEPS, "all"))
    parser.add_argument("--work", type=Path, default=Path("build/demo_model"), help="folder of what is made on the way")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the GGUF files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--documents", type=int, default=10, help="corpus: how many to print")
    parser.add_argument("--device", help="train: cuda or cpu; by default what there is")
    parser.add_argument(
        "--shards", type=int, default=260, help="train: size of the corpus, in shards of 4000 documents"
    )
    parser.add_argument("--steps", type=int, default=12_500, help="train: at most so many")
    parser.add_argument("--rows", type=int, default=64, help="train: rows of 1024 tokens a step")
    parser.add_argument("--minutes", type=float, default=60.0, help="train: time for the demo model")
    parser.add_argument("--draft-minutes", type=float, default=15.0, help="train: time for the draft model")
    parser.add_argument("--checked", type=int, default=400, help="train: held-out documents of each kind")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    options.models.mkdir(parents=True, exist_ok=True)
    actions = {
        "corpus": show_corpus,
        "tokenizer": train_tokenizer,
        "train": train_models,
        "export": export_models,
        "evaluate": evaluate_models,
    }
    for step in STEPS[1:] if options.step == "all" else (options.step,):
        actions[step](options)


if __name__ == "__main__":
    main()
