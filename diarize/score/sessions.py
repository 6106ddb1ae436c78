"""Many sessions scored, once both sides are found to have the same ones."""

from collections.abc import Mapping, Sequence

from diarize.score.condition import CONDITIONS, Condition
from diarize.score.engine import score_session
from diarize.score.pairing import Pairing, overlap_themselves, pair
from diarize.score.report import ScoreReport, counted, listed
from diarize.score.timeline import Turns
from diarize.turns import Segment


def score_sessions(
    references: Mapping[str, Turns],
    hypotheses: Mapping[str, Turns],
    condition: Condition = CONDITIONS["full"],
    uems: Mapping[str, Sequence[Segment] | None] | None = None,
    allow_missing: bool = False,
) -> ScoreReport:
    """The scores of sessions of the same id, in order of their ids.

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
    return score_pairs(pair(references, hypotheses, uems, allow_missing), condition)


def score_pairs(pairing: Pairing, condition: Condition = CONDITIONS["full"]) -> ScoreReport:
    """The scores of sessions that are known to be on both sides."""
    count = "count once" if condition.rules == "md-eval" else "count as often as they overlap"
    notes = list(pairing.notes)
    sides = {"reference": pairing.references, "hypothesis": pairing.hypotheses}
    for side, sessions in sides.items():
        names = overlap_themselves(sessions)
        if names:
            notes.append(
                f"in {counted(len(names), 'session')} of the {side} {listed(names)} "
                f"turns of one speaker overlap; they {count}"
            )
    scores = {
        name: score_session(turns, pairing.hypotheses[name], condition, pairing.regions[name])
        for name, turns in pairing.references.items()
    }
    return ScoreReport(scores, condition, pairing.scored_region, notes)
