"""What was measured, and on what."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path

import llama_cy
from benchmarks.contender import ROOT

__all__ = ["describe", "head"]


def describe(command: str) -> dict[str, str]:
    """Return the machine, the versions and the command, as lines of a table."""
    version = llama_cy.version()
    return {
        "CPU": cpu_name(),
        "cores": f"{llama_cy.threadpool.default_n_threads()} physical, {os.cpu_count()} logical",
        "GPU": gpu_name(),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "load before": " ".join(f"{one:.1f}" for one in os.getloadavg()),
        "llama_cy": f"{version.llama_cy} at {commit_of(ROOT)}",
        "llama.cpp": version.llama_cpp,
        "build options": version.build_options,
        "command": command,
    }


def head(title: str, machine: dict[str, str]) -> list[str]:
    """Return the lines that a page of results begins with."""
    return [f"# {title}", "", "| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in machine.items()), ""]


def cpu_name() -> str:
    """Name the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def gpu_name() -> str:
    """Name the GPUs and their driver, as nvidia-smi does."""
    if not shutil.which("nvidia-smi"):
        return ", ".join(one.description for one in llama_cy.devices() if one.type.name != "CPU") or "none"
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return "; ".join(done.stdout.strip().splitlines()) or "none"


def commit_of(folder: Path) -> str:
    """Return the commit of a checkout, with a mark where files differ from it."""
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or os.environ.get("LLAMA_CY_COMMIT", "unknown")
