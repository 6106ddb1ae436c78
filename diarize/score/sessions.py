"""Many sessions scored, once both sides are found to have the same ones."""

import difflib
from collections.abc import Mapping, Sequence

from diarize.errors import ScoreError
from diarize.score.condition import CONDITIONS, Condition
from diarize.score.engine import score_session
from diarize.score.mapping import INSTANT
from diarize.score.report import ScoreReport
from diarize.turns import Segment, Turn, merge


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
    scores = {
        name: score_session(
            references.get(name, ()), hypotheses.get(name, ()), condition, regions[name]
        )
        for name in names
    }
    return ScoreReport(scores, condition, _in_words(regions), notes)


def _overlaps_itself(turns: Sequence[Turn]) -> bool:
    with_length = [turn for turn in turns if turn.duration >= INSTANT]
    return len(merge(with_length, gap=-INSTANT)) < len(with_length)


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
