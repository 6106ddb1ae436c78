"""Diarization error rate: its three parts, and the condition it was computed under.

The engine is pyannote.metrics, whose collar is a total width; ours is the half-width of NIST:
``collar`` seconds on *each* side of every reference boundary are not scored. Without a UEM, the
scored region of a session is the union of the reference's and the hypothesis's extents.
``docs/scoring.md`` says where scorers differ and which rule is ours.
"""

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diarize.errors import ScoreError
from diarize.turns import Segment, Turn, merge

INSTANT = 1e-6
"""Seconds below which pyannote.metrics sees no length; turns overlap if by at least as much."""


@dataclass(frozen=True)
class Condition:
    """What is scored.

    Attributes:
        collar: seconds on each side of a reference boundary that are not scored.
        skip_overlap: leave out where two or more reference speakers speak at once.
    """

    collar: float = 0.0
    skip_overlap: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.collar < math.inf:
            raise ScoreError(
                f"collar is {self.collar}, but it is a length of time. "
                "Give the seconds on each side of a boundary, 0 or more."
            )

    @property
    def name(self) -> str:
        """The field's word for it: full, fair, forgiving, or custom."""
        return next((name for name, known in CONDITIONS.items() if known == self), "custom")

    def __str__(self) -> str:
        overlap = "skipped" if self.skip_overlap else "scored"
        return f"{self.name} (collar {self.collar:g} s on each side, overlap {overlap})"


CONDITIONS = {
    "full": Condition(),
    "fair": Condition(collar=0.25),
    "forgiving": Condition(collar=0.25, skip_overlap=True),
}
"""The three conditions under which results are published."""


@dataclass(frozen=True)
class DiarizationError:
    """Speaker-seconds scored, and wrong in three ways. Adds up over sessions.

    Attributes:
        scored: reference speech inside the scored region.
        miss: reference speech to which no hypothesis speaker answers.
        false_alarm: hypothesis speech beyond the reference's.
        confusion: speech that a wrong speaker answers.
    """

    scored: float = 0.0
    miss: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0

    @property
    def der(self) -> float:
        """(miss + false alarm + confusion) / scored.

        Without scored speech it is 0 where nothing is wrong, else infinite.
        """
        return self.part(self.miss + self.false_alarm + self.confusion)

    def part(self, seconds: float) -> float:
        """Seconds as a fraction of the scored time; of no time, 0 or infinite."""
        if self.scored > 0:
            return seconds / self.scored
        return math.inf if seconds > 0 else 0.0

    def __add__(self, other: "DiarizationError") -> "DiarizationError":
        return DiarizationError(
            self.scored + other.scored,
            self.miss + other.miss,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )


@dataclass(frozen=True)
class ScoreReport:
    """The errors of many sessions under one condition.

    Attributes:
        sessions: session id -> its error.
        condition: what was scored.
        scored_region: in words, which stretches were scored.
        notes: in words, what the reader must know besides.
    """

    sessions: dict[str, DiarizationError]
    condition: Condition
    scored_region: str
    notes: list[str] = field(default_factory=list)

    @property
    def total(self) -> DiarizationError:
        """The sum over sessions: long sessions weigh more."""
        return sum(self.sessions.values(), DiarizationError())

    def to_text(self, per_session: bool = False) -> str:
        """A table with its condition above and the total as its last line."""
        rows = [*(self.sessions.items() if per_session else ()), ("TOTAL", self.total)]
        width = max(len("session"), *(len(name) for name, _ in rows))
        lines = [f"condition: {self.condition}", f"scored region: {self.scored_region}"]
        lines += [f"note: {note}" for note in self.notes]
        lines.append(
            f"{'session':{width}}  {'scored s':>10}  {'miss %':>8}  {'false alarm %':>13}  "
            f"{'confusion %':>11}  {'DER %':>8}"
        )
        for name, error in rows:
            miss, false_alarm, confusion = (
                100 * error.part(s) for s in (error.miss, error.false_alarm, error.confusion)
            )
            lines.append(
                f"{name:{width}}  {error.scored:10.2f}  {miss:8.2f}  {false_alarm:13.2f}  "
                f"{confusion:11.2f}  {100 * error.der:8.2f}"
            )
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """The same as JSON: seconds, and DER in percent (null where it is infinite)."""
        report = {
            "condition": {
                "name": self.condition.name,
                "collar": self.condition.collar,
                "skip_overlap": self.condition.skip_overlap,
                "scored_region": self.scored_region,
            },
            "notes": self.notes,
            "total": _plain(self.total),
            "sessions": [{"session_id": name} | _plain(e) for name, e in self.sessions.items()],
        }
        return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def score(
    reference: Sequence[Turn],
    hypothesis: Sequence[Turn],
    condition: Condition = CONDITIONS["full"],
    uem: Sequence[Segment] | None = None,
) -> DiarizationError:
    """The error of one session, its speakers mapped one to one as fits best.

    Overlapping turns of one speaker count once, on either side. Turns that touch keep both
    boundaries, and the collars around them.

    Args:
        reference: who spoke when in truth.
        hypothesis: who spoke when by a system; its labels need not be the reference's.
        condition: what is scored.
        uem: scored regions; the union of both extents if absent.

    Raises:
        ScoreError: if pyannote.metrics is not installed.
    """
    true, found = _merged(reference), _merged(hypothesis)
    if uem is None and true + found:
        uem = [Segment(min(t.start for t in true + found), max(t.end for t in true + found))]
    if not uem:
        return DiarizationError()
    try:
        from pyannote.core import Timeline
        from pyannote.metrics.diarization import DiarizationErrorRate
    except ImportError as error:
        raise ScoreError(
            f"scoring needs pyannote.metrics, but it cannot be imported ({error}). "
            "Install it with: pip install 'diarize[score]'"
        ) from None
    # Our collar is a half-width, theirs the total width.
    metric = DiarizationErrorRate(collar=2 * condition.collar, skip_overlap=condition.skip_overlap)
    regions = Timeline([_pyannote_segment(region) for region in uem]).support()
    parts = metric.compute_components(_annotation(true), _annotation(found), uem=regions)
    return DiarizationError(
        scored=float(parts["total"]),
        miss=float(parts["missed detection"]),
        false_alarm=float(parts["false alarm"]),
        confusion=float(parts["confusion"]),
    )


def score_sessions(
    references: Mapping[str, Sequence[Turn]],
    hypotheses: Mapping[str, Sequence[Turn]],
    condition: Condition = CONDITIONS["full"],
    uems: Mapping[str, Sequence[Segment] | None] | None = None,
    allow_missing: bool = False,
) -> ScoreReport:
    """The errors of sessions of the same id, in order of their ids.

    Args:
        references: session id -> turns in truth.
        hypotheses: session id -> turns by a system; an empty list says that nobody speaks.
        condition: what is scored.
        uems: session id -> scored regions; None, for one session or as a whole, stands for the
            union of both extents.
        allow_missing: count a session that one side lacks as all missed, or all false alarm.

    Raises:
        ScoreError: if there are no sessions, one side lacks some, or the UEM does.
    """
    names = sorted(references.keys() | hypotheses.keys())
    if not names:
        raise ScoreError("there are no sessions to score. Do reference and hypothesis hold turns?")
    notes = _missing("hypothesis", "reference", hypotheses, references, "missed", allow_missing)
    notes += _missing(
        "reference", "hypothesis", references, hypotheses, "false alarm", allow_missing
    )
    if uems is not None:
        outside = [name for name in names if name not in uems]
        if outside:
            raise ScoreError(
                f"{_count(len(outside), 'session')} of {len(names)} to score {_listed(outside)}, "
                "but the UEM names no region there. Add the regions, or score without a UEM."
            )
        unused = sorted(uems.keys() - set(names))
        if unused:
            notes.append(
                f"the UEM names {_count(len(unused), 'session')} more {_listed(unused)}, "
                "which neither side has; not scored"
            )
    for side, sessions in (("reference", references), ("hypothesis", hypotheses)):
        joined = [name for name in sorted(sessions) if _overlaps_itself(sessions[name])]
        if joined:
            notes.append(
                f"in {_count(len(joined), 'session')} of the {side} {_listed(joined)} "
                "turns of one speaker overlap; they count once"
            )
    regions = {name: None if uems is None else uems[name] for name in names}
    errors = {
        name: score(references.get(name, ()), hypotheses.get(name, ()), condition, regions[name])
        for name in names
    }
    return ScoreReport(errors, condition, _in_words(regions), notes)


def _merged(turns: Sequence[Turn]) -> list[Turn]:
    """Overlapping turns of one speaker joined, touching ones not; turns without length gone."""
    return merge(_with_length(turns), gap=-INSTANT)


def _with_length(turns: Sequence[Turn]) -> list[Turn]:
    return [t for t in turns if t.end - t.start >= INSTANT]


def _overlaps_itself(turns: Sequence[Turn]) -> bool:
    return len(_merged(turns)) < len(_with_length(turns))


def _pyannote_segment(segment: Segment) -> Any:
    from pyannote.core import Segment as PyannoteSegment

    return PyannoteSegment(segment.start, segment.end)


def _annotation(turns: Sequence[Turn]) -> Any:
    from pyannote.core import Annotation

    annotation = Annotation()
    for track, turn in enumerate(turns):
        annotation[_pyannote_segment(turn), track] = turn.speaker
    return annotation


def _missing(
    side: str,
    other_side: str,
    has: Mapping[str, Sequence[Turn]],
    needs: Mapping[str, Sequence[Turn]],
    counted: str,
    allowed: bool,
) -> list[str]:
    """A note on the sessions that one side lacks, if they are allowed, else an error."""
    lacking = sorted(needs.keys() - has.keys())
    if not lacking:
        return []
    share = f"{_count(len(lacking), 'session')} of {len(needs)} in the {other_side}"
    if allowed:
        verb = "is" if len(lacking) == 1 else "are"
        return [f"{share} {verb} not in the {side}: all {counted} {_listed(lacking)}"]
    close = difflib.get_close_matches(lacking[0], sorted(has.keys() - needs.keys()), n=1)
    hint = f" It has {close[0]!r}: the same session?" if close else ""
    raise ScoreError(
        f"the {side} lacks {share} {_listed(lacking)}, but both sides must have the same "
        f"sessions.{hint} Complete it, or count them as all {counted} with --allow-missing."
    )


def _in_words(regions: Mapping[str, Sequence[Segment] | None]) -> str:
    extents = "union of reference and hypothesis extents"
    given = sum(region is not None for region in regions.values())
    if given in (0, len(regions)):
        return "as given by UEM or manifest" if given else extents
    left = _count(len(regions) - given, "session")
    return f"as given by UEM or manifest for {_count(given, 'session')}, {extents} for {left}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _listed(names: Sequence[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"({', '.join(repr(name) for name in names[:most])}{more})"


def _plain(error: DiarizationError) -> dict[str, float | None]:
    """Seconds and percent, without the last digits that only tell how floats add up."""
    return {
        "scored": round(error.scored, 9),
        "miss": round(error.miss, 9),
        "false_alarm": round(error.false_alarm, 9),
        "confusion": round(error.confusion, 9),
        "der": round(100 * error.der, 9) if math.isfinite(error.der) else None,
    }
