"""How far results would move with other sessions of the same kind: the bootstrap.

Sessions are drawn with replacement, as many as there are, many times over. Every measure is a sum
over the sessions or a quotient of two, so that a draw is how often each session counts, and all
draws of all measures are one product of matrices. Draws are the same for everything that is given
together, which makes differences between systems paired (Bisani and Ney 2004).
"""

import numpy as np
from numpy.typing import NDArray

from diarize.errors import ScoreError

Floats = NDArray[np.float64]

NUM_DRAWS = 2000
"""Draws; with as many, an end of an interval moves by a few hundredths of its width."""

SEED = 0

ENDS = (0.025, 0.975)
"""Shares of the draws that lie below an interval, and below its upper end."""

_AT_ONCE = 100
"""Draws that stand in memory, each of 8 bytes a session."""


def resample(sums: Floats, num_draws: int = NUM_DRAWS, seed: int = SEED) -> Floats:
    """(draw, measure), the sums over sessions that were drawn with replacement.

    Args:
        sums: (session, measure), what each session adds.
        num_draws: how many times as many sessions are drawn.
        seed: of the draws.

    Raises:
        ScoreError: if there are no sessions to draw from.
    """
    num_sessions, num_measures = sums.shape
    if not num_sessions:
        raise ScoreError("there are 0 sessions, but draws need at least 1. Score some.")
    generator = np.random.default_rng(seed)
    drawn = np.empty((num_draws, num_measures))
    times = np.empty((min(_AT_ONCE, num_draws), num_sessions))
    for first in range(0, num_draws, _AT_ONCE):
        rows = min(_AT_ONCE, num_draws - first)
        for row in range(rows):  # a draw at a time, which fits a processor's cache
            sessions = generator.integers(num_sessions, size=num_sessions)
            times[row] = np.bincount(sessions, minlength=num_sessions)
        drawn[first : first + rows] = times[:rows] @ sums
    return drawn


def interval(draws: Floats) -> tuple[float, float]:
    """The draws between which the middle 95 % lie, by the percentile method.

    Args:
        draws: (draw,), one measure; infinite where a quotient is.
    """
    low, high = np.quantile(draws, ENDS, method="inverted_cdf")
    return float(low), float(high)


def quotient(part: Floats, whole: Floats) -> Floats:
    """A part as a fraction of a whole; of nothing, 0 or infinite, as for a DER."""
    empty = np.where(part > 0, np.inf, 0.0)
    return np.divide(part, whole, out=empty, where=whole > 0)
