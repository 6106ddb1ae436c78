"""Recorded sessions: windows of them, with their truth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from torch.utils.data import Dataset

from diarize.activity import from_turns
from diarize.audio import TOLERANCE
from diarize.data.batch import Example, crowded
from diarize.errors import AudioError, FeatureError, ManifestError
from diarize.manifest import Session, reference_turns, scored_regions
from diarize.recording import AUDIO, Kind, Recording, open_recording, refuse_unheard
from diarize.turns import Segment, Turn, clip, shift


@dataclass(frozen=True)
class _Window:
    """A stretch of a session, in seconds of the recording, and the session's truth."""

    session: Session
    recording: Recording
    start: float
    duration: float
    turns: list[Turn]
    regions: list[Segment] | None

    def cut(self, start: float, duration: float) -> "_Window":
        return replace(self, start=start, duration=duration)

    def example(self) -> Example:
        first = self.recording.sample_at(self.start)
        count = self.recording.sample_at(self.start + self.duration) - first
        signal = self.recording.read(first, count)
        start = self.recording.nearest(self.start)
        end = start + count / self.recording.sample_rate
        regions = None
        if self.regions is not None:
            cut = [(max(r.start, start), min(r.end, end)) for r in self.regions]
            regions = [Segment(a - start, b - start) for a, b in cut if b > a]
        turns = shift(clip(self.turns, start, end), -start)
        grid = self.recording.kind.grid
        return Example(self.session.session_id, signal, turns, regions, start, grid)

    def check(self, hears: Kind, num_slots: int, window: float | None) -> None:
        """See that a model hears it, and has slots for all classes in any ``window`` seconds."""
        name = f"{self.session.where}: session {self.session.session_id!r}"
        refuse_unheard(name, self.recording.kind, hears)
        classes = sorted({turn.speaker for turn in self.turns})
        if hears == AUDIO or len(classes) <= num_slots:
            return
        grid = self.recording.kind.grid
        num_frames = grid.frame_at(self.duration)
        length = min(grid.frame_at(window or self.duration), num_frames)
        truth = from_turns(self.turns, grid, num_frames, len(classes), self.start, classes)
        so_far = np.zeros((num_frames + 1, len(classes)), dtype=np.int64)
        np.cumsum(truth.matrix, axis=0, out=so_far[1:])
        present = (so_far[length:] - so_far[:-length] > 0).sum(axis=1)  # by first frame
        first = int(present.argmax())
        if present[first] > num_slots:
            start = self.start + grid.time_at(first)
            span = Segment(start, start + grid.time_at(length))
            raise crowded(name, int(present[first]), span, num_slots)


class SessionDataset(Dataset[Example]):
    """Windows of recorded sessions, each with its reference turns.

    Args:
        sessions: manifest lines with ``rttm_filepath``; of features, windows begin and end where
            rows do.
        window: seconds of a window; a session is cut into windows end to end and a rest of
            under a second is left out. None keeps sessions whole.
        shuffle_seed: with a seed, any index ``i`` is a window at a random place, drawn from
            (seed, i), of a session drawn by its duration; without, windows come in order.

    Raises:
        ManifestError: if there are no sessions, or one has no reference, ends after its recording,
            or has no row of features as long as a window.
        AudioError: if audio is missing or its header cannot be read.
        FeatureError: if features are.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        window: float | None,
        shuffle_seed: int | None = None,
    ) -> None:
        if not sessions:
            raise ManifestError(
                "a manifest of sessions has 0 lines, but training and validation need at least 1. "
                "Name another manifest, or none."
            )
        self._seed, self._window = shuffle_seed, window
        self._windows: list[_Window] = []
        open_once = lru_cache(maxsize=None)(open_recording)
        for session in sessions:
            whole = _whole(session, open_once)
            if window is not None and not whole.recording.nearest(window):
                raise ManifestError(
                    f"{session.where}: session {session.session_id!r} is {whole.recording.kind}, "
                    f"but a window lasts {window:g} s. Raise data.window (in "
                    "validation, data.validation_window)."
                )
            if shuffle_seed is not None or window is None:
                self._windows.append(whole)
                continue
            start, step = 0.0, whole.recording.nearest(window)
            least = max(1.0, whole.recording.kind.grid.frame_shift)
            while whole.duration - start >= min(least, whole.duration):
                length = min(step, whole.duration - start)
                self._windows.append(whole.cut(whole.start + start, length))
                start += step
        total = np.array([w.duration for w in self._windows])
        self._share = total / total.sum()

    def check(self, hears: Kind, num_slots: int) -> None:
        """See that a model can learn from it, before any window is cut.

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
        if self._seed is None:
            return self._windows[index].example()
        rng = np.random.default_rng([self._seed, index])
        drawn = self._windows[int(rng.choice(len(self._windows), p=self._share))]
        window = self._window and drawn.recording.nearest(self._window)
        if window is not None and drawn.duration > window:
            start = drawn.start + float(rng.uniform(0.0, drawn.duration - window))
            drawn = drawn.cut(drawn.recording.nearest(start), window)
        return drawn.example()


def _whole(session: Session, open_once: Callable[..., Recording]) -> _Window:
    """All of a session, which its recording is seen to hold."""
    if session.rttm is None:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} has no rttm_filepath, but "
            "training and validation need references. Add it."
        )
    try:
        recording = open_once(session.audio, session.frame_shift)
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
    return _Window(
        session,
        recording,
        start,
        duration,
        reference_turns(session),
        scored_regions(session),
    )
