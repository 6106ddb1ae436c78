"""Segments and turns: stretches of time, and who speaks in them. All times in seconds."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

LONGEST = 1e9
"""Seconds, 31 years: more than any recording; also what keeps infinity and NaN out."""


@dataclass(frozen=True, order=True)
class Segment:
    """Half-open interval [start, end), seconds."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.end - self.start


@dataclass(frozen=True)
class Turn(Segment):
    """One speaker's uninterrupted speech: a segment, its speaker, and how sure we are.

    Turns sort by time alone, as segments do, since a confidence may be None.

    Attributes:
        speaker: label, unique within a session.
        confidence: 0 to 1; None where nobody estimated it.
        channel: the recording's channel as RTTM writes it, usually "1".
    """

    speaker: str
    confidence: float | None = None
    channel: str = "1"


def clip(turns: Iterable[Turn], start: float, end: float) -> list[Turn]:
    """The parts of turns inside [start, end); turns outside are dropped."""
    inside = (t for t in turns if min(t.end, end) > max(t.start, start))
    return [
        # Most lie inside as they are, and a copy takes its time.
        t
        if start <= t.start and t.end <= end
        else replace(t, start=max(t.start, start), end=min(t.end, end))
        for t in inside
    ]


def shift(turns: Iterable[Turn], seconds: float) -> list[Turn]:
    """The same turns, so many seconds later."""
    return [replace(t, start=t.start + seconds, end=t.end + seconds) for t in turns]


def merge(turns: Iterable[Turn], gap: float = 0.0) -> list[Turn]:
    """Turns of one speaker that overlap, touch, or lie at most ``gap`` seconds apart, joined.

    A joined turn keeps the channel of its first part and the duration-weighted confidence of
    all parts (None if any part has none). Sorted by start, then end, then speaker.
    """
    by_speaker: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda t: (t.start, t.end)):
        done = by_speaker.setdefault(turn.speaker, [])
        if done and turn.start - done[-1].end <= gap:
            done[-1] = _join(done[-1], turn)
        else:
            done.append(turn)
    return in_order(turn for done in by_speaker.values() for turn in done)


def in_order(turns: Iterable[Turn]) -> list[Turn]:
    """Turns sorted by start, then end, then speaker: the order in which RTTM is written."""
    return sorted(turns, key=lambda t: (t.start, t.end, t.speaker))


def _join(first: Turn, second: Turn) -> Turn:
    confidence = None
    if first.confidence is not None and second.confidence is not None:
        weight = first.duration + second.duration
        total = first.confidence * first.duration + second.confidence * second.duration
        confidence = total / weight if weight else first.confidence
    return replace(first, end=max(first.end, second.end), confidence=confidence)
