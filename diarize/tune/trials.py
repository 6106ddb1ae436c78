"""What any post-processing gets wrong on sessions with references, counted within milliseconds.

A reference does not change from trial to trial. So what of it is scored, who speaks there and how
many do is summed up once over time, for each session from its first boundary on, and a trial only
looks up these sums where its own turns begin and end. Turns of all sessions lie on one line of
time for that, session after session.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from diarize.errors import ScoreError
from diarize.formats.posteriors import Posteriors
from diarize.postprocess import STEP, Lanes, PostprocessConfig, Stretches, bounds
from diarize.score import RULES, Condition
from diarize.score.mapping import INSTANT, TIE
from diarize.score.timeline import Timeline, counts, timeline
from diarize.turns import Segment, Turn

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PAIRS = 64
"""Of thresholds so many are remembered, with the speech that they make."""

BETWEEN = 1.0
"""Seconds between two sessions on the line."""


@dataclass(frozen=True)
class Labelled:
    """A session that a model has judged, and the truth.

    Attributes:
        session_id: its name.
        posteriors: what the model says.
        reference: who speaks when, in seconds of the recording.
        regions: what is scored; all of it if None.
    """

    session_id: str
    posteriors: Posteriors
    reference: Sequence[Turn]
    regions: Sequence[Segment] | None


class Sums:
    """Quantities that are constant between boundaries, summed up over the line.

    Args:
        rates: (cell, quantity), what a second adds.
        seconds: (cell,), how long each lasts.
        firsts: (session,), the first cell of each, where its sums begin at 0.
    """

    def __init__(self, rates: Floats, seconds: Floats, firsts: Integers) -> None:
        self._rates = rates
        total = np.cumsum(rates * seconds[:, None], axis=0)
        before = np.concatenate([np.zeros((1, rates.shape[1])), total[:-1]])
        sizes = np.diff(np.append(firsts, len(rates)))
        self._before = before - np.repeat(before[firsts], sizes, axis=0)

    def until(self, cells: Integers, into: Floats) -> Floats:
        """(time, quantity), up to so many seconds into cells."""
        rates: Floats = self._rates.take(cells, axis=0)  # several times as fast as by [cells]
        rates *= into[:, None]
        rates += self._before.take(cells, axis=0)
        return rates

    def of(self, quantity: Integers, cells: Integers, into: Floats) -> Floats:
        """(time,), the same of one quantity each."""
        places = cells * self._rates.shape[1] + quantity
        summed: Floats = self._before.take(places) + self._rates.take(places) * into
        return summed


class Trials:
    """Sessions on which post-processing is tried.

    Args:
        sessions: what to try it on, all of one frame shift.
        condition: what is scored, by md-eval's rules.

    Attributes:
        scored: (session,), seconds of reference speech that are scored.

    Raises:
        ScoreError: if frame shifts or rules differ, or no speech is scored.
    """

    def __init__(self, sessions: Sequence[Labelled], condition: Condition) -> None:
        if condition.rules != RULES[0]:
            raise ScoreError(
                f"rules are {condition.rules!r}, but post-processing is tuned by {RULES[0]}'s, "
                "those of published tables. Score what was tuned by others."
            )
        shifts = {s.posteriors.frame_shift: s.session_id for s in sessions}
        if len(shifts) > 1:
            (one, first), (other, second), *_ = shifts.items()
            raise ScoreError(
                f"frames of session {first!r} last {one:g} s, but those of {second!r} {other:g} s. "
                "Take posteriors of one model."
            )
        columns: list[NDArray[np.float32]] = []
        firsts: list[int] = []
        lasts: list[int] = []
        owners: list[int] = []
        for number, session in enumerate(sessions):
            begin, end = _ends(session)
            slots = list(session.posteriors.posterior.T)
            columns += slots
            firsts += [begin] * len(slots)
            lasts += [end] * len(slots)
            owners += [number] * len(slots)
        (frame_shift,) = shifts
        self._lanes = Lanes(columns, frame_shift, firsts, lasts)
        self._speech = lru_cache(PAIRS)(self._lanes.speech)
        self._sessions = np.array(owners, dtype=np.int64)
        lines = [_line(session, condition) for session in sessions]
        self._lay_out(lines)
        self.scored: Floats = np.array([float(line.scored @ _speaking(line)) for line in lines])
        if not self.scored.sum() > 0:
            raise ScoreError(
                f"in {len(sessions)} sessions no reference speech is scored, but an error rate "
                "is of such speech. Are these the references, and the UEM?"
            )

    def _lay_out(self, lines: Sequence[Timeline]) -> None:
        """Lay the sessions' cells on the line, one after the other, and sum up over them."""
        times, shifts, at = [], [], 0.0
        for line in lines:
            shifts.append(at - line.boundaries[0])
            times.append(line.boundaries + shifts[-1])
            at = times[-1][-1] + BETWEEN
        self._times: Floats = np.concatenate(times)
        self._shifts: Floats = np.array(shifts)
        sizes = [len(piece) for piece in times]
        firsts: Integers = np.cumsum(sizes) - np.array(sizes)
        self._owner = np.repeat(np.arange(len(lines)), sizes)
        # The last cell of each session is that in which nothing is scored, up to the next one.
        seconds = np.concatenate([np.append(np.diff(piece), 0.0) for piece in times])
        most = max(int(np.bincount(self._sessions).max()), 1)
        voices = max(len(line.reference.speakers) for line in lines)
        answers, weights, spare = [], [], []
        for line in lines:
            region, scored = (_share(part) for part in (line.region, line.scored))
            speak = _voices(line, voices)
            # The last column is of whoever speaks, right or wrong.
            answers.append(np.column_stack([speak * scored[:, None], scored]))
            weights.append(speak * (region + TIE * scored)[:, None])
            more = np.arange(most + 1) - np.append(_speaking(line), 0)[:, None]
            spare.append(np.maximum(more, 0) * scored[:, None])
        self._answers = Sums(np.concatenate(answers), seconds, firsts)
        # In proportion to the answers where all of the region is scored.
        own = zip(weights, answers, strict=True)
        same = all(np.allclose(w, a[:, :-1], rtol=0.0, atol=2 * TIE) for w, a in own)
        self._weights = None if same else Sums(np.concatenate(weights), seconds, firsts)
        self._spare = Sums(np.concatenate(spare), seconds, firsts)

    def errors(self, config: PostprocessConfig) -> Floats:
        """(session, 3): seconds of miss, false alarm and confusion, as `score` counts them."""
        found = self._lanes.cut(self._speech(config.onset, config.offset), config)
        owners = self._sessions[found.lanes]
        shifts = self._shifts[owners]
        # Ends first: where one turn ends and another begins, nobody speaks twice.
        times = np.concatenate([found.ends / 1e6 + shifts, found.begins / 1e6 + shifts])
        cells = np.searchsorted(self._times, times, side="right") - 1
        into = times - self._times[cells]
        answers = self._by_lane(self._answers, found, cells, into)
        weights = answers[:, :-1]
        if self._weights is not None:
            weights = self._by_lane(self._weights, found, cells, into)
        heard = np.bincount(self._sessions, answers[:, -1], len(self._shifts))
        false_alarm = self._false_alarm(times, cells, into)
        confusion = heard - false_alarm - self._correct(weights, answers)
        miss = self.scored - heard + false_alarm
        return np.stack([miss, false_alarm, confusion], axis=1).clip(0.0)

    def _false_alarm(self, times: Floats, cells: Integers, into: Floats) -> Floats:
        """(session,), seconds of speech beyond the number who speak in truth."""
        order = np.argsort(times, kind="stable")
        steps = np.repeat([-1, 1], len(times) // 2)[order]
        speaking = np.cumsum(steps)[:-1]
        cells, into = cells[order], into[order]
        some = np.flatnonzero(speaking)
        number = speaking[some]
        spare = self._spare.of(number, cells[some + 1], into[some + 1])
        spare -= self._spare.of(number, cells[some], into[some])
        total = np.bincount(self._owner[cells[some]], spare, len(self._shifts))
        return np.asarray(total, dtype=np.float64)

    def _correct(self, weights: Floats, answers: Floats) -> Floats:
        """(session,), seconds that are answered by who is mapped to whom speaks."""
        correct = np.zeros(len(self._shifts))
        ends = np.searchsorted(self._sessions, np.arange(len(correct) + 1))
        for session, (first, last) in enumerate(zip(ends[:-1], ends[1:], strict=True)):
            weight = weights[first:last]
            slots, speakers = linear_sum_assignment(weight, maximize=True)
            mapped = weight[slots, speakers] > INSTANT
            correct[session] = answers[first:last][slots, speakers][mapped].sum()
        return correct

    def _by_lane(self, sums: Sums, found: Stretches, cells: Integers, into: Floats) -> Floats:
        """(lane, quantity), summed up over the turns of each lane."""
        num_turns = len(found.lanes)
        until = sums.until(cells, into)
        each = until[:num_turns] - until[num_turns:]
        total = np.zeros((len(self._sessions), each.shape[1]))
        first = np.flatnonzero(np.diff(found.lanes, prepend=-1))
        if num_turns:
            total[found.lanes[first]] = np.add.reduceat(each, first)
        return total


def _ends(session: Labelled) -> tuple[int, int]:
    """Microseconds of the recording between which the session's turns lie."""
    given = session.posteriors
    return bounds(len(given.posterior), given.frame_shift, given.offset, given.duration)


def _line(session: Labelled, condition: Condition) -> Timeline:
    """The reference alone, cut at its boundaries and at the ends of the posteriors."""
    first, last = _ends(session)
    # Whatever a trial says lies inside; as the only turn it widens the region to where any may be.
    most = Turn(first / 1e6, max(last / 1e6, first / 1e6 + STEP), "")
    return timeline(session.reference, [most], condition, session.regions)


def _speaking(line: Timeline) -> Integers:
    """(cell,), how many speak in truth."""
    return counts(line.reference.first, line.reference.last, line.scored.size)


def _share(part: Floats) -> Floats:
    """(cell + 1,), 1 in cells of which some is counted; nothing of what lies after the last."""
    return np.append(part > 0, False).astype(np.float64)


def _voices(line: Timeline, num_speakers: int) -> Floats:
    """(cell + 1, speaker), who speaks in truth; nobody in what lies after the last."""
    speech = line.reference
    steps = np.zeros((line.scored.size + 1, num_speakers))
    np.add.at(steps, (speech.first, speech.who), 1.0)
    np.add.at(steps, (speech.last, speech.who), -1.0)
    speak: Floats = np.cumsum(steps, axis=0)
    return speak
