"""How far a hypothesis is from its reference, and the condition under which that was counted.

``collar`` seconds on *each* side of every reference boundary are not scored: the half-width of
NIST, while pyannote.metrics takes the total width. Without a UEM, the scored region of a session is
the union of the reference's and the hypothesis's extents. ``docs/scoring.md`` says where scorers
differ and which rule is ours.
"""

from diarize.score.condition import CONDITIONS, RULES, Condition
from diarize.score.engine import score, score_session
from diarize.score.error import DiarizationError, ErrorSpan, SessionScore
from diarize.score.pairing import Pairing, pair
from diarize.score.report import ScoreReport
from diarize.score.sessions import score_pairs, score_sessions
from diarize.score.spans import error_spans

__all__ = [
    "CONDITIONS",
    "RULES",
    "Condition",
    "DiarizationError",
    "ErrorSpan",
    "Pairing",
    "ScoreReport",
    "SessionScore",
    "error_spans",
    "pair",
    "score",
    "score_pairs",
    "score_session",
    "score_sessions",
]
