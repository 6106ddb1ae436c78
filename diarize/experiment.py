"""An experiment's folder: its resolved settings, and what it ran on."""

import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from diarize.config import save_config, to_dict
from diarize.errors import ConfigError


def open_experiment(folder: Path, config: Any, resume: bool) -> None:
    """Make the folder with ``config.yaml`` and ``environment.json``, or reopen it.

    Args:
        folder: ``exp/NAME``.
        config: the resolved settings, a dataclass.
        resume: whether the folder may exist; its settings must then be these.

    Raises:
        ConfigError: if the folder exists and resuming was not asked, or the settings differ.
    """
    stored = folder / "config.yaml"
    if stored.exists():
        if not resume:
            raise ConfigError(
                f"{folder}: holds an experiment already, but --resume was not given. "
                "Resume it, choose another --output, or remove the folder."
            )
        different = _differences(OmegaConf.to_container(OmegaConf.load(stored)), to_dict(config))
        if different:
            raise ConfigError(
                f"{stored}: the experiment was begun with {'; '.join(different)}. "
                "Resume with the same settings, or begin another with init=CHECKPOINT."
            )
    elif resume and folder.exists() and any(folder.iterdir()):
        raise ConfigError(
            f"{folder}: has no config.yaml, but --resume needs one. Is it an experiment?"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not stored.exists():
        temporary = stored.with_suffix(".tmp")
        save_config(config, temporary)
        os.replace(temporary, stored)
    with (folder / "environment.json").open("a", encoding="utf-8") as file:
        file.write(json.dumps(environment()) + "\n")


def environment() -> dict[str, Any]:
    """Versions, commit, machine and command: what another needs to repeat a run."""
    packages = {}
    for name in ("diarize", "torch", "torchaudio", "pytorch-lightning", "numpy", "librosa"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    here = Path(__file__).parent
    return {
        "command": sys.argv,
        "commit": _git(here, "rev-parse", "HEAD"),
        "changed_files": _git(here, "status", "--porcelain", "--untracked-files=no").splitlines(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}",
        "packages": packages,
    }


def _git(folder: Path, *words: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Settings that differ, as ``key=old, not new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *new}, key=str)
            for line in _differences(old.get(key), new.get(key), f"{prefix}{key}.")
        ]
    return [] if old == new else [f"{prefix[:-1]}={old}, not {new}"]
