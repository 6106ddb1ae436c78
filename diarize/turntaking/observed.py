"""What is seen of turn-taking in references."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from diarize.turns import Turn, merge

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

JOIN = 0.2
"""Seconds of silence within which a speaker's words are one turn."""

NOTHING, PAUSE, GAP, OVERLAP = range(4)
"""What comes after a turn."""

MOST = 0.95
"""Highest weight of one speaker among those who may take the floor."""

SOLVED = 30
"""Rounds in which weights come near enough to their shares."""

SECONDS = ("turn", "pause", "gap", "overlap", "shorter", "backchannel")
"""What is listed turn by turn, or transition by transition."""


@dataclass(frozen=True)
class Observed:
    """All that was seen of how people take turns; everything in seconds unless it says otherwise.

    Attributes:
        turn: (n,) how long who has the floor speaks at a time.
        follows: (n,) what comes next: `PAUSE`, `GAP`, `OVERLAP`, or `NOTHING` at a session's end.
        comments: (n,) how many backchannels each of these turns has.
        speaker: (n,) whose they are, numbered throughout all sessions.
        pause: (pause,) silence after which he goes on.
        gap: (gap,) silence after which another speaks.
        overlap: (overlap,) how long two speak where another takes over early.
        shorter: (overlap,) how long the shorter of these two turns is.
        backchannel: (backchannel,) how long somebody speaks within another's turn.
        speakers: (session,) how many speak.
        shares: (session, speaker) of the times that each takes the floor, largest first, 0 beyond.
        total: from the first to the last word, summed over sessions.
        speech: with at least one speaker.
        crosstalk: with at least two.
        returned: how often a floor that changes goes back to who had it before.
        expected: how often it would, did `shares` alone decide.
        changed: how often it changes where it might go back.
    """

    turn: Floats
    follows: Ints
    comments: Ints
    speaker: Ints
    pause: Floats
    gap: Floats
    overlap: Floats
    shorter: Floats
    backchannel: Floats
    speakers: Ints
    shares: Floats
    total: float
    speech: float
    crosstalk: float
    returned: int
    expected: float
    changed: int

    @property
    def hold(self) -> float:
        """How often who has the floor goes on."""
        return _share(self.follows == PAUSE, self.follows != NOTHING)

    @property
    def interrupt(self) -> float:
        """How often another who takes it does so before the turn ends."""
        return _share(self.follows == OVERLAP, self.follows > PAUSE)

    @property
    def silence(self) -> float:
        """Share of the time in which nobody speaks."""
        return 1 - self.speech / self.total if self.total else 0.0

    @property
    def overlapped(self) -> float:
        """Share of speech in which two or more do."""
        return self.crosstalk / self.speech if self.speech else 0.0

    @property
    def habit(self) -> float:
        """How alike the turns of one speaker are in length: the correlation of normal scores."""
        if not len(self.turn):
            return 0.0
        score = ndtri((rankdata(self.turn) - 0.5) / len(self.turn))
        number = np.bincount(self.speaker)
        pairs = (number * (number - 1)).sum() * np.square(score).mean()
        alike = np.bincount(self.speaker, score) ** 2 - np.bincount(self.speaker, score**2)
        return float(alike.sum() / pairs) if pairs > 0 else 0.0


def observe(sessions: Mapping[str, Sequence[Turn]], join: float = JOIN) -> Observed:
    """What is seen of turn-taking in references.

    Args:
        sessions: turns by session.
        join: a speaker's turns with at most so many seconds between them are one.
    """
    seconds: dict[str, list[float]] = {name: [] for name in SECONDS}
    follows: list[int] = []
    comments: list[int] = []
    whose: list[int] = []
    shares: list[list[float]] = []
    speakers: dict[tuple[str, str], int] = {}
    total = speech = crosstalk = expected = 0.0
    returned = changed = 0
    for session, turns in sessions.items():
        joined = merge(turns, join)
        if not joined:
            continue
        floor, backchannels = _floor(joined)
        for turn, within in zip(floor, backchannels, strict=True):
            seconds["turn"].append(turn.duration)
            seconds["backchannel"] += within
            comments.append(len(within))
            whose.append(speakers.setdefault((session, turn.speaker), len(speakers)))
        for turn, after in pairwise(floor):
            late = after.start - turn.end
            if after.speaker == turn.speaker:
                kind, name = PAUSE, "pause"
            else:
                kind, name = (GAP, "gap") if late >= 0 else (OVERLAP, "overlap")
            follows.append(kind)
            seconds[name].append(abs(late))
            if kind == OVERLAP:
                seconds["shorter"].append(min(turn.duration, after.duration))
        follows.append(NOTHING)
        taken = [speaker for speaker, _ in groupby(turn.speaker for turn in floor)]
        names = sorted({turn.speaker for turn in joined})
        share = np.array([taken.count(name) for name in names]) / len(taken)
        shares.append(sorted(share.tolist(), reverse=True))
        if len(names) > 2:
            weight = dict(zip(names, floor_weights(share), strict=True))
            for former, holder, following in zip(taken, taken[1:], taken[2:], strict=False):
                changed += 1
                returned += following == former
                expected += weight[former] / (1 - weight[holder])
        total += max(turn.end for turn in joined) - joined[0].start
        spoken, twice = _covered(joined)
        speech, crosstalk = speech + spoken, crosstalk + twice
    most = max((len(each) for each in shares), default=0)
    return Observed(
        **{name: np.array(values) for name, values in seconds.items()},
        follows=np.array(follows, dtype=np.int64),
        comments=np.array(comments, dtype=np.int64),
        speaker=np.array(whose, dtype=np.int64),
        speakers=np.array([len(each) for each in shares], dtype=np.int64),
        shares=np.array([each + [0.0] * (most - len(each)) for each in shares]),
        total=total,
        speech=speech,
        crosstalk=crosstalk,
        returned=returned,
        expected=expected,
        changed=changed,
    )


def floor_weights(shares: Floats) -> Floats:
    """How likely each is to take the floor, such that each takes it as often as shares say.

    Of who may take it, everybody but its holder h, speaker s does with chance w_s / (1 - w_h). Then
    s has it in a share of turns that goes as w_s (1 - w_s), also if now and then it goes back to
    who had it before, for that swaps the two last holders, who are as likely in either order.

    Args:
        shares: (..., speaker), relative to one another. Nobody can have more than half.

    Returns:
        Weights (..., speaker) that sum to 1.
    """
    shares = shares / shares.sum(axis=-1, keepdims=True)
    weights = shares
    for _ in range(SOLVED):
        weights = shares / (1 - np.minimum(weights, MOST))
        weights = weights / weights.sum(axis=-1, keepdims=True)
    return np.minimum(weights, MOST)


def _floor(turns: Sequence[Turn]) -> tuple[list[Turn], list[list[float]]]:
    """Turns of who has the floor, and how long others speak within each."""
    floor = [turns[0]]
    within: list[list[float]] = [[]]
    for turn in turns[1:]:
        if turn.speaker != floor[-1].speaker and turn.end <= floor[-1].end:
            within[-1].append(turn.duration)
        else:
            floor.append(turn)
            within.append([])
    return floor, within


def _covered(turns: Sequence[Turn]) -> tuple[float, float]:
    """Seconds in which at least one, and at least two speak."""
    edges = sorted([(turn.start, 1) for turn in turns] + [(turn.end, -1) for turn in turns])
    once = twice = last = 0.0
    speaking = 0
    for time, change in edges:
        once += (time - last) * (speaking >= 1)
        twice += (time - last) * (speaking >= 2)
        speaking, last = speaking + change, time
    return once, twice


def _share(some: NDArray[np.bool_], of: NDArray[np.bool_]) -> float:
    return float((some & of).sum() / of.sum()) if of.any() else 0.0
