"""The scores of many sessions, as a table and as JSON."""

import json
import math
from dataclasses import dataclass, field

from diarize.score.condition import Condition
from diarize.score.error import DiarizationError, SessionScore


@dataclass(frozen=True)
class ScoreReport:
    """The errors of many sessions under one condition.

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


def _plain(error: DiarizationError) -> dict[str, float | None]:
    """Seconds and percent, without the last digits that only tell how floats add up."""
    return {
        "scored": round(error.scored, 9),
        "miss": round(error.miss, 9),
        "false_alarm": round(error.false_alarm, 9),
        "confusion": round(error.confusion, 9),
        "der": round(100 * error.der, 9) if math.isfinite(error.der) else None,
    }
