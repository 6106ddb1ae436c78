"""A session cut at every boundary: who speaks in which cell, and how much of it is scored.

A cell is the stretch between two neighbouring boundaries, be they of turns, collars or regions, so
that nothing changes inside it. Stretches of speech are [first, last) cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from diarize.errors import ScoreError
from diarize.formats.rttm import Columns
from diarize.score.condition import Condition
from diarize.turns import Segment, Turn

Turns = Columns | Sequence[Turn]
Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Speech(NamedTuple):
    """What one side says, a row for each uninterrupted stretch; those of a layer do not overlap.

    Layer 1 is where a speaker speaks at all, layer 2 where two of his or her turns overlap, and so
    on: their sum is how many do.

    Attributes:
        speakers: names, in their order.
        who: (stretch,), index of the speaker.
        layer: (stretch,), 1 or more.
        first: (stretch,), first cell.
        last: (stretch,), the cell after the last one.
    """

    speakers: list[str]
    who: Integers
    layer: Integers
    first: Integers
    last: Integers

    def once(self) -> "Speech":
        """The same with every speaker at most once at a time."""
        if not self.layer.size or self.layer.max() == 1:
            return self
        kept = self.layer == 1
        return Speech(
            self.speakers, self.who[kept], self.layer[kept], self.first[kept], self.last[kept]
        )

    def seconds(self, cells: Floats) -> Floats:
        """(speaker,), how long each speaks in layer 1, of cells that last so long."""
        before = cumulative(cells)
        spoken = np.where(self.layer == 1, before[self.last] - before[self.first], 0.0)
        return np.asarray(np.bincount(self.who, spoken, len(self.speakers)), dtype=np.float64)


@dataclass(frozen=True)
class Timeline:
    """Both sides of a session on one row of cells.

    Attributes:
        boundaries: (cell + 1,), seconds.
        region: (cell,), seconds of each inside the scored region.
        scored: (cell,), seconds of each that collars and skipped overlap leave.
        reference: who speaks in truth.
        hypothesis: who speaks by a system.
    """

    boundaries: Floats
    region: Floats
    scored: Floats
    reference: Speech
    hypothesis: Speech


def timeline(
    reference: Turns,
    hypothesis: Turns,
    condition: Condition,
    uem: Sequence[Segment] | None,
) -> Timeline:
    """Cut a session into cells.

    By md-eval's rules turns without length have collars as well, though nobody speaks in them.

    Raises:
        ScoreError: if a time is not finite.
    """
    by_md_eval = condition.rules == "md-eval"
    true, found = columns(reference), columns(hypothesis)
    written, answers = np.stack([true.start, true.end]), np.stack([found.start, found.end])
    speak, answer = true.end > true.start, found.end > found.start
    true_times, found_times = written[:, speak], answers[:, answer]
    if uem is None:
        starts, ends = np.concatenate([true_times, found_times], axis=1)
        uem = [Segment(starts.min(), ends.max())] if starts.size else []
    regions = np.array([[r.start, r.end] for r in uem if r.end > r.start]).reshape(-1, 2).T
    edges = np.empty(0)
    if condition.collar:
        edges = (written if by_md_eval else true_times).ravel()
    collars = np.stack([edges - condition.collar, edges + condition.collar])

    parts = [true_times, found_times, regions, collars]
    boundaries, cells = np.unique(np.concatenate([p.ravel() for p in parts]), return_inverse=True)
    if boundaries.size and not np.isfinite(boundaries[[0, -1]]).all():
        raise ScoreError(
            f"times reach from {boundaries[0]} to {boundaries[-1]} s, but turns and regions begin "
            "and end. Mend the turns."
        )
    sizes = np.cumsum([p.size for p in parts[:-1]])
    # Each (2, part): the cells that its stretches begin with, and those after their last.
    in_true, in_found, in_regions, in_collars = (
        part.reshape(2, -1) for part in np.split(cells, sizes)
    )

    num_cells = max(boundaries.size - 1, 0)
    spoken, answered = _speech(true, speak, in_true), _speech(found, answer, in_found)
    evaluated = counts(in_regions[0], in_regions[1], num_cells) > 0
    kept = evaluated & (counts(in_collars[0], in_collars[1], num_cells) == 0)
    if condition.skip_overlap:
        kept &= counts(spoken.first, spoken.last, num_cells) < 2
    if by_md_eval:
        spoken, answered = spoken.once(), answered.once()
    seconds = np.diff(boundaries)
    return Timeline(boundaries, seconds * evaluated, seconds * kept, spoken, answered)


def columns(turns: Turns) -> Columns:
    """The columns of turns, if they are not yet."""
    return turns if isinstance(turns, Columns) else Columns.of(turns)


def counts(first: Integers, last: Integers, num_cells: int) -> Integers:
    """(cell,), how many of the stretches [first, last) hold each cell."""
    begun = np.bincount(first, minlength=num_cells + 1)
    ended = np.bincount(last, minlength=num_cells + 1)
    return np.cumsum(begun - ended)[:num_cells]


def cumulative(cells: Floats) -> Floats:
    """(cell + 1,), the seconds before each boundary."""
    return np.concatenate([[0.0], np.cumsum(cells)])


def _speech(turns: Columns, with_length: NDArray[np.bool_], cells: Integers) -> Speech:
    """Turns with length, of [first, last) cells, (2, turn), as layers of stretches."""
    speakers, numbers = turns.numbered()
    speaker = numbers[with_length]
    who = np.concatenate([speaker, speaker])
    step = np.repeat([1, -1], speaker.size)
    # A speaker's count returns to 0 after the last turn, so one sum serves all; ends come before
    # starts, so turns that touch stay in one layer.
    order = np.lexsort((step, cells.ravel(), who))
    step = step[order]
    layer = np.cumsum(step) + (step < 0)
    # Starts and ends of a layer alternate.
    by_layer = np.lexsort((layer, who[order]))
    layer, order = layer[by_layer], order[by_layer]
    first, last = cells.ravel()[order].reshape(-1, 2).T
    return Speech(speakers, who[order][::2], layer[::2], first, last)
