"""A split of a corpus as a manifest with RTTM and UEM, a file of each for every session."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import soundfile

from diarize.audio import SAMPLE_RATE, TOLERANCE, audio_info, read_audio
from diarize.files import replacing
from diarize.formats.uem import write_uem
from diarize.manifest.exchange import full_path, write_references
from diarize.manifest.session import Session, write_manifest
from diarize.turns import Segment, Turn, clip

BLOCK = 600
"""Seconds of a recording in memory at once, besides the mean of several."""


@dataclass(frozen=True)
class Labelled:
    """A session of a corpus, and the truth of it.

    Attributes:
        session_id: field 2 of RTTM.
        audio: its recording, all of it; of several that began together, the mean is written.
        turns: who spoke when, seconds of the recording.
        regions: what is scored; None is the whole recording.
        extra: further keys of its manifest line.
        channel: of several in its one recording, the one that is heard, from 0; None is their mean.
    """

    session_id: str
    audio: Path | Sequence[Path]
    turns: Sequence[Turn]
    regions: Sequence[Segment] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    channel: int | None = None


def write_split(
    folder: Path, split: str, found: Sequence[Labelled], keys: Mapping[str, str]
) -> tuple[list[Session], list[str]]:
    """Write ``SPLIT.jsonl`` and what it names, ``rttm/SPLIT/SESSION.rttm`` and ``uem/`` likewise.

    Of sessions with several recordings, the mean of them is written to ``audio/SPLIT/``.
    Turns and regions end where the recording ends. The manifest comes last: where it is, the rest
    is.

    Args:
        folder: made if need be.
        split: what the manifest is called.
        found: the sessions.
        keys: further keys of every manifest line.

    Returns:
        The sessions, and in words what was cut.

    Raises:
        ManifestError: if two sessions share an id, or what is there holds another reference.
        AudioError: if a recording cannot be read.
        RttmError: for a name that RTTM cannot hold.
    """
    sessions: list[Session] = []
    turns: dict[str, list[Turn]] = {}
    regions: dict[str, list[Segment]] = {}
    late: dict[str, float] = {}
    means: dict[Path, Sequence[Path]] = {}
    for labelled in found:
        name, audio = labelled.session_id, labelled.audio
        parts = [audio] if isinstance(audio, Path) else audio
        duration = max(audio_info(part).duration for part in parts)
        place = parts[0]
        if len(parts) > 1:
            place = folder / "audio" / split / f"{name}.flac"
            means[place] = parts
        last = max((turn.end for turn in labelled.turns), default=0.0)
        if last > duration + TOLERANCE:
            late[name] = last - duration
        turns[name] = clip(labelled.turns, 0.0, duration)
        scored = [Segment(0.0, duration)] if labelled.regions is None else labelled.regions
        regions[name] = [replace(r, end=min(r.end, duration)) for r in scored if r.start < duration]
        session = Session(
            name,
            full_path(place),
            duration=round(duration, 6),
            uem=folder / "uem" / split / f"{name}.uem",
            extra={**keys, **labelled.extra},
            where=str(place),
            channel=labelled.channel,
        )
        sessions.append(session)
    notes = []
    if late:
        worst = max(late, key=late.__getitem__)
        notes.append(
            f"turns of {len(late)} sessions pass the end of the recording, by up to "
            f"{late[worst]:.2f} s ({worst!r}); they are cut there"
        )
    sessions = write_references(sessions, turns, folder / "rttm" / split)
    for path, parts in means.items():
        _write_mean(path, parts)
    (folder / "uem" / split).mkdir(parents=True, exist_ok=True)
    for name, segments in regions.items():
        write_uem(folder / "uem" / split / f"{name}.uem", {name: segments})
    write_manifest(folder / f"{split}.jsonl", sessions)
    return sessions, notes


def _write_mean(path: Path, recordings: Sequence[Path]) -> None:
    """Write the mean of recordings, 16 kHz FLAC; the shorter ones end in silence."""
    infos = [(recording, audio_info(recording)) for recording in recordings]
    mean = np.zeros(max(info.num_samples_at(SAMPLE_RATE) for _, info in infos), np.float32)
    for recording, info in infos:
        for start in range(0, math.ceil(info.duration), BLOCK):
            part = read_audio(recording, start, min(BLOCK, info.duration - start))
            mean[start * SAMPLE_RATE :][: len(part)] += part / len(recordings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        soundfile.write(beside, mean, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
