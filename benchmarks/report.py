"""Tables, JSON and a plot of what was measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.machine import head
from benchmarks.measure import Figure, Limit
from benchmarks.plan import Group

__all__ = ["Result", "markdown", "table", "write"]

Result = tuple[Group, list[Figure]]


def table(group: Group, figures: Sequence[Figure], limits: Sequence[Limit] = ()) -> str:
    """Return one group as a Markdown table."""
    lines = [
        f"### {group.name}",
        "",
        f"| | µs / {group.unit} | {group.unit}s / s | ratio | quartiles | best | to reach |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for one in figures:
        if one.error:
            lines.append(f"| {one.name} | – | – | – | – | {one.error[:120].replace('|', '/')} | |")
            continue
        goal = "" if one.target is None else f"≤ {one.target:.3g} {'✓' if one.reached else '✗'}"
        lines.append(
            f"| {one.name} | {one.microseconds:,.1f} | {one.per_second:,.0f} | {one.ratio:.3f} | "
            f"{one.low:.3f} – {one.high:.3f} | {one.best:.3f} | {goal} |"
        )
    for limit in limits:
        ratio = (
            1e6 / limit.per_second / figures[0].microseconds if figures[0].microseconds and limit.per_second else 0.0
        )
        per_token = 1e6 / limit.per_second if limit.per_second else 0.0
        lines.append(f"| {limit.name} | {per_token:,.1f} | {limit.per_second:,.0f} | {ratio:.3f} | | | |")
    if note := digest_note(figures):
        lines += ["", note]
    return "\n".join([*lines, ""])


def digest_note(figures: Sequence[Figure]) -> str:
    """Tell which of our rows gave other tokens than the C loop."""
    base = figures[0].digest
    if not base:
        return ""
    names = [one.name for one in figures if one.digest not in (0, base) and one.target is not None and not one.error]
    return f"Other tokens than the first row's: {', '.join(names)}." if names else ""


def limits_of(group: Group, limits: Sequence[Limit]) -> list[Limit]:
    """Choose the limits that a group is measured against."""
    words = (("prefill", "pp512"), ("sequences", "batched"))
    wanted = next((limit for word, limit in words if word in group.name), None)
    if wanted is None:
        wanted = "tg128" if group.name.endswith(("greedy", "usual")) else "nothing"
    return [one for one in limits if one.model == group.model and wanted in one.name]


def markdown(results: Sequence[Result], limits: Sequence[Limit], machine: dict[str, str], plotted: bool) -> str:
    """Return all as one page."""
    lines = [
        *head("Benchmark results", machine),
        "Medians of runs that took turns. A ratio is that of the times to the first row's of the same round; under 1",
        "is faster. `best` is the ratio of the shortest runs. The settings of all rows of a table are the same.",
        "",
    ]
    if plotted:
        lines += ["![Time for each token](loops.svg)", ""]
    lines += [table(group, figures, limits_of(group, limits)) for group, figures in results]
    return "\n".join(lines)


def write(folder: Path, results: Sequence[Result], limits: Sequence[Limit], machine: dict[str, str]) -> list[Path]:
    """Write ``results.md``, ``results.json`` and, with matplotlib, ``loops.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    plotted = plot(folder / "loops.svg", [result for result in results if "loop" in result[1][0].name])
    data = {
        "machine": machine,
        "groups": [
            {
                "name": group.name, "model": group.model, "unit": group.unit,
                "rows": [{**asdict(one), "per_second": one.per_second, "reached": one.reached} for one in figures],
            }
            for group, figures in results
        ],
        "limits": [asdict(one) for one in limits],
    }  # fmt: skip
    page = folder / "results.md"
    page.write_text(markdown(results, limits, machine, plotted))
    (folder / "results.json").write_text(json.dumps(data, indent=1) + "\n")
    return [page, folder / "results.json", *([folder / "loops.svg"] if plotted else [])]


def plot(path: Path, results: Sequence[Result]) -> bool:
    """Draw the loops as bars, where matplotlib is installed."""
    try:
        import matplotlib as mpl

        mpl.use("svg")
        import matplotlib.pyplot as plt
    except ImportError:
        return False
    if not results:
        return False
    mpl.rcParams["svg.hashsalt"] = "llama_cy"
    figure, axes = plt.subplots(len(results), 1, figsize=(9, 2.6 * len(results)), squeeze=False)
    for axis, (group, figures) in zip(axes[:, 0], results, strict=True):
        good = [one for one in figures if not one.error]
        colours = ["tab:blue" if one.target is not None else "tab:orange" if one.peer else "tab:gray" for one in good]
        axis.barh([one.name for one in good], [one.ratio for one in good], color=colours)
        axis.axvline(1, color="black", linewidth=0.8)
        if max(one.ratio for one in good) > 10:
            axis.set_xscale("log")
        axis.invert_yaxis()
        axis.set_title(group.name, loc="left", fontsize="medium")
        axis.set_xlabel(f"time per {group.unit}, C loop = 1 ({good[0].microseconds:,.0f} µs)", fontsize="small")
        axis.tick_params(labelsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    return True
