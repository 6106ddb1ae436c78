"""A session, and the manifest line that names it."""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from diarize.audio import ARRAYS
from diarize.errors import ManifestError
from diarize.files import read_lines, write_text
from diarize.frames import FrameGrid
from diarize.turns import LONGEST

PATH_SUFFIXES = ("_filepath", "_filename", "_file")
"""A path stands under ``audio_filepath``; NeMo reads ``audio_filename`` and ``audio_file`` too."""


@dataclass(frozen=True)
class Session:
    """What is diarized and scored as one: a span of a recording.

    Attributes:
        session_id: its name; field 2 of RTTM.
        audio: the recording; an array of features where ``frame_shift`` is given.
        offset: where it starts in the recording, seconds.
        duration: seconds; None means to the end of the recording.
        rttm: file with its reference turns, in seconds of the recording.
        uem: file with the regions that are scored, likewise.
        speaker: who speaks, where the line is a single-speaker utterance.
        num_speakers: how many speak, where known.
        extra: keys of the line that are not listed here.
        where: ``path:line`` of the manifest, for messages.
        ctm: file with its words; carried, never read.
        frame_shift: seconds per row of features; None where the recording is audio.
        channel: of audio with several, the one that is heard, from 0; None is their mean.
    """

    session_id: str
    audio: Path
    offset: float = 0.0
    duration: float | None = None
    rttm: Path | None = None
    uem: Path | None = None
    speaker: str | None = None
    num_speakers: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    where: str = field(default="manifest", compare=False)
    ctm: Path | None = None
    frame_shift: float | None = None
    channel: int | None = None

    @property
    def end(self) -> float:
        """Where it ends in the recording, seconds; infinity where only the audio knows."""
        return math.inf if self.duration is None else self.offset + self.duration


def read_manifest(path: str | Path) -> list[Session]:
    """Sessions in the order of the lines; empty lines are passed over.

    Raises:
        ManifestError: at the first line that cannot be used, or if the file cannot be read.
    """
    sessions = []
    for session, faults in scan_manifest(path):
        if session is None:
            raise ManifestError(faults[0])
        sessions.append(session)
    return sessions


def scan_manifest(path: str | Path) -> Iterator[tuple[Session | None, list[str]]]:
    """For every line its session, or None and all that is wrong with it.

    Raises:
        ManifestError: if the file cannot be read at all.
    """
    folder = Path(path).parent
    for number, text in enumerate(read_lines(path, ManifestError), start=1):
        if text.strip():
            line = _Line(text, f"{path}:{number}")
            session = line.session(folder)
            yield (None if line.faults else session), line.faults


def write_manifest(destination: str | Path | TextIO, sessions: Sequence[Session]) -> None:
    """Write a line per session; a path is written whole or not at all.

    Paths are written relative to the manifest's folder where that needs at most two ``..``, so
    that both can be moved together. Otherwise, and on a stream, whose place is unknown, they
    are written in full.
    """
    folder = Path(destination).parent if isinstance(destination, (str, Path)) else None
    lines = (json.dumps(_values(s, folder), ensure_ascii=False) + "\n" for s in sessions)
    write_text(destination, "".join(lines))


class _Line:
    """The values of one line, taken key by key, and the faults met on the way."""

    def __init__(self, text: str, where: str) -> None:
        self.where = where
        self.faults: list[str] = []
        self.values: dict[str, Any] = {}
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            self.fault(
                f"is not JSON ({error.msg} at column {error.colno}). Write one {{…}} a line."
            )
            return
        if isinstance(values, dict):
            self.values = values
        else:
            self.fault(f"is {_show(values)}, but a manifest has one {{…}} a line.")

    def fault(self, message: str) -> None:
        self.faults.append(f"{self.where}: {message}")

    def session(self, folder: Path) -> Session | None:
        """The session of the line, with paths taken from a folder; None for a faulty line."""
        if self.faults:
            return None
        audio, frame_shift = self.recording(folder)
        offset = self.seconds("offset")
        duration = self.seconds("duration")
        if duration == 0:
            self.fault("'duration' is 0, but a session lasts. Write null for all of the recording.")
        # NeMo's own names stay among the extra keys, since they are not written as such.
        session_id, uniq_id = self.name("session_id"), self.name("uniq_id", keep=True)
        speaker, speaker_id = self.name("speaker"), self.name("speaker_id", keep=True)
        session = Session(
            session_id or uniq_id or (audio.stem if audio else ""),
            audio or folder,
            offset or 0.0,
            duration,
            self.path("rttm", folder),
            self.path("uem", folder),
            speaker or speaker_id,
            self.count("num_speakers"),
            where=self.where,
            ctm=self.path("ctm", folder),
            frame_shift=frame_shift,
            channel=self.channel(frame_shift),
            extra=self.values,
        )
        return None if self.faults else session

    def recording(self, folder: Path) -> tuple[Path | None, float | None]:
        """Audio and None, or an array of features and the seconds per row of it."""
        audio = self.path("audio", folder)
        features = self.path("feature", folder, ("_filepath",))
        if audio is not None and audio.suffix.lower() in ARRAYS:
            self.fault(
                f"'audio_filepath' is {_show(audio.name)}, but that is an array by its name. Write "
                "'feature_filepath' for it, and 'frame_shift'."
            )
        if audio is not None and features is not None:
            self.fault(
                f"has 'audio_filepath' {_show(audio.name)} and 'feature_filepath' "
                f"{_show(features.name)}, but a session has one recording. Leave one out."
            )
        if audio is None and features is None and not self.faults:
            self.fault(
                "has no 'audio_filepath', but a session needs a recording. Add the key, or "
                "'feature_filepath' for features."
            )
        return features or audio, None if features is None else self.shift()

    def shift(self) -> float | None:
        """Seconds per row of features, which must be given with them."""
        before = len(self.faults)
        if self.values.get("frame_shift") is None:
            self.fault(
                "has 'feature_filepath', but no 'frame_shift'. Add the seconds per row of it: 0.04 "
                "where 25 are a second."
            )
        frame_shift = self.seconds("frame_shift")
        if len(self.faults) == before and frame_shift is not None:
            try:
                FrameGrid.of_shift(frame_shift)
            except ValueError as error:
                self.fault(str(error))
        return frame_shift

    def channel(self, frame_shift: float | None) -> int | None:
        """The one that is heard, which features have not."""
        channel = self.count("channel")
        if channel is not None and frame_shift is not None:
            self.fault(
                f"has 'feature_filepath' and 'channel' {channel}, but features have none. Leave "
                "the channel out."
            )
        return channel

    def path(self, kind: str, folder: Path, suffixes: Sequence[str] = PATH_SUFFIXES) -> Path | None:
        """The file of a kind, under the first of its keys that the line has."""
        for suffix in suffixes:
            value = self.values.pop(kind + suffix, None)
            if value is None:
                continue
            if isinstance(value, str) and value.strip():
                return folder / value
            self.fault(f"{kind + suffix!r} is {_show(value)}, but it must be a path in quotes.")
        return None

    def name(self, key: str, keep: bool = False) -> str | None:
        """A label; numbers are taken as text, since corpora number their speakers."""
        value = self.values.get(key) if keep else self.values.pop(key, None)
        if value is None:
            return None
        if isinstance(value, (str, int)) and not isinstance(value, bool) and str(value).strip():
            return str(value)
        self.fault(f"{key!r} is {_show(value)}, but it must be a name. Write it in quotes.")
        return None

    def seconds(self, key: str) -> float | None:
        """A time, finite and not negative."""
        value = self.values.pop(key, None)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.fault(
                f"{key!r} is {_show(value)}, but it must be a number of seconds. "
                "Write a number without quotes, or null."
            )
        elif not -LONGEST < value < LONGEST:
            self.fault(f"{key!r} is {_show(value)}, but seconds are finite. Write null instead.")
        elif value < 0:
            self.fault(
                f"{key!r} is {_show(value)} s, but it may not be negative. "
                "Write 0, or null for all of the recording."
            )
        else:
            return float(value)
        return None

    def count(self, key: str) -> int | None:
        """A whole number, also where a table program made it 2.0."""
        value = self.values.pop(key, None)
        if value is None:
            return None
        whole = isinstance(value, (int, float)) and not isinstance(value, bool)
        if whole and 0 <= value < LONGEST and value == int(value):
            return int(value)
        self.fault(f"{key!r} is {_show(value)}, but it must be a whole number, 0 or more, or null.")
        return None


def _values(session: Session, folder: Path | None) -> dict[str, Any]:
    """The line of a session in NeMo's order of keys; what is unknown is left out."""
    extra = dict(session.extra)
    kind = "audio" if session.frame_shift is None else "feature"
    known = {
        f"{kind}_filepath": _place(session.audio, folder),
        "frame_shift": session.frame_shift,
        "offset": session.offset,
        "duration": session.duration,
        "channel": session.channel,
        "label": extra.pop("label", None),
        "text": extra.pop("text", None),
        "speaker": session.speaker,
        "num_speakers": session.num_speakers,
        "rttm_filepath": _place(session.rttm, folder),
        "uem_filepath": _place(session.uem, folder),
        "ctm_filepath": _place(session.ctm, folder),
        "session_id": session.session_id,
    }
    return {k: v for k, v in known.items() if v is not None or k == "duration"} | extra


def _place(path: Path | None, folder: Path | None) -> str | None:
    if path is None:
        return None
    # The folder a path lies in is made real, since '..' out of a linked folder leads elsewhere.
    full = os.path.join(os.path.realpath(path.parent), path.name)
    if folder is None:
        return full
    relative = Path(os.path.relpath(full, os.path.realpath(folder)))
    return full if relative.parts[:3] == ("..",) * 3 else relative.as_posix()


def _show(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}..."
