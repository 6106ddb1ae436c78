"""An experiment's folder: its resolved settings, and what it ran on."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from diarize.config import load_config, save_config, to_dict
from diarize.environment import environment
from diarize.errors import ConfigError
from diarize.files import write_text


def check_experiment(folder: Path, config: Any, resume: bool, free: Collection[str] = ()) -> None:
    """See, before anything is written, that a folder may be used.

    Args:
        folder: ``exp/NAME``.
        config: the resolved settings, a dataclass.
        resume: whether the folder may hold an experiment; its settings must then be these.
        free: dotted keys that may differ, since they change nothing of what comes out.

    Raises:
        ConfigError: if it holds an experiment and resuming was not asked, the settings differ,
            or it holds something else; logs, ``*.log``, and hidden files may be there.
    """
    stored = folder / "config.yaml"
    if not stored.exists():
        if folder.exists() and not folder.is_dir():
            raise ConfigError(f"{folder}: is a file, but --output is a folder. Choose another.")
        names = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
        others = [n for n in names if not n.startswith(".") and not n.endswith(".log")]
        if others:
            raise ConfigError(
                f"{folder}: holds {', '.join(others[:3])}, but no config.yaml that says whose. "
                "Choose another --output, or remove the folder."
            )
    elif not resume:
        raise ConfigError(
            f"{folder}: holds an experiment already, but --resume was not given. "
            "Resume it, choose another --output, or remove the folder."
        )
    else:
        # Through the dataclass: a setting that is newer than the file has its default.
        lines = differences(to_dict(load_config(type(config), [stored])), to_dict(config))
        different = [line for line in lines if line.partition("=")[0] not in free]
        if different:
            raise ConfigError(
                f"{stored}: the experiment was begun with {'; '.join(different)}. "
                "Resume with the same settings, or begin another with init=CHECKPOINT."
            )


def open_experiment(folder: Path, config: Any, **facts: Any) -> None:
    """Write ``config.yaml``, if it is not there, and a line of ``environment.jsonl``.

    Args:
        folder: ``exp/NAME``, made if need be.
        config: the resolved settings, a dataclass.
        facts: more for the line, plain values.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.yaml").exists():
        save_config(config, folder / "config.yaml")
    with (folder / "environment.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(environment() | facts) + "\n")


def note_facts(path: Path, facts: dict[str, Any], things: str) -> None:
    """Note what a folder's files are made from, or see that it is the same.

    Args:
        path: JSON, beside the files.
        facts: all that decides what they are.
        things: what they are called.

    Raises:
        ConfigError: if the folder holds what was made from something else.
    """
    if not path.exists():
        write_text(path, json.dumps(facts, indent=2) + "\n")
        return
    different = differences(json.loads(path.read_text(encoding="utf-8")), facts)
    if different:
        raise ConfigError(
            f"{path}: the {things} here were made with {'; '.join(different)}. "
            "Choose another --output, or remove the folder."
        )


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Settings in nested dicts that differ, as ``key=old, not new``; what lacks a key has None."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            line
            for key in sorted({*old, *new}, key=str)
            for line in differences(old.get(key), new.get(key), f"{prefix}{key}.")
        ]
    return [] if old == new else [f"{prefix[:-1]}={old}, not {new}"]
