"""Programs and libraries of another Debian than this one, unpacked into a folder: nothing is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
# What only an installed system needs, and could not be unpacked beside others.
SKIPPED = ("dpkg_", "tar_", "perl-base_")


def sysroot(folder: Path, architecture: str, suite: str, *packages: str) -> Path:
    """Return a folder with these packages and what they depend on.

    Parameters
    ----------
    folder : Path
        Kept from run to run.
    architecture, suite : str
        As Debian calls them: "arm64", "bookworm".
    *packages : str
    """
    root = folder / "sysroot"
    if not (folder / "whole").exists():
        for name in ("state/lists/partial", "cache/archives/partial", "sysroot"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "state" / "status").touch()
        (folder / "sources.list").write_text(f"deb [signed-by={KEYS}] http://deb.debian.org/debian {suite} main\n")
        (folder / "apt.conf").write_text(
            f'APT::Architecture "{architecture}";\nAPT::Architectures {{ "{architecture}"; }};\n'
            f'Dir::State "{folder}/state";\nDir::State::status "{folder}/state/status";\nDir::Cache "{folder}/cache";\n'
            f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "/dev/null";\n'
        )
        environ = os.environ | {"APT_CONFIG": str(folder / "apt.conf")}
        options = ("--yes", "--no-install-recommends", "--download-only")
        for command in (["update"], ["install", *options, *packages]):
            subprocess.run(["apt-get", "--quiet=2", *command], env=environ, check=True, stdout=subprocess.DEVNULL)
        for archive in sorted((folder / "cache" / "archives").glob("*.deb")):
            if not archive.name.startswith(SKIPPED):
                subprocess.run(["dpkg", "-x", archive, root], check=True)
        (folder / "whole").touch()
    return root
