"""What another needs to repeat a run: versions, commit, machine and command."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def environment() -> dict[str, Any]:
    """Versions, commit, machine and command: what another needs to repeat a run.

    The commit is that of the package's own repository; "" where it was installed from elsewhere.
    """
    packages = {}
    for name in ("diarize", "torch", "pytorch-lightning", "numpy", "scipy", "soxr", "soundfile"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    commit, changed = "", ""
    # An installed package may lie inside a repository that is not its own, ignored by it.
    if _git("ls-files", Path(__file__).name):
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "command": sys.argv,
        "commit": commit,
        "changed_files": changed.splitlines(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "packages": packages,
    }


def _git(*words: str) -> str:
    """What git says of the folder of this package; "" where it says nothing."""
    command = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()
    except (OSError, subprocess.CalledProcessError):
        return ""
