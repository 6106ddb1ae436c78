"""Where windows of a session may begin: from its turns alone, before any sample is read.

A window that begins in the midst of speech shows speakers in an order of arrival that nobody can
hear. One may begin only where it is heard who comes first: in a pause, or in the speech of one
speaker, and before anybody else comes in. Rules and numbers are those of NVIDIA's training of
Nemotron-3-Diarization (``sortformer_offline_8spk.yaml``).

Times are frames of one clock, counted from the session's first. P pieces of a session in which the
same speakers talk throughout, S speakers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarize.frames import FrameGrid
from diarize.turns import Turn

Frames = NDArray[np.int64]

FAR = 1 << 40
"""Frames: further than any session reaches."""


@dataclass(frozen=True, eq=False)
class TurnTable:
    """The turns of a session as columns, of which a window is cut at little cost.

    Attributes:
        start: (turn,) seconds, ascending.
        end: (turn,) likewise.
        speaker: (turn,) index into ``speakers``.
        speakers: labels.
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    speaker: Frames
    speakers: tuple[str, ...]

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> "TurnTable":
        """The table of turns in any order; confidences and channels are left out."""
        start = np.array([turn.start for turn in turns], dtype=np.float64)
        end = np.array([turn.end for turn in turns], dtype=np.float64)
        return cls.of_columns(start, end, [turn.speaker for turn in turns])

    @classmethod
    def of_columns(
        cls,
        start: NDArray[np.float64],
        end: NDArray[np.float64],
        speakers: Sequence[str],
        first: float = -math.inf,
        last: float = math.inf,
    ) -> "TurnTable":
        """The table of turns in any order, (turn,) each; of them what lies in [first, last)."""
        start, end = np.maximum(start, first), np.minimum(end, last)
        order = np.argsort(start, kind="stable")
        order = order[end[order] > start[order]]
        index: dict[str, int] = {}
        speaker = [index.setdefault(speakers[turn], len(index)) for turn in order]
        number = np.array(speaker, dtype=np.int64)
        return cls(start[order], end[order], number, tuple(index))

    def between(self, start: float, end: float) -> list[Turn]:
        """What of the turns lies in [start, end), in seconds from ``start``."""
        inside = np.flatnonzero((self.start < end) & (self.end > start))
        begins = np.maximum(self.start[inside], start) - start
        ends = np.minimum(self.end[inside], end) - start
        names = [self.speakers[speaker] for speaker in self.speaker[inside]]
        cut = zip(begins.tolist(), ends.tolist(), names, strict=True)
        return [Turn(begin, stop, name) for begin, stop, name in cut if stop > begin]

    def frames(self, grid: FrameGrid, start: float) -> tuple[Frames, Frames]:
        """(turn,) first frame, and one past the last, of each turn, counted from ``start``."""
        first = grid.samples_at(start)
        begins, ends = (
            (np.rint(times * grid.sample_rate).astype(np.int64) - first + grid.hop // 2) // grid.hop
            for times in (self.start, self.end)
        )
        return begins, ends


@dataclass(frozen=True, eq=False)
class Spans:
    """Stretches of frames, [first, last), ascending and apart from one another."""

    first: Frames
    last: Frames

    @classmethod
    def of(cls, first: Frames, last: Frames) -> "Spans":
        """Those that are not empty."""
        kept = last > first
        return cls(first[kept], last[kept])

    def __and__(self, other: "Spans") -> "Spans":
        """What lies in both."""
        edges = np.unique(np.concatenate([self.first, self.last, other.first, other.last]))
        both = self.holds(edges[:-1]) & other.holds(edges[:-1])
        return Spans(edges[:-1][both], edges[1:][both])

    def moved(self, before: int, after: int) -> "Spans":
        """Each begun so many frames later, and ended so many later; those that remain."""
        return Spans.of(self.first + before, self.last + after)

    def holds(self, frames: Frames) -> NDArray[np.bool_]:
        """Which frames lie in one of them."""
        place = np.searchsorted(self.first, frames, side="right") - 1
        inside: NDArray[np.bool_] = place >= 0
        inside[inside] = frames[inside] < self.last[place[inside]]
        return inside


class Timeline:
    """Who speaks when in a session, in pieces that hold the same speakers throughout.

    Args:
        begins: (turn,) first frame of each turn, from the session's first.
        ends: (turn,) one past the last.
        speaker: (turn,) index of who speaks, below ``num_speakers``.
        num_frames: of the session; turns beyond are cut off.
        num_speakers: S.

    Attributes:
        edges: (P + 1,) where pieces begin and end; from 0 to ``num_frames``.
        active: (P, S) who speaks in each.
    """

    def __init__(
        self, begins: Frames, ends: Frames, speaker: Frames, num_frames: int, num_speakers: int
    ) -> None:
        begins, ends = begins.clip(0, num_frames), ends.clip(0, num_frames)
        heard = ends > begins
        begins, ends, speaker = begins[heard], ends[heard], speaker[heard]
        bounds = np.array([0, num_frames], dtype=np.int64)
        self.num_frames = num_frames
        self.edges = np.unique(np.concatenate([bounds, begins, ends]))
        steps = np.zeros((len(self.edges), num_speakers), dtype=np.int32)
        np.add.at(steps, (np.searchsorted(self.edges, begins), speaker), 1)
        np.add.at(steps, (np.searchsorted(self.edges, ends), speaker), -1)
        self.active = steps.cumsum(axis=0)[:-1] > 0

    def silence(self) -> Spans:
        """Where nobody speaks."""
        silent = ~self.active.any(axis=1)
        return Spans(self.edges[:-1][silent], self.edges[1:][silent])

    def starts(self, length: int, guard: int, alone: int) -> Spans:
        """Where windows may begin so that it is heard who comes first.

        The first to be heard is one speaker. In the ``guard`` frames before the window nobody else
        is heard; nobody at all if it begins in a pause. The first speaker speaks for ``alone``
        frames before anybody else does, or without a break, others joining in. A window in which
        nobody speaks may begin wherever the guard is silent.

        Args:
            length: frames of the windows; a start may lie so near to the end that less is left.
            guard: frames.
            alone: frames.
        """
        first, last = self.edges[:-1], self.edges[1:]
        active, rows = self.active, np.arange(len(first))
        if not active.shape[1]:
            return Spans(first, last)
        speaking = active.sum(axis=1)
        who = active.argmax(axis=1)
        # Of every speaker: when they last spoke before a piece, and will next speak after it.
        ended = np.maximum.accumulate(np.where(active, last[:, None], -FAR), axis=0)
        before = np.concatenate([np.full((1, active.shape[1]), -FAR), ended[:-1]])
        after = _next(np.where(active, first[:, None], FAR))
        run_end = np.minimum(_next(np.where(active, FAR, first[:, None])), self.num_frames)
        any_before = before.max(axis=1)
        before[rows, who], after[rows, who] = -FAR, FAR
        entry = np.minimum(after.min(axis=1), self.num_frames)
        spoken = np.zeros((len(self.edges), active.shape[1]), dtype=np.int64)
        np.cumsum(active * (last - first)[:, None], axis=0, out=spoken[1:])
        more = spoken[np.searchsorted(self.edges, entry), who] - spoken[rows + 1, who]
        # The last frame of a piece from which its speaker still speaks for long enough.
        latest = np.maximum(last + more, run_end[rows, who]) - alone
        single = speaking == 1
        in_speech = np.maximum(first, before.max(axis=1) + guard), np.minimum(last, latest + 1)
        # In a pause, the next piece decides; after the last word, none does.
        clear = np.append(single & (latest >= first), True)[1:]
        in_pause = np.maximum(first, any_before + guard), np.where(clear, last, last - length + 1)
        begin = np.where(single, in_speech[0], in_pause[0])
        end = np.where(single, in_speech[1], np.where(speaking == 0, in_pause[1], 0))
        return Spans.of(begin, end)

    def heard(self, first: int, last: int) -> Frames:
        """Who speaks in [first, last), ascending."""
        inside = (self.edges[:-1] < last) & (self.edges[1:] > first)
        return np.flatnonzero(self.active[inside].any(axis=0))

    def present(self, length: int) -> "Timeline":
        """Who is heard in the window of ``length`` frames that begins at a frame, in pieces."""
        piece, speaker = np.nonzero(self.active)
        begins, ends = self.edges[piece] - length + 1, self.edges[piece + 1]
        return Timeline(begins, ends, speaker, self.num_frames, self.active.shape[1])


def _next(times: Frames) -> Frames:
    """(P, S): of each piece, the least time among the pieces after it; FAR after the last."""
    least = np.minimum.accumulate(times[::-1], axis=0)[::-1]
    return np.concatenate([least[1:], np.full((1, times.shape[1]), FAR)])


@dataclass(frozen=True, eq=False)
class Starts:
    """Frames at which windows may begin, and how much each weighs.

    Attributes:
        spans: where.
        weight: (span,) of each frame of a span.
    """

    spans: Spans
    weight: NDArray[np.float64]

    @classmethod
    def of(
        cls, spans: Spans, present: Timeline, most: int, crowding: float, also: Frames | None = None
    ) -> "Starts":
        """Those of windows with at most so many speakers.

        Args:
            spans: where windows may begin.
            present: who is heard in the window that begins at a frame.
            most: speakers of a window, at most.
            crowding: the weight of n speakers is this to the power of n.
            also: speakers who are counted in any case.
        """
        spans = spans & Spans(present.edges[:-1], present.edges[1:])
        heard = present.active.copy()
        if also is not None:
            heard[:, also] = True
        count = heard.sum(axis=1)[np.searchsorted(present.edges, spans.first, side="right") - 1]
        fits = count <= most
        weight = crowding ** count[fits].astype(np.float64)
        return cls(Spans(spans.first[fits], spans.last[fits]), weight)

    def __len__(self) -> int:
        return int((self.spans.last - self.spans.first).sum())

    def at(self, share: float) -> int:
        """The frame below which so much of all weight lies, a share from 0 to below 1."""
        mass = (self.spans.last - self.spans.first) * self.weight
        until = mass.cumsum()
        sought = share * until[-1]
        span = min(int(np.searchsorted(until, sought, side="right")), len(mass) - 1)
        inside = (sought - (until[span] - mass[span])) / self.weight[span]
        first, last = int(self.spans.first[span]), int(self.spans.last[span])
        return min(max(first + int(inside), first), last - 1)
