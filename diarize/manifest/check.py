"""Every fault of a manifest, found before it costs an experiment."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from diarize.audio import SAMPLE_RATE, TOLERANCE, AudioInfo
from diarize.errors import AudioError, FeatureError, ManifestError, RttmError
from diarize.features import check_features
from diarize.formats.rttm import RttmLine, check_name, scan_rttm
from diarize.formats.uem import UemLine, scan_uem
from diarize.manifest.reference import find
from diarize.manifest.session import Session, scan_manifest
from diarize.recording import Recording, open_recording
from diarize.turns import Segment

Line = TypeVar("Line", RttmLine, UemLine)


def check_manifest(path: str | Path, notes: list[str] | None = None) -> list[str]:
    """All that is wrong with a manifest and with the files it names.

    Reads the manifest, the header of all audio, every array of features, every RTTM and UEM, each
    file once.
    Times that are off by at most 10 ms count as rounded.

    Args:
        path: the manifest.
        notes: filled with what is worth knowing but no fault: sample rates that will be
            changed, channels that will be averaged, references that look odd.

    Returns:
        A message per fault, ``path:line: what``, in the order of the manifest; the place is
        that of the RTTM or UEM line where the fault is there.
    """
    check = _Check()
    try:
        for session, faults in scan_manifest(path):
            check.faults += faults
            if session is not None:
                check.session(session)
    except ManifestError as error:
        return [str(error)]
    if not check.num_sessions and not check.faults:
        check.faults.append(f"{path}:1: has no lines, but a manifest names sessions. Is it whole?")
    if notes is not None:
        notes += check.notes + check.changes()
    return check.faults


class _Check:
    """What was found so far, and what was read."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.notes: list[str] = []
        self.num_sessions = 0
        self._ids: dict[tuple[str, float | None], Session] = {}
        self._names: dict[str, Session] = {}
        self._recordings: dict[
            tuple[Path, float | None, int | None], Recording | AudioError | FeatureError
        ] = {}
        self._first: tuple[Session, Recording] | None = None
        self._turns: dict[Path, dict[str, list[RttmLine]] | RttmError] = {}
        self._regions: dict[Path, dict[str, list[UemLine]] | RttmError] = {}
        self._faulty: set[Path] = set()
        self._late: set[tuple[Path, int]] = set()
        self._changes: dict[tuple[str, str], dict[Path, Session]] = {}

    def session(self, session: Session) -> None:
        """Look at one line and at what it names."""
        self.num_sessions += 1
        if session.speaker is None:  # utterances are found by their place, never by a name
            self._id(session)
            if session.frame_shift is None:
                self._name(session)
        recording = self._recording(session)
        if session.rttm is not None:
            self._rttm(session, session.rttm, recording)
        if session.uem is not None:
            regions = self._content(session, session.uem, self._regions, scan_uem)
            self._past_end(session.uem, [(r.number, r.segment) for r in regions], recording)

    def changes(self) -> list[str]:
        """Notes on what reading changes about the audio, one for each kind of change."""
        notes = []
        for (what, change), files in self._changes.items():
            first = next(iter(files.values()))
            others = f", as {len(files) - 1} more files have" if len(files) > 1 else ""
            notes.append(f"{first.where}: note: {first.audio} has {what}{others}; {change}.")
        return notes

    def _id(self, session: Session) -> None:
        try:
            check_name("session id", session.session_id)
        except RttmError as error:
            self.faults.append(f"{session.where}: {error}")
        first = self._ids.setdefault((session.session_id, None), session)
        other = first
        if _are_stretches(first, session):
            other = self._ids.setdefault((session.session_id, session.offset), session)
        if other is not session:
            self.faults.append(
                f"{session.where}: session {session.session_id!r} is already at {other.where}, but "
                "ids must differ. Give one of the lines another 'session_id'."
            )

    def _name(self, session: Session) -> None:
        first = self._names.setdefault(session.audio.stem, session)
        if first.audio != session.audio and first.audio.resolve() != session.audio.resolve():
            self.faults.append(
                f"{session.where}: {session.audio} has the base name of {first.audio} at "
                f"{first.where}, but many tools, NeMo among them, tell files apart by it. "
                "Rename one."
            )

    def _recording(self, session: Session) -> Recording | None:
        known = (session.audio, session.frame_shift, session.channel)
        if known not in self._recordings:
            try:
                recording = open_recording(*known)
                if session.frame_shift is not None:
                    check_features(session.audio, session.frame_shift)
            except (AudioError, FeatureError) as error:
                self._recordings[known] = error
            else:
                self._recordings[known] = recording
                self._kind(session, recording)
                self._note_changes(session, recording.header)
        found = self._recordings[known]
        if not isinstance(found, Recording):
            self.faults.append(f"{session.where}: {found}")
            return None
        fault = None
        if not found.duration:
            fault = "has a recording without samples, but there must be some. Copy it again."
        elif session.offset >= found.duration:
            fault = f"starts at {session.offset:.2f} s, but {found.lasts}. Correct 'offset'."
        elif session.duration is not None and session.end > found.duration + TOLERANCE:
            fault = f"ends at {session.end:.2f} s, but {found.lasts}. Shorten 'duration' or "
            fault += "re-encode the file." if session.frame_shift is None else "check the file."
        name = f"{session.where}: session {session.session_id!r}"
        if fault is not None:
            self.faults.append(f"{name} {fault}")
        else:
            try:
                found.span(name, session.offset, min(session.end, found.duration))
            except ManifestError as error:
                self.faults.append(str(error))
        return found

    def _kind(self, session: Session, recording: Recording) -> None:
        """See that one model can hear all sessions."""
        first, other = self._first = self._first or (session, recording)
        if recording.kind != other.kind:
            self.faults.append(
                f"{session.where}: {session.audio} is {recording.kind}, but {first.audio} at "
                f"{first.where} is {other.kind}, and a model hears one of them. Write two "
                "manifests, or mend the wrong one."
            )

    def _note_changes(self, session: Session, info: object) -> None:
        if not isinstance(info, AudioInfo):
            return
        if info.sample_rate != SAMPLE_RATE:
            change = (f"{info.sample_rate} Hz", f"reading changes that to {SAMPLE_RATE} Hz")
            self._changes.setdefault(change, {}).setdefault(session.audio, session)
        if info.channels > 1 and session.channel is None:
            change = (f"{info.channels} channels", "reading takes their mean, or one if asked")
            self._changes.setdefault(change, {}).setdefault(session.audio, session)

    def _rttm(self, session: Session, path: Path, recording: Recording | None) -> None:
        is_new = path not in self._turns
        lines = self._content(session, path, self._turns, scan_rttm)
        content = self._turns[path]
        if is_new and not isinstance(content, RttmError):
            self._faulty_turns(path, content)
        self._past_end(path, [(line.number, line.turn) for line in lines], recording)
        turns = [line.turn for line in lines]
        inside = [t for t in turns if t.end > session.offset and t.start < session.end]
        speakers = len({turn.speaker for turn in inside})
        note = None
        if content == {} and path not in self._faulty:
            note = f"{path} has no turn, which means that nobody speaks."
        elif turns and not inside:
            note = (
                f"{path} has no turn between {session.offset:.2f} s and {session.end:.2f} s, the "
                "session's span. RTTM counts from the start of the recording."
            )
        elif turns and session.num_speakers not in (None, speakers):
            note = f"'num_speakers' is {session.num_speakers}, but {path} names {speakers}."
        if note is not None:
            self.notes.append(f"{session.where}: note: {note}")

    def _content(
        self,
        session: Session,
        path: Path,
        contents: dict[Path, dict[str, list[Line]] | RttmError],
        scan: Callable[[Path], tuple[list[Line], list[str]]],
    ) -> list[Line]:
        """The lines of a file that speak of a session; the file's own faults are told once."""
        if path not in contents:
            try:
                lines, faults = scan(path)
            except RttmError as error:
                contents[path] = error
            else:
                self.faults += faults
                if faults:
                    self._faulty.add(path)
                by_session: dict[str, list[Line]] = {}
                for line in lines:
                    by_session.setdefault(line.session_id, []).append(line)
                contents[path] = by_session
        content = contents[path]
        if isinstance(content, RttmError):
            self.faults.append(f"{session.where}: {content}")
            return []
        try:
            return find(session, path, content) or []
        except ManifestError as error:
            self.faults.append(str(error))
            return []

    def _faulty_turns(self, path: Path, sessions: Mapping[str, Sequence[RttmLine]]) -> None:
        """Turns that last no time, and speakers who talk over themselves."""
        for line in sorted((x for lines in sessions.values() for x in lines), key=_number):
            if line.turn.duration <= 0:
                self.faults.append(
                    f"{path}:{line.number}: turn of {line.turn.speaker!r} lasts 0 s, but speech "
                    "takes time. Remove the line."
                )
        for lines in sessions.values():
            latest: dict[str, RttmLine] = {}
            for line in sorted(lines, key=lambda x: (x.turn.start, x.turn.end)):
                before = latest.setdefault(line.turn.speaker, line)
                if before is not line and line.turn.start < before.turn.end - TOLERANCE:
                    self.faults.append(
                        f"{path}:{line.number}: {line.turn.speaker!r} speaks from "
                        f"{line.turn.start:.2f} s, but already does so until "
                        f"{before.turn.end:.2f} s (line {before.number}). Join the two turns."
                    )
                if line.turn.end > before.turn.end:
                    latest[line.turn.speaker] = line

    def _past_end(
        self, path: Path, stretches: Sequence[tuple[int, Segment]], recording: Recording | None
    ) -> None:
        for number, stretch in stretches:
            if recording is None or stretch.end <= recording.duration + TOLERANCE:
                continue
            if (path, number) not in self._late:
                self._late.add((path, number))
                self.faults.append(
                    f"{path}:{number}: lasts until {stretch.end:.2f} s, but {recording.lasts}. Cut "
                    "it there, or check that they belong together."
                )


def _number(line: RttmLine) -> int:
    return line.number


def _are_stretches(first: Session, second: Session) -> bool:
    """Whether two lines of one id are parts of one recording, as noises are listed."""
    one_file = first.audio == second.audio and first.rttm is None and second.rttm is None
    return one_file and first.offset != second.offset
