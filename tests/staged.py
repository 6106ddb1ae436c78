"""Judged sessions with references as files, for commands that learn from them."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from diarize.cli import main
from diarize.formats.posteriors import write_posteriors
from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, write_manifest
from diarize.tune import Labelled


def stage(folder: Path, sessions: Sequence[Labelled], **facts: object) -> list[str]:
    """Write sessions; returns the arguments that name them.

    Args:
        folder: where to.
        sessions: all of their posteriors are there.
        facts: what is said of their making.
    """
    given = []
    for session in sessions:
        name = session.session_id
        rttm = folder / f"{name}.rttm"
        write_rttm(rttm, {name: list(session.reference)})
        duration = session.posteriors.duration
        given.append(Session(name, folder / f"{name}.wav", duration=duration, rttm=rttm))
        write_posteriors(folder / f"{name}.npz", replace(session.posteriors, made_by=facts))
    write_manifest(folder / "dev.jsonl", given)
    return [str(folder / "dev.jsonl"), "--posteriors", str(folder)]


def refused(command: list[str], capsys: pytest.CaptureFixture[str], message: str) -> None:
    """See that a command fails with one line that says why."""
    capsys.readouterr()
    assert main(command) == 1
    told = capsys.readouterr()
    assert re.search(message, told.err), told.err
    assert told.out == "" and told.err.count("\n") == 1
