"""The scores of many sessions under one condition, and what they add up to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from diarize.score.condition import Condition
from diarize.score.error import DiarizationError, SessionScore
from diarize.score.resample import NUM_DRAWS, SEED, Floats, interval, quotient, resample
from diarize.score.table import Cell, Column, Table

PARTS = ("scored", "miss", "false_alarm", "confusion", "jaccard", "speakers", "right", "sessions")
"""What each session adds: seconds; Jaccard errors of its reference speakers, and how many these
are; 1 where the hypothesis has as many speakers; 1."""

RATES = ("der", "miss", "false_alarm", "confusion", "jer", "count_accuracy")
"""Quotients of such sums."""

OVERLAP = ("single", "overlapped")
"""Classes of speech: where one reference speaker speaks, and where several do."""

Intervals = Mapping[str, tuple[float, float]]
"""Rate -> between what 95 % of resampled sets of sessions have it."""


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        kind: "session"; "speakers", all sessions of so many; "overlap", where so many speak at
            once; "total".
        name: the session's, or how many speakers, or "single" or "overlapped".
        error: seconds.
        jer: a fraction; None where it has no meaning.
        num_sessions: that were added up.
        intervals: of its rates; empty where a single session was.
    """

    kind: str
    name: str
    error: DiarizationError
    jer: float | None
    num_sessions: int
    intervals: Intervals

    @property
    def label(self) -> str:
        """The name as the table has it."""
        if self.kind == "speakers":
            return f"{counted(int(self.name), 'speaker')} ({counted(self.num_sessions, 'session')})"
        return {"single": "one speaks", "overlapped": "several speak"}.get(self.name, self.name)


@dataclass(frozen=True)
class ScoreReport:
    """The scores of many sessions under one condition.

    Attributes:
        scores: session id -> all that is counted in it.
        condition: what was scored.
        scored_region: in words, which stretches were scored.
        notes: in words, what the reader must know besides.
    """

    scores: dict[str, SessionScore]
    condition: Condition
    scored_region: str
    notes: list[str] = field(default_factory=list)

    @property
    def sessions(self) -> dict[str, DiarizationError]:
        """Session id -> its error."""
        return {name: score.error for name, score in self.scores.items()}

    @property
    def total(self) -> DiarizationError:
        """The sum over sessions: long sessions weigh more."""
        return added(score.error for score in self.scores.values())

    @cached_property
    def sums(self) -> Floats:
        """(session, part), what each session adds to `PARTS`."""
        return np.array([_parts(score) for score in self.scores.values()], dtype=np.float64)

    @cached_property
    def rates(self) -> dict[str, float]:
        """Each of `RATES` of all sessions, a fraction."""
        return {name: float(value) for name, value in rates(self.sums.sum(axis=0)).items()}

    @property
    def intervals(self) -> Intervals:
        """Of each of `RATES`; empty for a single session, which says nothing of others."""
        return self._intervals[0]

    @property
    def count_error(self) -> float:
        """By how many speakers the hypothesis is off, the mean over sessions."""
        off = [abs(s.num_hypothesis_speakers - s.num_reference_speakers) for s in self._all()]
        return sum(off) / len(off)

    @property
    def num_missed(self) -> int:
        """Speakers of the reference to whom none of the hypothesis is mapped."""
        return sum(len(score.missed_speakers) for score in self._all())

    @property
    def num_invented(self) -> int:
        """Speakers of the hypothesis who are mapped to none of the reference."""
        return sum(len(score.invented_speakers) for score in self._all())

    def rows(self, per_session: bool = True) -> list[Row]:
        """Sessions, sessions by number of speakers, speech by overlap, and the total."""
        found = []
        if per_session:
            found = [
                Row("session", name, score.error, score.jer, 1, {})
                for name, score in self.scores.items()
            ]
        return [*found, *self._groups]

    @cached_property
    def _groups(self) -> list[Row]:
        """All rows that add sessions up."""
        by_number: dict[int, list[int]] = {}
        for index, score in enumerate(self._all()):
            by_number.setdefault(score.num_reference_speakers, []).append(index)
        scores, (whole, *classes) = list(self._all()), self._intervals
        found = [
            _row("speakers", str(number), [scores[i] for i in of], bootstrap(self.sums[of])[0])
            for number, of in sorted(by_number.items())
        ]
        for name, ends in zip(OVERLAP, classes, strict=True):
            error = added(getattr(score, name) for score in scores)
            found.append(Row("overlap", name, error, None, len(scores), ends))
        return [*found, _row("total", "TOTAL", scores, whole)]

    @cached_property
    def _intervals(self) -> list[Intervals]:
        """Of all speech, and of each class of `OVERLAP`, from the same draws."""
        whole, *classes = bootstrap(self.sums, *(self._sums_of(name) for name in OVERLAP))
        measured = RATES[:4]  # a class of speech is no set of speakers
        return [whole, *({r: ends[r] for r in measured if ends} for ends in classes)]

    def _sums_of(self, name: str) -> Floats:
        """(session, part), what each session adds to `PARTS` in a class of speech."""
        sums = np.zeros_like(self.sums)
        sums[:, :4] = [_seconds(getattr(score, name)) for score in self._all()]
        return sums

    def to_text(self, per_session: bool = False, told: Sequence[str] = ()) -> str:
        """A table with its condition above and the total as its last line.

        Args:
            per_session: a line for each session.
            told: more lines to stand above the table.
        """
        lines = [f"condition: {self.condition}", f"scored region: {self.scored_region}"]
        lines += [f"note: {note}" for note in self.notes]
        head = "".join(f"{line}\n" for line in [*lines, *told, *self.facts()])
        return head + self.table(per_session).to_text()

    def facts(self) -> list[str]:
        """What no table has: speakers counted, false alarm in silence, intervals."""
        number, right = len(self.scores), self.rates["count_accuracy"]
        silence = added(score.silence for score in self._all()).false_alarm
        lines = [
            f"speakers: number right in {round(right * number)} of {counted(number, 'session')} "
            f"({100 * right:.2f} %), off by {self.count_error:.2f} on average; "
            f"{self.num_missed} missed, {self.num_invented} invented",
            f"while nobody speaks: {silence:.2f} s of false alarm",
        ]
        if not self.intervals:
            return [*lines, "95 % interval: none, for one session says nothing of others"]
        low, high = self.intervals["der"], self.intervals["jer"]
        return [
            *lines,
            f"95 % interval: DER {_span(low)}, JER {_span(high)} (bootstrap over "
            f"{counted(number, 'session')}, {NUM_DRAWS} draws, seed {SEED})",
        ]

    def table(self, per_session: bool = False) -> Table:
        """What is scored in seconds, what is wrong in percent of it.

        With the ends of intervals of DER, where there are any.
        """
        ends = INTERVAL_COLUMNS if self.intervals else ()
        columns = (Column("session"), *ERROR_COLUMNS, *ends, Column("JER %", 2, 8))
        return Table(columns, [_cells(row, bool(ends)) for row in self.rows(per_session)])

    def _all(self) -> Iterable[SessionScore]:
        return self.scores.values()


ERROR_COLUMNS = (
    Column("scored s", 2, 10),
    Column("miss %", 2, 8),
    Column("false alarm %", 2, 13),
    Column("confusion %", 2, 11),
    Column("DER %", 2, 8),
)
"""Of every table of errors."""

INTERVAL_COLUMNS = (Column("low", 2), Column("high", 2))
"""Of DER, beside it."""


def rates(sums: Floats) -> dict[str, Floats]:
    """Each of `RATES`, fractions of shape (...,).

    Args:
        sums: (..., part), in the order of `PARTS`.
    """
    scored, miss, false_alarm, confusion, jaccard, speakers, right, sessions = np.moveaxis(
        sums, -1, 0
    )
    return {
        "der": quotient(miss + false_alarm + confusion, scored),
        "miss": quotient(miss, scored),
        "false_alarm": quotient(false_alarm, scored),
        "confusion": quotient(confusion, scored),
        "jer": quotient(jaccard, speakers),
        "count_accuracy": quotient(right, sessions),
    }


def bootstrap(*sums: Floats) -> list[Intervals]:
    """Of each of `RATES`, for each of several sums over the same sessions, which are drawn alike.

    Empty for a single session.

    Args:
        sums: (session, part) each, in the order of `PARTS`.
    """
    if len(sums[0]) < 2:
        return [{} for _ in sums]
    drawn = np.split(resample(np.concatenate(sums, axis=1)), len(sums), axis=1)
    return [{name: interval(draws) for name, draws in rates(of).items()} for of in drawn]


def added(errors: Iterable[DiarizationError]) -> DiarizationError:
    """The sum of errors."""
    return sum(errors, DiarizationError())


def counted(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, in brackets."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"({', '.join(repr(name) for name in names[:most])}{more})"


def _row(kind: str, name: str, scores: Sequence[SessionScore], ends: Intervals) -> Row:
    jaccard = sum(sum(score.jaccard_errors.values()) for score in scores)
    speakers = sum(len(score.jaccard_errors) for score in scores)
    jer = jaccard / speakers if speakers else None
    return Row(kind, name, added(score.error for score in scores), jer, len(scores), ends)


def _seconds(error: DiarizationError) -> tuple[float, float, float, float]:
    return error.scored, error.miss, error.false_alarm, error.confusion


def _parts(score: SessionScore) -> tuple[float, ...]:
    return (
        *_seconds(score.error),
        sum(score.jaccard_errors.values()),
        len(score.jaccard_errors),
        score.num_reference_speakers == score.num_hypothesis_speakers,
        1,
    )


def _cells(row: Row, with_ends: bool) -> list[Cell]:
    error = row.error
    parts = (error.miss, error.false_alarm, error.confusion)
    shares = [100 * error.part(seconds) for seconds in parts]
    jer = None if row.jer is None else 100 * row.jer
    ends: list[Cell] = []
    if with_ends:
        ends = [100 * end for end in row.intervals.get("der", ())] or [None, None]
    return [row.label, error.scored, *shares, 100 * error.der, *ends, jer]


def _span(ends: tuple[float, float]) -> str:
    return f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f} %"
