"""Where a session is wrong, and how: stretches to be looked at and listened to."""

from collections.abc import Sequence

import numpy as np

from diarize.score.condition import CONDITIONS, Condition
from diarize.score.error import ErrorSpan
from diarize.score.mapping import mapped_pairs, meetings
from diarize.score.timeline import Speech, Turns, timeline
from diarize.turns import Segment

Voice = tuple[str, int]
"""A speaker and a layer of his or her speech."""

Wrong = tuple[str, int, tuple[str, ...], tuple[str, ...]]
"""What an ``ErrorSpan`` says besides its times."""


def error_spans(
    reference: Turns,
    hypothesis: Turns,
    condition: Condition = CONDITIONS["full"],
    uem: Sequence[Segment] | None = None,
) -> list[ErrorSpan]:
    """The stretches of a session in which something is wrong, in order of time, then of kind.

    The arguments are those of ``score_session``, and what is not scored there is not here.

    Raises:
        ScoreError: if a time is not finite.
    """
    line = timeline(reference, hypothesis, condition, uem)
    met = meetings(line)
    mapped = mapped_pairs(met, line, condition)
    names = line.reference.speakers, line.hypothesis.speakers
    pairs = zip(met.reference[mapped].tolist(), met.hypothesis[mapped].tolist(), strict=True)
    partner = {names[0][r]: names[1][h] for r, h in pairs}
    back = {h: r for r, h in partner.items()}

    changes = [_changes(side, line.scored.size) for side in (line.reference, line.hypothesis)]
    true: set[Voice] = set()
    found: set[Voice] = set()
    scored, times = (line.scored > 0).tolist(), line.boundaries.tolist()
    spans: list[ErrorSpan] = []
    since: dict[Wrong, float] = {}
    for cell, time in enumerate(times):
        for now, side in zip((true, found), changes, strict=True):
            for voice in side[cell]:
                now ^= {voice}
        wrong: list[Wrong] = []
        if cell < len(scored) and scored[cell]:
            unanswered = sorted(s for s, layer in true if (partner.get(s), layer) not in found)
            left_over = sorted(s for s, layer in found if (back.get(s), layer) not in true)
            wrong = _wrong(tuple(unanswered), tuple(left_over))
        for gone in since.keys() - set(wrong):
            spans.append(ErrorSpan(since.pop(gone), time, *gone))
        for what in wrong:
            since.setdefault(what, time)
    return sorted(spans, key=lambda s: (s.start, s.end, s.kind))


def _wrong(unanswered: tuple[str, ...], left_over: tuple[str, ...]) -> list[Wrong]:
    """What is wrong where these reference and these hypothesis speakers find no partner."""
    more = len(unanswered) - len(left_over)
    numbers = {
        "confusion": min(len(unanswered), len(left_over)),
        "miss": max(more, 0),
        "false alarm": max(-more, 0),
    }
    return [(kind, count, unanswered, left_over) for kind, count in numbers.items() if count]


def _changes(speech: Speech, num_cells: int) -> list[list[Voice]]:
    """Of each cell, the voices that begin or end with it."""
    changes: list[list[Voice]] = [[] for _ in range(num_cells + 1)]
    for who, layer, first, last in np.stack(speech[1:], axis=1).tolist():
        for cell in (first, last):
            changes[cell].append((speech.speakers[who], layer))
    return changes
