"""Whom of the reference each hypothesis speaker stands for."""

from dataclasses import dataclass

import numpy as np

from diarize.score.condition import Condition
from diarize.score.timeline import Floats, Integers, Timeline, cumulative

INSTANT = 1e-6
"""Seconds below which speakers do not meet: times are written to a millisecond at best."""

TIE = 1e-8
"""Weight of what decides between mappings that are equally good: too little to outweigh a
millisecond in three hours."""

DENSE = 1_000_000
"""Pairs of speakers up to which all are put into one matrix."""


@dataclass(frozen=True)
class Meetings:
    """Pairs of speakers, one of each side, who speak at the same time.

    Attributes:
        reference: (pair,), index of the reference speaker.
        hypothesis: (pair,), index of the hypothesis speaker.
        pair: (meeting,), of which pair each stretch is in which both speak.
        layers: (2, meeting), in which layers they do.
        first: (meeting,), its first cell.
        last: (meeting,), the cell after its last.
    """

    reference: Integers
    hypothesis: Integers
    pair: Integers
    layers: Integers
    first: Integers
    last: Integers

    def seconds(self, cells: Floats, once: bool = False) -> Floats:
        """(pair,), how long each pair speaks at the same time, of cells that last so long.

        Args:
            cells: (cell,), seconds.
            once: count a speaker once who overlaps himself or herself.
        """
        before = cumulative(cells)
        together = before[self.last] - before[self.first]
        if once:
            together = np.where((self.layers == 1).all(0), together, 0.0)
        return np.asarray(np.bincount(self.pair, together, self.reference.size), dtype=np.float64)


def meetings(timeline: Timeline) -> Meetings:
    """Who speaks at the same time as whom, and when."""
    true, found = timeline.reference, timeline.hypothesis
    # One of two stretches that overlap begins inside the other; of those that begin together, the
    # reference's is taken to be the one inside.
    true_order, found_order = np.argsort(true.first), np.argsort(found.first)
    true_first, found_first = true.first[true_order], found.first[found_order]
    outer, inner = _ranges(
        np.searchsorted(found_first, true.first, "right"), np.searchsorted(found_first, true.last)
    )
    i, j = outer, found_order[inner]
    outer, inner = _ranges(
        np.searchsorted(true_first, found.first), np.searchsorted(true_first, found.last)
    )
    i, j = np.concatenate([i, true_order[inner]]), np.concatenate([j, outer])
    num_found = max(len(found.speakers), 1)
    pairs, pair = np.unique(true.who[i] * num_found + found.who[j], return_inverse=True)
    return Meetings(
        pairs // num_found,
        pairs % num_found,
        pair,
        np.stack([true.layer[i], found.layer[j]]),
        np.maximum(true.first[i], found.first[j]),
        np.minimum(true.last[i], found.last[j]),
    )


def jaccard_indices(met: Meetings, timeline: Timeline, cells: Floats) -> Floats:
    """(pair,), intersection / union of what each pair says, of cells that last so long."""
    together = met.seconds(cells, once=True)
    true, found = timeline.reference.seconds(cells), timeline.hypothesis.seconds(cells)
    union = true[met.reference] + found[met.hypothesis] - together
    return np.divide(together, union, out=np.zeros_like(union), where=together > INSTANT)


def mapped_pairs(met: Meetings, timeline: Timeline, condition: Condition) -> Integers:
    """Which pairs are mapped: one to one, so that they speak together as long as possible.

    By md-eval's rules as long as possible in the whole region; of mappings that tie there, the one
    that is best in what is scored. By pyannote's as long as possible in what is scored; of those
    that tie, the one of the least Jaccard error. So no order of speakers decides.
    """
    scored = met.seconds(timeline.scored)
    if condition.rules == "pyannote":
        first, second = scored, jaccard_indices(met, timeline, timeline.scored)
    else:
        first, second = met.seconds(timeline.region), scored
    weights = np.where(first > INSTANT, first + TIE * second, 0.0)
    return assign(met.reference, met.hypothesis, weights)


def assign(rows: Integers, columns: Integers, weights: Floats) -> Integers:
    """Which entries of a sparse matrix to choose, one a row and a column, for the largest sum.

    Args:
        rows: (entry,).
        columns: (entry,).
        weights: (entry,); those of 0 are never chosen.
    """
    if not rows.size:
        return rows
    shape = int(rows.max()) + 1, int(columns.max()) + 1
    if shape[0] * shape[1] <= DENSE:
        return _assign_dense(rows, columns, weights, np.arange(rows.size), shape)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    # Speakers who meet neither directly nor through others are mapped apart: where a side has
    # thousands, the whole matrix would not fit into memory.
    graph = coo_array((weights > 0, (rows, columns + shape[0])), (sum(shape), sum(shape)))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.argsort(group, kind="stable")
    chosen = []
    for entries in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        _, r = np.unique(rows[entries], return_inverse=True)
        _, c = np.unique(columns[entries], return_inverse=True)
        size = int(r.max()) + 1, int(c.max()) + 1
        chosen.append(_assign_dense(r, c, weights[entries], entries, size))
    return np.concatenate(chosen)


def _assign_dense(
    rows: Integers, columns: Integers, weights: Floats, entries: Integers, shape: tuple[int, int]
) -> Integers:
    matrix, entry = np.zeros(shape), np.zeros(shape, dtype=np.int64)
    matrix[rows, columns] = weights
    entry[rows, columns] = entries
    best = np.arange(shape[0]), matrix.argmax(axis=1)
    wanted = best[1][matrix[best] > 0]
    if np.bincount(wanted, minlength=1).max() > 1:
        # Two rows want one column. Imported here, as that takes longer than to score a session.
        from scipy.optimize import linear_sum_assignment

        best = linear_sum_assignment(matrix, maximize=True)
    chosen: Integers = entry[best][matrix[best] > 0]
    return chosen


def _ranges(begin: Integers, end: Integers) -> tuple[Integers, Integers]:
    """The numbers of [begin, end) of each row, one after the other, and of which row each is."""
    lengths = end - begin
    row = np.repeat(np.arange(begin.size), lengths)
    number = np.arange(row.size) - np.repeat(np.cumsum(lengths) - lengths - begin, lengths)
    return row, number
