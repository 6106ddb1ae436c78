"""Kaldi's data directories: tables of text, by recording, utterance and speaker.

::

    wav.scp       RECORDING PATH              segments  UTTERANCE RECORDING START END
    reco2dur      RECORDING SECONDS           utt2spk   UTTERANCE SPEAKER
    reco2num_spk  RECORDING NUMBER            spk2utt   SPEAKER UTTERANCE ...
    rttm          turns, by recording         text      UTTERANCE WORD ...

Without ``segments`` an utterance is a recording. An end of -1 is that of the recording. Relative
paths start where the command is run, as in Kaldi's own programs.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from diarize.audio import TOLERANCE, AudioInfo, audio_info
from diarize.errors import ManifestError, RttmError
from diarize.files import read_lines, write_text
from diarize.formats.rttm import check_name, format_rttm, read_rttm
from diarize.manifest.exchange import (
    all_utterances,
    full_path,
    headers,
    name_rttm,
    recording_ids,
    references,
    span_in,
    unique_ids,
    without_references,
    write_references,
)
from diarize.manifest.session import Session
from diarize.turns import LONGEST, Turn

TABLES = "wav.scp reco2dur segments utt2spk spk2utt text reco2num_spk rttm".split()
"""Files of a directory that are written."""

ARCHIVED = re.compile(r".+\.ark:\d+")
"""A place inside an archive."""


class _Entry(NamedTuple):
    """A line of a table: where it stands, and what follows its first field."""

    where: str
    text: str


class _Segment(NamedTuple):
    """Where a line stands, and what part of which recording it is; infinity is the end of it."""

    where: str
    recording: str
    start: float
    end: float


def from_kaldi(
    folder: str | Path, utterances: bool = False, write_rttm: str | Path | None = None
) -> list[Session]:
    """The lines of a data directory, in its order.

    A recording is a session, named after it. Its reference is the directory's ``rttm``; where there
    is none, ``segments`` and ``utt2spk`` say who spoke when, which is then written as RTTM.

    Args:
        folder: the directory.
        utterances: take its utterances instead, each with its speaker.
        write_rttm: folder for ``SESSION.rttm``, made if need be.

    Raises:
        ManifestError: at the first line that cannot be used, or where references would have to be
            written and no folder is given.
        RttmError: if ``rttm`` cannot be read.
        AudioError: if only a recording knows where a segment ends and it cannot be read.
    """
    directory = _Directory(Path(folder))
    if utterances:
        return directory.utterances()
    sessions, rttm = directory.sessions(), directory.folder / "rttm"
    if rttm.exists() and write_rttm is None:
        return name_rttm(sessions, [rttm] * len(sessions))
    turns = read_rttm(rttm) if rttm.exists() else directory.turns()
    if turns is None:
        return without_references(sessions, folder, write_rttm)
    if write_rttm is None:
        raise ManifestError(
            f"{folder}: has segments and speakers but no rttm, but a session names its reference "
            "as RTTM. Say with --write-rttm DIR where to write it, or take --utterances."
        )
    return write_references(sessions, turns, write_rttm)


class _Directory:
    """A data directory, its tables read as they are needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recordings = self._table("wav.scp")
        self._durations = self._table("reco2dur", needed=False)
        for name, entry in self.recordings.items():
            _refuse_no_file(name, entry)

    def sessions(self) -> list[Session]:
        """A session for each recording, without its reference."""
        counts = self._table("reco2num_spk", needed=False)
        return [
            Session(
                name,
                Path(entry.text),
                duration=self._duration(name),
                num_speakers=_count(counts[name]) if name in counts else None,
                where=entry.where,
            )
            for name, entry in self.recordings.items()
        ]

    def turns(self) -> dict[str, list[Turn]] | None:
        """Who speaks when by segments, in seconds of each recording; None without segments."""
        if not (self.folder / "segments").exists():
            return None
        turns: dict[str, list[Turn]] = {}
        for _, segment, speaker in self._spoken():
            end = segment.end if segment.end < math.inf else self._end(segment.recording)
            turns.setdefault(segment.recording, []).append(Turn(segment.start, end, speaker))
        for name, entry in self._table("reco2num_spk", needed=False).items():
            speakers = {turn.speaker for turn in turns.get(name, ())}
            if len(speakers) != _count(entry):
                raise ManifestError(
                    f"{entry.where}: {entry.text} speak in {name!r}, but segments and utt2spk name "
                    f"{len(speakers)}. Where speakers are not known, utt2spk is no reference: "
                    "provide rttm."
                )
        return turns

    def utterances(self) -> list[Session]:
        """A line for each utterance, with its speaker, and its words where they are known."""
        entries = self._table("text", needed=False, empty=True)
        words = {utterance: entry.text for utterance, entry in entries.items() if entry.text}
        return [
            Session(
                utterance,
                Path(self.recordings[segment.recording].text),
                segment.start,
                None if segment.end == math.inf else round(segment.end - segment.start, 9),
                speaker=speaker,
                extra={"text": words[utterance]} if utterance in words else {},
                where=segment.where,
            )
            for utterance, segment, speaker in self._spoken()
        ]

    def _spoken(self) -> Iterator[tuple[str, _Segment, str]]:
        """Utterances, each with its segment and its speaker."""
        speakers = self._speakers()
        for utterance, segment in self._segments().items():
            if utterance not in speakers:
                raise ManifestError(
                    f"{segment.where}: utterance {utterance!r} has no speaker, but utt2spk names "
                    f"that of {len(speakers)} others. Add it there."
                )
            yield utterance, segment, speakers[utterance]

    def _segments(self) -> dict[str, _Segment]:
        """Utterance to the part of a recording that it is."""
        if not (self.folder / "segments").exists():
            ends = {name: self._duration(name) or math.inf for name in self.recordings}
            return {
                name: _Segment(entry.where, name, 0.0, ends[name])
                for name, entry in self.recordings.items()
            }
        segments = {}
        for utterance, (where, text) in self._table("segments").items():
            fields = text.split()
            if len(fields) != 3:
                raise ManifestError(
                    f"{where}: segment has {len(fields) + 1} fields, but it has 4: utterance, "
                    "recording, start, end. Mend the line; a channel is written to a file of its "
                    "own."
                )
            recording, start = fields[0], _seconds(where, fields[1])
            end = math.inf if fields[2] in ("-1", "-1.0") else _seconds(where, fields[2])
            if recording not in self.recordings:
                raise ManifestError(
                    f"{where}: recording {recording!r} is not in wav.scp, but that lists all "
                    f"{len(self.recordings)}. Add it there, or remove the line."
                )
            if end <= start:
                raise ManifestError(
                    f"{where}: segment lasts from {fields[1]} s to {fields[2]} s, but it ends "
                    "after it starts. Mend the line; -1 is the end of the recording."
                )
            segments[utterance] = _Segment(where, recording, start, end)
        return segments

    def _speakers(self) -> dict[str, str]:
        """Utterance to speaker, of utt2spk or spk2utt; where both are there they must agree."""
        listed = self._table("spk2utt", needed=not (self.folder / "utt2spk").exists())
        by_speaker = {
            utterance: _Entry(entry.where, speaker)
            for speaker, entry in listed.items()
            for utterance in entry.text.split()
        }
        if not (self.folder / "utt2spk").exists():
            return {utterance: entry.text for utterance, entry in by_speaker.items()}
        by_utterance = self._table("utt2spk")
        for utterance, entry in by_utterance.items():
            if len(entry.text.split()) != 1:
                raise ManifestError(
                    f"{entry.where}: {utterance!r} has {len(entry.text.split())} speakers, but an "
                    "utterance has 1. Has a name a space?"
                )
            other = by_speaker.get(utterance, entry)
            if other.text != entry.text:
                raise ManifestError(
                    f"{entry.where}: {entry.text!r} speaks {utterance!r}, but at {other.where} "
                    f"{other.text!r} does. Make spk2utt anew."
                )
        return {utterance: entry.text for utterance, entry in by_utterance.items()}

    def _duration(self, recording: str) -> float | None:
        entry = self._durations.get(recording)
        if entry is None:
            return None
        seconds = _seconds(entry.where, entry.text)
        if not seconds:
            raise ManifestError(
                f"{entry.where}: {recording!r} lasts {entry.text} s, but a recording lasts longer "
                "than 0 s. Mend or remove the line."
            )
        return seconds

    def _end(self, recording: str) -> float:
        return self._duration(recording) or audio_info(self.recordings[recording].text).duration

    def _table(self, name: str, needed: bool = True, empty: bool = False) -> dict[str, _Entry]:
        """A file by the first field of its lines.

        Args:
            name: of the file.
            needed: whether it must be there; otherwise a missing one has no lines.
            empty: whether the first field may stand alone.
        """
        path = self.folder / name
        if not needed and not path.exists():
            return {}
        table: dict[str, _Entry] = {}
        for number, line in enumerate(read_lines(path, ManifestError), start=1):
            where = f"{path}:{number}"
            key, *rest = line.split(maxsplit=1) or [""]
            if not key:
                continue
            if not rest and not empty:
                raise ManifestError(
                    f"{where}: has 1 field, {key!r}, but a line of {name} has at least 2. Mend or "
                    "remove the line."
                )
            first = table.setdefault(key, _Entry(where, "".join(rest).strip()))
            if first.where != where:
                raise ManifestError(
                    f"{where}: {key!r} is already at {first.where}, but names differ. Remove one "
                    "of the lines."
                )
        return table


def to_kaldi(sessions: Sequence[Session], folder: str | Path) -> list[Path]:
    """Write lines as a data directory; references go to ``rttm``, and to ``segments`` as well.

    Of sessions each is a recording; of utterances each file is one, and they are its segments.
    Scored regions and other keys stay behind.

    Args:
        sessions: whole recordings, or utterances.
        folder: made if need be; holds none of these files yet.

    Returns:
        The files.

    Raises:
        ManifestError: for a session that is a part or a channel of its recording, lines that cannot
            be told apart, names that a table cannot hold, or a folder that holds such files.
        AudioError: if a recording cannot be read.
    """
    folder = Path(folder)
    for name in TABLES:
        if (folder / name).exists():
            raise ManifestError(
                f"{folder}: holds {name}, but a directory that is there is not overwritten. Name "
                "another."
            )
    gather = _Written.of_utterances if all_utterances(sessions) else _Written.of_sessions
    infos = headers(sessions)
    for session in sessions:
        if session.channel is not None and infos[session.audio].channels > 1:
            raise ManifestError(
                f"{session.where}: hears channel {session.channel} of {session.audio}, but a "
                "recording of Kaldi is a whole file. Write that channel to a file, or take "
                "to-lhotse, whose cuts have one."
            )
    texts = gather(sessions, infos).texts()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


@dataclass
class _Written:
    """What a directory is to hold.

    Attributes:
        recordings: name to path.
        durations: name to seconds.
        segments: utterance to its part of a recording.
        speakers: utterance to speaker.
        words: utterance to what is said.
        counts: recording to the number of its speakers.
        turns: recording to its reference.
    """

    recordings: dict[str, Path]
    durations: dict[str, float]
    segments: dict[str, _Segment]
    speakers: dict[str, str]
    words: dict[str, str]
    counts: dict[str, int]
    turns: dict[str, list[Turn]]

    @classmethod
    def of_utterances(
        cls, sessions: Sequence[Session], infos: Mapping[Path, AudioInfo]
    ) -> "_Written":
        """A recording for each file, a segment for each line."""
        names, utterances = recording_ids(sessions), unique_ids(sessions)
        written = cls({name: path for path, name in names.items()}, {}, {}, {}, {}, {}, {})
        for utterance, session in zip(utterances, sessions, strict=True):
            start, end = span_in(session, infos[session.audio])
            recording = names[session.audio]
            written.durations[recording] = infos[session.audio].duration
            speaker = session.speaker or ""
            _check_name(session.where, "speaker", speaker)
            written.segments[utterance] = _Segment(session.where, recording, start, end)
            written.speakers[utterance] = speaker
            written.words[utterance] = " ".join(str(session.extra.get("text", "")).split())
        return written

    @classmethod
    def of_sessions(
        cls, sessions: Sequence[Session], infos: Mapping[Path, AudioInfo]
    ) -> "_Written":
        """A recording for each session, a segment for each turn."""
        names = unique_ids(sessions)
        written = cls({}, {}, {}, {}, {}, {}, references(sessions))
        for name, session in zip(names, sessions, strict=True):
            lasts = infos[session.audio].duration
            start, end = span_in(session, infos[session.audio])
            if start > TOLERANCE or end < lasts - TOLERANCE:
                raise ManifestError(
                    f"{session.where}: session {name!r} goes from {start:.2f} s to {end:.2f} s, but"
                    f" a recording of Kaldi is a whole file, which lasts {lasts:.2f} s. Write that "
                    "part to a file, or take to-lhotse, whose cuts have a start."
                )
            written.recordings[name] = session.audio
            written.durations[name] = lasts
            speaking = {turn.speaker for turn in written.turns.get(name, ())}
            count = len(speaking) if name in written.turns else session.num_speakers
            if count is not None:
                written.counts[name] = count
            for turn in written.turns.get(name, ()):
                written._add(session, name, turn)
        return written

    def _add(self, session: Session, name: str, turn: Turn) -> None:
        """A turn as an utterance, named so that utterances sort by speaker."""
        start, end = round(turn.start, 3), round(turn.end, 3)
        if start == end:  # of less than a millisecond, which Kaldi takes for a fault
            return
        span = f"{round(start * 1000):08d}-{round(end * 1000):08d}"
        utterance = f"{turn.speaker}-{name}-{span}"
        segment = _Segment(session.where, name, start, end)
        if self.segments.setdefault(utterance, segment) != segment:
            raise ManifestError(
                f"{session.where}: a turn would be {utterance!r}, as one of "
                f"{self.segments[utterance].where} is, but utterances differ. Rename a speaker."
            )
        self.speakers[utterance] = turn.speaker
        self.words[utterance] = ""  # nobody knows them, but lhotse asks for the file

    def texts(self) -> dict[str, str]:
        """Files and what stands in them; those without a line are left out, but for wav.scp."""
        of_speaker: dict[str, list[str]] = {}
        for utterance in sorted(self.speakers, key=str.encode):
            of_speaker.setdefault(self.speakers[utterance], []).append(utterance)
        for recording, path in self.recordings.items():
            full = str(full_path(path))
            if full.endswith("|") or full != " ".join(full.split("\n")).strip():
                raise ManifestError(
                    f"{recording}: lies at {full!r}, but Kaldi takes a path that ends in '|' for a "
                    "command, and a line for its end. Rename the file."
                )
        tables: dict[str, Mapping[str, object]] = {
            "wav.scp": {name: full_path(path) for name, path in self.recordings.items()},
            "reco2dur": {name: f"{seconds:.6f}" for name, seconds in self.durations.items()},
            "segments": {
                utterance: f"{segment.recording} {segment.start:.6f} {segment.end:.6f}"
                for utterance, segment in self.segments.items()
            },
            "utt2spk": self.speakers,
            "spk2utt": {speaker: " ".join(names) for speaker, names in of_speaker.items()},
            "text": self.words,
            "reco2num_spk": self.counts,
        }
        texts = {name: _sorted(table) for name, table in tables.items() if table}
        if self.turns:
            rttm = (format_rttm(name, self.turns[name]) for name in sorted(self.turns))
            texts["rttm"] = "".join(rttm)
        return texts


def _sorted(table: Mapping[str, object]) -> str:
    """Lines in the order of their bytes, which Kaldi's programs rely on."""
    return "".join(f"{key} {table[key]}".rstrip() + "\n" for key in sorted(table, key=str.encode))


def _refuse_no_file(name: str, entry: _Entry) -> None:
    """See that a recording is a file: what a table names is not run."""
    shown = entry.text if len(entry.text) <= 60 else f"{entry.text[:57]}..."
    if entry.text.endswith("|") or entry.text.startswith("|"):
        command = entry.text.strip("| ")
        raise ManifestError(
            f"{entry.where}: recording {name!r} is a command, {shown!r}, but commands of a table "
            f"are never run. Run it yourself, as in `{command} > {name}.wav`, and name that file."
        )
    if ARCHIVED.fullmatch(entry.text):
        raise ManifestError(
            f"{entry.where}: recording {name!r} lies in an archive, {shown!r}, but recordings are "
            "read from files. Take it out with wav-copy, and name that file."
        )


def _check_name(where: str, what: str, name: str) -> None:
    try:
        check_name(what, name)
    except RttmError as error:
        raise ManifestError(f"{where}: {error}") from None


def _seconds(where: str, field: str) -> float:
    """A time, finite and not negative."""
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not 0 <= value < LONGEST:
        raise ManifestError(
            f"{where}: a time is {field!r}, but it must be a number of seconds, 0 or more. Mend or "
            "remove the line."
        )
    return value


def _count(entry: _Entry) -> int:
    if not entry.text.isascii() or not entry.text.isdigit():
        raise ManifestError(
            f"{entry.where}: {entry.text!r} speak, but it must be a whole number, 0 or more. Mend "
            "or remove the line."
        )
    return int(entry.text)
