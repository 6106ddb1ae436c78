"""One session scored."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diarize.score.condition import CONDITIONS, Condition
from diarize.score.error import DiarizationError, SessionScore
from diarize.score.mapping import INSTANT, Meetings, assign, jaccard_indices, mapped_pairs, meetings
from diarize.score.timeline import Integers, Speech, Timeline, Turns, counts, timeline
from diarize.turns import Segment


def score(
    reference: Turns,
    hypothesis: Turns,
    condition: Condition = CONDITIONS["full"],
    uem: Sequence[Segment] | None = None,
) -> DiarizationError:
    """The error of one session, its speakers mapped one to one as fits best.

    The arguments are those of ``score_session``.
    """
    return score_session(reference, hypothesis, condition, uem).error


def score_session(
    reference: Turns,
    hypothesis: Turns,
    condition: Condition = CONDITIONS["full"],
    uem: Sequence[Segment] | None = None,
) -> SessionScore:
    """All that is counted in one session.

    Turns without length say nothing. Turns that touch keep both boundaries, and the collars
    around them.

    Args:
        reference: who spoke when in truth.
        hypothesis: who spoke when by a system; its labels need not be the reference's.
        condition: what is scored, by whose rules.
        uem: scored regions; the union of both extents if absent.

    Raises:
        ScoreError: if a time is not finite.
    """
    line = timeline(reference, hypothesis, condition, uem)
    met = meetings(line)
    mapped = mapped_pairs(met, line, condition)
    silence, single, overlapped = _errors(line, met, mapped)
    cells = line.scored if condition.rules == "pyannote" else line.region
    true, found = line.reference, line.hypothesis
    true_speak, found_speak = (side.seconds(cells) > INSTANT for side in (true, found))
    indices = jaccard_indices(met, line, cells)
    fitting = (
        mapped if condition.rules == "pyannote" else assign(met.reference, met.hypothesis, indices)
    )
    jaccard_errors = np.ones(true_speak.size)
    jaccard_errors[met.reference[fitting]] -= indices[fitting]
    pairs = met.reference[mapped].tolist(), met.hypothesis[mapped].tolist()
    return SessionScore(
        silence,
        single,
        overlapped,
        mapping={found.speakers[h]: true.speakers[r] for r, h in zip(*pairs, strict=True)},
        jaccard_errors={
            true.speakers[r]: float(jaccard_errors[r]) for r in np.flatnonzero(true_speak).tolist()
        },
        num_reference_speakers=int(true_speak.sum()),
        num_hypothesis_speakers=int(found_speak.sum()),
        missed_speakers=_left(true, true_speak, met.reference[mapped]),
        invented_speakers=_left(found, found_speak, met.hypothesis[mapped]),
        region=float(line.region.sum()),
        left_out=float(line.region.sum() - line.scored.sum()),
    )


def correct(met: Meetings, mapped: Integers, num_cells: int) -> Integers:
    """(cell,), how many reference speakers the one mapped to them answers."""
    is_mapped = np.zeros(met.reference.size, dtype=bool)
    is_mapped[mapped] = True
    right = is_mapped[met.pair] & (met.layers[0] == met.layers[1])
    return counts(met.first[right], met.last[right], num_cells)


def _errors(line: Timeline, met: Meetings, mapped: Integers) -> list[DiarizationError]:
    """The error where no, one, and two or more reference speakers speak."""
    num_cells = line.scored.size
    speak = counts(line.reference.first, line.reference.last, num_cells)
    answer = counts(line.hypothesis.first, line.hypothesis.last, num_cells)
    amounts = np.stack(
        [
            speak,
            np.maximum(speak - answer, 0),
            np.maximum(answer - speak, 0),
            np.minimum(speak, answer) - correct(met, mapped, num_cells),
        ],
        axis=1,
    )
    # (class, cell) @ (cell, part)
    seconds = np.where(np.minimum(speak, 2) == [[0], [1], [2]], line.scored, 0.0) @ amounts
    return [DiarizationError(*parts) for parts in seconds.tolist()]


def _left(speech: Speech, speak: NDArray[np.bool_], mapped: Integers) -> tuple[str, ...]:
    """Names of those who speak and are not mapped."""
    left = speak.copy()
    left[mapped] = False
    return tuple(sorted(speech.speakers[i] for i in np.flatnonzero(left).tolist()))
