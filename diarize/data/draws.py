"""A session, and the windows that are drawn from it."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.random import Generator

from diarize.config import check_least, check_shares
from diarize.data.batch import Example
from diarize.data.recorded import Stretch
from diarize.data.windows import FAR, Spans, Starts, Timeline
from diarize.errors import ConfigError
from diarize.frames import FrameGrid
from diarize.recording import AUDIO
from diarize.turns import Segment, shift

CLOCK = FrameGrid(16000, 160)
"""On which windows of audio begin: every hundredth of a second."""

STAND_IN_RMS = 1e-3
"""Of the noise that stands in for a window where none may begin."""


@dataclass
class DrawConfig:
    """Which windows of recorded sessions are drawn."""

    arrival: bool = True
    """Whether a window of audio begins only where it is heard who comes first. Sessions that are
    no longer than a window are taken whole; windows of features begin anywhere."""
    guard: float = 0.25
    """Seconds before such a window in which nobody speaks but its first speaker; nobody at all
    where it begins in a pause."""
    alone: float = 0.5
    """Seconds that its first speaker speaks before anybody else does, or without a break."""
    shortest: float | None = None
    """Seconds that a window at the end of a session lasts at least; null: as long as others."""
    crowding: float = 1.0
    """A window of n speakers weighs so much to the power of n against others of its session."""
    splices: float = 0.0
    """Share of windows that are made of two stretches of their session, joined in a pause."""
    splice_shortest: float = 15.0
    """Seconds that each of the two lasts at least."""
    splice_silence: float = 0.1
    """Seconds of silence at least on either side of the joint."""

    def __post_init__(self) -> None:
        check_least(self, guard=0, alone=0, shortest=0.1, splice_shortest=0.1, splice_silence=0)
        check_shares(self, "splices")
        if not 0 < self.crowding <= 10:
            raise ConfigError(
                f"crowding is {self.crowding:g}, but a weight is above 0 and at most 10. Write 1 "
                "for windows that weigh alike."
            )


class SessionDraws:
    """Windows of one session, drawn at random.

    Where they may begin is found when the first one is drawn.

    Args:
        stretch: all of the session.
        window: seconds of a window.
        draw: which windows.
        num_slots: most speakers of a window, where the session has such windows; None is any
            number.
    """

    def __init__(
        self, stretch: Stretch, window: float, draw: DrawConfig, num_slots: int | None
    ) -> None:
        self.stretch, self._draw = stretch, draw
        kind = stretch.recording.kind
        self._clock = CLOCK if kind == AUDIO else kind.grid
        self._most = FAR if num_slots is None or kind != AUDIO else num_slots
        self._audio = kind == AUDIO
        self._arrival = draw.arrival and self._audio
        self._window = stretch.recording.nearest(window)
        self._least = min(draw.shortest or self._window, self._window)

    def draw(self, part: int, of: int, rng: Generator) -> Example:
        """A window whose start lies in one of so many parts of the weight of all starts.

        A session that is no longer than a window is taken whole. Where no window may begin, faint
        noise stands in for one.

        Args:
            part: which, from 0.
            of: how many parts there are.
            rng: decides where in its part.
        """
        stretch = self.stretch
        if stretch.duration <= self._least:
            return stretch.example()
        if self._audio and rng.random() < self._draw.splices:
            joined = self._splice(rng)
            if joined is not None:
                return joined
        share = (part + rng.random()) / of
        if not len(self._starts):
            return self._stand_in(rng)
        start = stretch.start + self._clock.time_at(self._starts.at(share))
        start = stretch.recording.nearest(start)
        return stretch.cut(start, min(self._window, stretch.end - start)).example()

    @cached_property
    def _timeline(self) -> Timeline:
        stretch, table = self.stretch, self.stretch.turns
        begins, ends = table.frames(self._clock, stretch.start)
        num_frames = self._clock.samples_at(stretch.duration) // self._clock.hop
        return Timeline(begins, ends, table.speaker, num_frames, len(table.speakers))

    @cached_property
    def _starts(self) -> Starts:
        """Of single windows."""
        length, least = self._frames(self._window), self._frames(self._least)
        spans, present = self._allowed(length, least), self._timeline.present(length)
        found = Starts.of(spans, present, self._most, self._draw.crowding)
        # Where every window has too many speakers, those who come late have no slot.
        return found if len(found) else Starts.of(spans, present, FAR, self._draw.crowding)

    def _allowed(self, length: int, least: int) -> Spans:
        """Where windows of a length may begin, so that at least so much of them is there."""
        room = max(self._timeline.num_frames - least, 0) + 1
        anywhere = Spans(np.array([0]), np.array([room]))
        if not self._arrival:
            return anywhere
        guard, alone = self._frames(self._draw.guard), self._frames(self._draw.alone)
        return anywhere & self._timeline.starts(length, guard, alone)

    def _frames(self, seconds: float) -> int:
        return self._clock.frame_at(seconds)

    def _stand_in(self, rng: Generator) -> Example:
        count = round(self._window * self.stretch.recording.sample_rate)
        noise = rng.normal(scale=STAND_IN_RMS, size=count).astype(np.float32)
        return Example(self.stretch.session.session_id, noise, [], stands_in=True)

    def _splice(self, rng: Generator) -> Example | None:
        """Two stretches joined in a pause, as long as a window; None where there are none."""
        timeline, draw = self._timeline, self._draw
        total, shortest = self._frames(self._window), self._frames(draw.splice_shortest)
        silence = self._frames(draw.splice_silence)
        if min(total, timeline.num_frames) < 2 * shortest:
            return None
        length = int(rng.integers(shortest, total - shortest + 1))
        quiet = timeline.silence()
        ends_quiet = quiet.moved(silence - length, 1 - length)
        begins_quiet = quiet.moved(0, 1 - silence)
        spans = self._allowed(length, length) & ends_quiet
        starts = Starts.of(spans, timeline.present(length), self._most, draw.crowding)
        if not len(starts):
            return None
        first = starts.at(rng.random())
        last, heard = first + length, timeline.heard(first, first + length)
        rest = total - length
        for least in (rest, shortest):
            spans = self._allowed(least, least) & begins_quiet
            spans = spans & Spans.of(np.array([0, last]), np.array([first - least + 1, FAR]))
            present = timeline.present(least)
            starts = Starts.of(spans, present, self._most, draw.crowding, also=heard)
            if len(starts):
                break
        else:
            return None
        second = starts.at(rng.random())
        if least < rest:  # there is no room for the rest: the longest stretch that there is
            begins = starts.spans.first
            room = np.where(begins < first, first, timeline.num_frames) - begins
            second = int(begins[room.argmax()])
            rest = min(int(room.max()), rest)
            if len(np.union1d(heard, timeline.heard(second, second + rest))) > self._most:
                return None
        one, other = self._example(first, length), self._example(second, rest)
        return _joined(one, other)

    def _example(self, first: int, length: int) -> Example:
        start = self.stretch.start + self._clock.time_at(first)
        return self.stretch.cut(start, self._clock.time_at(length)).example()


def _joined(one: Example, other: Example) -> Example:
    """Two windows as one."""
    seconds = one.num_samples / one.grid.sample_rate
    regions = None
    if one.regions is not None and other.regions is not None:
        later = [Segment(r.start + seconds, r.end + seconds) for r in other.regions]
        regions = [*one.regions, *later]
    signal = np.concatenate([one.signal, other.signal])
    turns = [*one.turns, *shift(other.turns, seconds)]
    return replace(one, signal=signal, turns=turns, regions=regions)
