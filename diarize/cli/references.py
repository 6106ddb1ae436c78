"""Turns and regions as verbs are given them: a file, a folder of files, or a manifest."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from diarize.errors import RttmError, ScoreError
from diarize.turns import Segment, Turn

Stretch = TypeVar("Stretch", bound=Segment)

MANIFESTS = (".jsonl", ".json")


def read_turns(place: str, references: Iterable[str] = ()) -> dict[str, list[Turn]]:
    """Session id -> turns, from RTTM files, a folder of them, or a manifest."""
    from diarize.formats.rttm import read_rttm
    from diarize.manifest import read_manifest, reference_turns

    if place.endswith(MANIFESTS):
        whole: dict[str, list[Turn]] = {}
        for session in read_manifest(place):  # several lines may be windows of one session
            whole.setdefault(session.session_id, []).extend(reference_turns(session))
        return whole
    found = gather(Path("/dev/stdin" if place == "-" else place), ".rttm", read_rttm)
    # One answer without turns to one question: nobody speaks, whatever the file is called.
    names = list(references)
    return {names[0]: []} if len(names) == 1 and list(found.values()) == [[]] else found


def gather(
    place: Path, suffix: str, read: Callable[[Path], dict[str, list[Stretch]]]
) -> dict[str, list[Stretch]]:
    """Sessions of a file, or of all files below a folder; an empty file is a silent session."""
    if not place.is_dir():
        return read(place) or {place.stem: []}
    files = sorted(place.rglob(f"*{suffix}"))
    if not files:
        raise RttmError(
            f"{place}: holds no {suffix} file, but at least one is needed. Check the path."
        )
    sessions: dict[str, list[Stretch]] = {}
    source: dict[str, Path] = {}
    for file in files:
        for name, stretches in (read(file) or {file.stem: []}).items():
            if name in sessions:
                raise ScoreError(
                    f"{file}: holds session {name!r}, but so does {source[name]}. "
                    "Leave one of them out."
                )
            sessions[name], source[name] = stretches, file
    return sessions
