"""Recorded sessions: stretches of them, with their truth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from diarize.activity import from_turns
from diarize.audio import TOLERANCE
from diarize.corpus import decoded_recording
from diarize.data.batch import Example, crowded
from diarize.data.windows import TurnTable
from diarize.errors import AudioError, FeatureError, ManifestError
from diarize.formats.rttm import Columns, read_columns, read_rttm
from diarize.manifest import Session, reference_turns, scored_regions
from diarize.recording import AUDIO, Kind, Recording, open_recording, refuse_unheard
from diarize.turns import Segment, Turn


@dataclass(frozen=True)
class Stretch:
    """A part of a session that was seen to be there, and the session's truth.

    Attributes:
        session: whose.
        recording: what it is cut from.
        start: where it begins in the recording, seconds.
        duration: seconds.
        turns: of the session, seconds of the recording.
        regions: what of the session is scored, likewise; None is the union of both extents.
        shard: number of the shard that it lies in; those of one shard are drawn close together.
    """

    session: Session
    recording: Recording
    start: float
    duration: float
    turns: TurnTable
    regions: list[Segment] | None
    shard: int = 0

    @property
    def end(self) -> float:
        """Where it ends in the recording, seconds."""
        return self.start + self.duration

    @property
    def name(self) -> str:
        """Of its session, as it begins a message."""
        return f"{self.session.where}: session {self.session.session_id!r}"

    @property
    def has_turns(self) -> bool:
        """Whether anybody speaks in it."""
        return bool(((self.turns.start < self.end) & (self.turns.end > self.start)).any())

    def cut(self, start: float, duration: float) -> "Stretch":
        """A part of it, in seconds of the recording."""
        return replace(self, start=start, duration=duration)

    def example(self) -> Example:
        """What is heard in it, and who speaks.

        Raises:
            AudioError: if the recording cannot be read.
            FeatureError: if features cannot be.
        """
        first = self.recording.sample_at(self.start)
        count = self.recording.sample_at(self.start + self.duration) - first
        signal = self.recording.read(first, count)
        start = self.recording.nearest(self.start)
        end = start + count / self.recording.sample_rate
        regions = None
        if self.regions is not None:
            cut = [(max(r.start, start), min(r.end, end)) for r in self.regions]
            regions = [Segment(a - start, b - start) for a, b in cut if b > a]
        turns = self.turns.between(start, end)
        grid = self.recording.kind.grid
        return Example(self.session.session_id, signal, turns, regions, start, grid)

    def check(self, hears: Kind, num_slots: int, window: float | None) -> None:
        """See that a model hears it, and has slots for all classes in any ``window`` seconds.

        Raises:
            ManifestError: if the model hears something else.
            ConfigError: if a window of features may have more classes.
        """
        refuse_unheard(self.name, self.recording.kind, hears)
        turns = self.turns.between(self.start, self.end)
        classes = sorted({turn.speaker for turn in turns})
        if hears == AUDIO or len(classes) <= num_slots:
            return
        grid = self.recording.kind.grid
        num_frames = grid.frame_at(self.duration)
        length = min(grid.frame_at(window or self.duration), num_frames)
        truth = from_turns(turns, grid, num_frames, len(classes), order=classes)
        so_far = np.zeros((num_frames + 1, len(classes)), dtype=np.int64)
        np.cumsum(truth.matrix, axis=0, out=so_far[1:])
        present = (so_far[length:] - so_far[:-length] > 0).sum(axis=1)  # by first frame
        first = int(present.argmax())
        if present[first] > num_slots:
            start = self.start + grid.time_at(first)
            span = Segment(start, start + grid.time_at(length))
            raise crowded(self.name, int(present[first]), span, num_slots)


class SessionDataset(Dataset[Example]):
    """Recorded sessions in their order, whole or cut into windows, with their reference turns.

    Args:
        sessions: manifest lines with ``rttm_filepath``; of features, windows begin and end where
            rows do.
        window: seconds of a window; a session is cut into windows end to end and a rest of
            under a second is left out. None keeps sessions whole.

    Raises:
        ManifestError: if there are no sessions, or one has no reference, ends after its recording,
            or has no row of features as long as a window; if nobody speaks in any of them.
        AudioError: if audio is missing or its header cannot be read.
        FeatureError: if features are.
    """

    def __init__(self, sessions: Sequence[Session], window: float | None) -> None:
        self._window = window
        self._windows: list[Stretch] = []
        for whole in open_sessions(sessions):
            if window is None:
                self._windows.append(whole)
                continue
            refuse_short(whole, window, "data.validation_window")
            start, step = 0.0, whole.recording.nearest(window)
            least = max(1.0, whole.recording.kind.grid.frame_shift)
            while whole.duration - start >= min(least, whole.duration):
                length = min(step, whole.duration - start)
                self._windows.append(whole.cut(whole.start + start, length))
                start += step

    def check(self, hears: Kind, num_slots: int) -> None:
        """See that a model can be validated on it, before any window is cut.

        Args:
            hears: what the model hears.
            num_slots: classes that it tells apart in a window; audio may have more.

        Raises:
            ManifestError: if a session is something else.
            ConfigError: if a window of features may have more classes.
        """
        for window in self._windows:
            window.check(hears, num_slots, self._window)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Example:
        return self._windows[index].example()


@dataclass(frozen=True)
class DecodedRecording(Recording):
    """Audio that is decoded when it is first read, and then lies ready for all processes."""

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """A span of it, (sample,) float32.

        Raises:
            AudioError: if it cannot be decoded, or there is no room for it.
        """
        samples = _decoded(self.path, channel=self.channel)[first : first + count]
        return samples.astype(np.float32) / np.float32(32768)


_decoded = lru_cache(maxsize=1024)(decoded_recording)


def open_sessions(sessions: Sequence[Session], cache: bool = False) -> list[Stretch]:
    """All of each session, which its recording is seen to hold.

    Args:
        sessions: manifest lines with references.
        cache: whether audio is decoded once, into the cache folder of `diarize.corpus`.

    Raises:
        ManifestError: if there are no sessions, or one has no reference or ends after its
            recording; if nobody speaks in any of them.
        AudioError: if audio is missing or its header cannot be read.
        FeatureError: if features are.
    """
    if not sessions:
        raise ManifestError(
            "a manifest of sessions has 0 lines, but training and validation need at least 1. "
            "Name another manifest, or none."
        )
    open_once = lru_cache(maxsize=None)(_open_decoded if cache else open_recording)
    whole = [_whole(session, open_once) for session in sessions]
    refuse_silent(whole)
    return whole


def _table(session: Session) -> TurnTable:
    """The reference of a session; of a thousand hours, in a second or two."""
    assert session.rttm is not None
    columns = _columns(
        session.rttm, session.rttm.stat().st_mtime_ns if session.rttm.exists() else 0
    )
    if session.session_id not in columns:
        return TurnTable.of(reference_turns(session))
    start, end, speakers, _ = columns[session.session_id]
    return TurnTable.of_columns(start, end, speakers, session.offset, session.end)


@lru_cache(maxsize=64)
def _columns(path: Path, stamp: int) -> dict[str, Columns]:
    """A file as it was at its stamp: many sessions may share one."""
    return read_columns(path)


def _open_decoded(path: Path, frame_shift: float | None, channel: int | None) -> Recording:
    recording = open_recording(path, frame_shift, channel)
    if recording.kind != AUDIO:
        return recording
    return DecodedRecording(recording.path, recording.header, channel=channel)


def refuse_silent(stretches: Sequence[Stretch]) -> None:
    """See that somebody speaks in one of them.

    Raises:
        ManifestError: if nobody does, or only outside of them.
    """
    if any(stretch.has_turns for stretch in stretches):
        return
    where = stretches[0].session.where.rpartition(":")[0] or stretches[0].session.where
    seconds = sum(stretch.duration for stretch in stretches)
    told = f"{where}: has {len(stretches)} session{'s' * (len(stretches) > 1)} of {seconds:.2f} s"
    outside = [turn for stretch in stretches for turn in _all_turns(stretch.session)]
    if outside:
        raise ManifestError(
            f"{told}, but all {len(outside)} turns of their references lie outside, the first at "
            f"{min(turn.start for turn in outside):.2f} s. Do the RTTM files belong to these "
            "recordings? Their times are those of the recording."
        )
    raise ManifestError(
        f"{told}, but 0 turns: where nobody speaks, nothing can be learned or scored. Check "
        "'rttm_filepath'."
    )


def _all_turns(session: Session) -> list[Turn]:
    """Turns of a session's reference, also those outside of its span."""
    return [] if session.rttm is None else read_rttm(session.rttm).get(session.session_id, [])


def refuse_short(stretch: Stretch, window: float, setting: str) -> None:
    """See that a window holds a row of features.

    Raises:
        ManifestError: if it does not.
    """
    if not stretch.recording.nearest(window):
        raise ManifestError(
            f"{stretch.name} is {stretch.recording.kind}, but a window lasts {window:g} s. "
            f"Raise {setting}."
        )


def _whole(session: Session, open_once: Callable[..., Recording]) -> Stretch:
    """All of a session, which its recording is seen to hold."""
    if session.rttm is None:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} has no rttm_filepath, but "
            "training and validation need references. Add it."
        )
    try:
        recording = open_once(session.audio, session.frame_shift, session.channel)
    except (AudioError, FeatureError) as error:
        raise type(error)(f"{session.where}: {error}") from None
    left = recording.duration - session.offset
    duration = left if session.duration is None else session.duration
    if duration <= 0:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} starts at {session.offset:.2f} "
            f"s, but {recording.lasts}. Correct 'offset'."
        )
    if session.offset + duration > recording.duration + TOLERANCE:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} ends at {session.end:.2f} s, but "
            f"{recording.lasts}. Shorten 'duration', or check the file."
        )
    start = session.offset
    if recording.kind != AUDIO:  # rows are cut nowhere else than between them
        name = f"{session.where}: session {session.session_id!r}"
        first, stop = recording.span(name, start, start + duration)
        start, duration = first / recording.sample_rate, (stop - first) / recording.sample_rate
    whole = Stretch(session, recording, start, duration, _table(session), scored_regions(session))
    if not whole.has_turns:
        _refuse_unfit(whole)
    return whole


def _refuse_unfit(silent: Stretch) -> None:
    """See that the reference of a session in which nobody speaks is not another recording's."""
    turns, recording = _all_turns(silent.session), silent.recording
    first = min((turn.start for turn in turns), default=0.0)
    if turns and first >= recording.duration:
        raise ManifestError(
            f"{silent.name} has {len(turns)} turns in {silent.session.rttm}, the first at "
            f"{first:.2f} s, but {recording.lasts}. Is it another recording's reference?"
        )
