"""Lhotse's manifests: cuts, or recordings with supervisions, through lhotse itself.

A cut is a span of a recording, and its supervisions say who speaks when, in seconds of the cut.
Recordings are files, of which a cut hears one channel: what lhotse would compute, fetch or mix is
refused by name.
"""

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diarize.audio import AudioInfo, check_channel
from diarize.errors import ManifestError
from diarize.files import replacing
from diarize.manifest.exchange import (
    all_utterances,
    full_path,
    headers,
    recording_ids,
    references,
    span_in,
    unique_ids,
    without_references,
    write_references,
)
from diarize.manifest.session import Session
from diarize.turns import Turn, clip, shift

DECIMALS = 9
"""Of seconds: what shifting them adds lies beyond."""


class _Cut(NamedTuple):
    """A span of a recording, with supervisions in seconds of the span."""

    name: str
    where: str
    recording: Any
    start: float
    duration: float
    supervisions: Sequence[Any]
    channel: int | None = None


def from_lhotse(
    path: str | Path,
    supervisions: str | Path | None = None,
    utterances: bool = False,
    write_rttm: str | Path | None = None,
) -> list[Session]:
    """The lines of a set of cuts, or of recordings, in its order.

    A cut is a session, named after it. Where any cut has supervisions, one without is silent.

    Args:
        path: cuts, or recordings; JSON Lines or JSON, perhaps compressed.
        supervisions: those of recordings, which do not hold them.
        utterances: take supervisions instead, each with its speaker.
        write_rttm: folder for ``SESSION.rttm``, made if need be.

    Raises:
        ManifestError: if lhotse cannot read it, a cut is no span of a channel of a file, or
            where references would have to be written and no folder is given.
    """
    cuts = list(_cuts(path, supervisions))
    sessions = [
        Session(
            cut.name,
            _file(cut),
            cut.start,
            round(cut.duration, DECIMALS),
            where=cut.where,
            channel=cut.channel if cut.recording.num_channels > 1 else None,
        )
        for cut in cuts
    ]
    if utterances:
        return [
            Session(
                supervision.id,
                session.audio,
                turn.start,
                round(turn.duration, DECIMALS),
                speaker=turn.speaker,
                extra={"text": supervision.text} if supervision.text else {},
                where=cut.where,
                channel=session.channel,
            )
            for cut, session in zip(cuts, sessions, strict=True)
            for supervision in cut.supervisions
            for turn in _turns(cut, [supervision])
        ]
    if not any(cut.supervisions for cut in cuts):
        return without_references(sessions, path, write_rttm)
    if write_rttm is None:
        raise ManifestError(
            f"{path}: has supervisions, but a session names its reference as RTTM. Say with "
            "--write-rttm DIR where to write it, or take --utterances."
        )
    turns = {cut.name: _turns(cut, cut.supervisions) for cut in cuts}
    return write_references(sessions, turns, write_rttm)


def to_lhotse(sessions: Sequence[Session], path: str | Path) -> None:
    """Write a cut for each line, with its recording, and its turns as supervisions.

    Scored regions and other keys stay behind.

    Args:
        sessions: lines of a manifest, sessions or utterances.
        path: ``*.jsonl``, or ``*.jsonl.gz``; written whole or not at all.

    Raises:
        ManifestError: for a session that hears the mean of several channels, lines that cannot be
            told apart, or a path of another ending.
        AudioError: if a recording cannot be read.
    """
    from lhotse import CutSet, MonoCut, SupervisionSegment

    if not str(path).endswith((".jsonl", ".jsonl.gz")):
        raise ManifestError(
            f"{path}: cuts are written as JSON Lines, but lhotse tells them by the ending, .jsonl "
            "or .jsonl.gz. Give one of them."
        )
    utterances, infos = all_utterances(sessions), headers(sessions)
    ids, names = unique_ids(sessions), recording_ids(sessions)
    turns = {} if utterances else references(sessions)
    cuts = []
    for name, session in zip(ids, sessions, strict=True):
        start, end = span_in(session, infos[session.audio])
        recording = _recording(session, names[session.audio], infos[session.audio])
        channel = session.channel or 0
        spoken = [Turn(start, end, session.speaker)] if session.speaker else turns.get(name, ())
        supervisions = [
            SupervisionSegment(
                id=name if utterances else f"{name}-{number:05d}",
                recording_id=recording.id,
                start=round(turn.start, DECIMALS),
                duration=round(turn.duration, DECIMALS),
                channel=channel,
                speaker=turn.speaker,
                text=session.extra.get("text") if utterances else None,
            )
            for number, turn in enumerate(shift(spoken, -start))
        ]
        duration = round(end - start, DECIMALS)
        cut = MonoCut(
            name, start, duration, channel, supervisions=supervisions, recording=recording
        )
        cuts.append(cut)
    rows = CutSet.from_cuts(cuts).to_dicts()
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    with replacing(path) as beside:
        packed = str(path).endswith(".gz")
        beside.write_bytes(gzip.compress(content, mtime=0) if packed else content)


def _cuts(path: str | Path, supervisions: str | Path | None) -> Iterator[_Cut]:
    """What a file holds, cut by cut; a whole recording is one."""
    from lhotse import CutSet, RecordingSet, SupervisionSet

    content = _load(path)
    if isinstance(content, RecordingSet):
        spoken = SupervisionSet.from_segments([])
        if supervisions is not None:
            spoken = _load(supervisions)
            if not isinstance(spoken, SupervisionSet):
                raise ManifestError(
                    f"{supervisions}: is a {type(spoken).__name__}, but {path} needs a "
                    "SupervisionSet beside it. Name that."
                )
        known: dict[str, list[Any]] = {}
        for supervision in spoken:
            known.setdefault(supervision.recording_id, []).append(supervision)
        for recording in content:
            where = f"{path}: recording {recording.id!r}"
            own = known.get(recording.id, ())
            yield _Cut(recording.id, where, recording, 0.0, recording.duration, own)
        return
    if not isinstance(content, CutSet):
        raise ManifestError(
            f"{path}: is a {type(content).__name__}, but sessions come from a CutSet or a "
            "RecordingSet. Name that."
        )
    if supervisions is not None:
        raise ManifestError(
            f"{supervisions}: supervisions are given, but {path} has cuts, which hold their own. "
            "Leave --supervisions out."
        )
    for cut in content:
        where, kind = f"{path}: cut {cut.id!r}", type(cut).__name__
        if kind != "MonoCut" or cut.recording is None:
            what = "only features" if kind == "MonoCut" else f"a {kind}"
            raise ManifestError(
                f"{where} is {what}, but a session is 1 span of 1 recording with 1 channel. Write "
                "what it sounds like to a file (cut.save_audio), and make a cut of that."
            )
        span = cut.start, cut.duration, cut.supervisions
        yield _Cut(cut.id, where, cut.recording, *span, cut.channel)


def _load(path: str | Path) -> Any:
    """Any manifest of lhotse."""
    from lhotse import load_manifest

    if not Path(path).is_file():  # lhotse would run or fetch some names that are no files
        raise ManifestError(f"{path}: is no file, but lhotse's manifests are read from files.")
    try:
        return load_manifest(path)
    except Exception as error:  # whatever JSON, gzip or lhotse's own classes meet
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ManifestError(
            f"{path}: lhotse cannot read it ({reason}). Is it a manifest of lhotse, and whole?"
        ) from None


def _file(cut: _Cut) -> Path:
    """The recording of a cut, which must be a file that sounds as it is."""
    recording, fault = cut.recording, None
    kinds = sorted({source.type for source in recording.sources})
    if kinds != ["file"]:
        fault = f"lies in {' and '.join(kinds) or 'nothing'}, but recordings are read from files"
    elif len(recording.sources) > 1:
        fault = f"lies in {len(recording.sources)} files, but a session is a span of 1"
    elif recording.num_channels > 1 and cut.channel is None:
        fault = (
            f"has {recording.num_channels} channels, of which lhotse hears all and a session their "
            "mean or, in a cut of its own, 1"
        )
    elif recording.num_channels > 1 and recording.channel_ids != [*range(recording.num_channels)]:
        fault = f"calls its channels {recording.channel_ids}, but they are counted from 0 here"
    elif recording.transforms:
        names = ", ".join(_name(transform) for transform in recording.transforms)
        fault = f"sounds other than its file, by {names}, but files are read as they are"
    if fault is not None:
        raise ManifestError(
            f"{cut.where}: {recording.id!r} {fault}. Write what it sounds like to a file "
            "(save_audio), and name that."
        )
    return Path(recording.sources[0].source)


def _name(transform: Any) -> str:
    return str(transform["name"]) if isinstance(transform, dict) else type(transform).__name__


def _turns(cut: _Cut, supervisions: Sequence[Any]) -> list[Turn]:
    """Who speaks in a cut, within it, in seconds of the recording."""
    turns = []
    for supervision in supervisions:
        if not supervision.speaker:
            raise ManifestError(
                f"{cut.where}: supervision {supervision.id!r} has no speaker, but a turn has one. "
                "Add it, or leave the supervision out."
            )
        start = round(cut.start + supervision.start, DECIMALS)
        end = round(start + supervision.duration, DECIMALS)
        turns.append(Turn(start, end, str(supervision.speaker)))
    return clip(turns, cut.start, round(cut.start + cut.duration, DECIMALS))


def _recording(session: Session, name: str, info: AudioInfo) -> Any:
    from lhotse import AudioSource, Recording

    if info.channels > 1 and session.channel is None:
        raise ManifestError(
            f"{session.where}: {session.audio} has {info.channels} channels, of which a session "
            "hears the mean, but a cut takes 1. Write that to a file, or name a 'channel'."
        )
    check_channel(f"{session.where}: {session.audio}", info, session.channel)
    source = AudioSource("file", [*range(info.channels)], str(full_path(session.audio)))
    return Recording(name, [source], info.sample_rate, info.num_samples, info.duration)
