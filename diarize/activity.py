"""Turns to (frame, speaker) activity and back; the order in which speakers arrive.

A frame is active if its centre lies in one of the speaker's turns. That is the same as rounding
both ends of a turn to the nearest frame boundary, as ``FrameGrid.frame_at`` does, so turns that
lie on the grid come back unchanged. Overlapping turns of one speaker count once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from diarize.frames import FrameGrid
from diarize.turns import Turn, in_order


@dataclass(frozen=True, eq=False)
class Activity:
    """Who speaks in each frame.

    Attributes:
        matrix: (frame, slot), float32, 0 to 1. Slots beyond the speakers are silent.
        speakers: labels of the first columns, at most as many as there are slots.
        dropped: speakers for whom no slot was left, and the seconds that each of them speaks
            in these frames, with overlapping turns of one speaker counted once.
    """

    matrix: npt.NDArray[np.float32]
    speakers: list[str]
    dropped: dict[str, float]


def from_turns(
    turns: Sequence[Turn],
    grid: FrameGrid,
    num_frames: int,
    num_slots: int,
    start: float = 0.0,
    order: Literal["arrival"] | Sequence[str] = "arrival",
    soft: bool = False,
) -> Activity:
    """The activity of a stretch of a session.

    In arrival order, speakers have a column if it is not all silent. Those whose first active
    frame is the same stand in incoming order: by first start time, then by place in ``turns``.
    With more speakers than slots, the first to arrive are kept: a network that fills its slots
    in arrival order cannot know that somebody who talks more will come later.

    Args:
        turns: in any order, seconds of the recording.
        grid: the clock of the front end.
        num_frames: rows of the result; turns outside them are ignored.
        num_slots: columns of the result.
        start: seconds of the recording at which frame 0 begins, taken to the nearest sample.
        order: "arrival", or the speakers of the columns, some of whom may be silent.
        soft: hold the part of each frame that is covered, to the sample, instead of 0 or 1.

    Raises:
        ValueError: if more speakers are listed than there are slots, or one of them twice.
    """
    # Incoming order: sorted() is stable, so equal starts keep their place in ``turns``.
    speakers = list(dict.fromkeys(t.speaker for t in sorted(turns, key=lambda t: t.start)))
    if not isinstance(order, str):
        listed = set(order)
        if len(listed) < len(order) or len(order) > num_slots:
            raise ValueError(
                f"from_turns: order lists {len(order)} speakers, {len(listed)} of them "
                f"different, but there are {num_slots} slots. List each once, at most as many."
            )
        speakers = list(order) + [speaker for speaker in speakers if speaker not in listed]

    covered = _covered_samples(turns, speakers, grid, num_frames, start)
    columns = np.zeros((num_frames, len(speakers)), dtype=np.float32)  # (frame, speaker)
    edges = np.arange(num_frames + 1) * grid.hop
    for column, (begins, ends) in enumerate(covered):
        if soft:
            columns[:, column] = _covered_until(edges, begins, ends) / grid.hop
        else:
            columns[:, column] = _holds_centre(num_frames, begins, ends, grid.hop)

    heard = _used(columns > 0)
    if isinstance(order, str):
        kept = [int(c) for c in arrival_order(columns) if heard[c]][:num_slots]
    else:
        kept = list(range(len(order)))
    matrix = np.zeros((num_frames, num_slots), dtype=np.float32)
    matrix[:, : len(kept)] = columns[:, kept]
    dropped = {
        speaker: float(np.sum(covered[c][1] - covered[c][0])) / grid.sample_rate
        for c, speaker in enumerate(speakers)
        if heard[c] and c not in kept
    }
    return Activity(matrix, [speakers[c] for c in kept], dropped)


def arrival_order(activity: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Columns in order of their first active frame; silent columns last.

    Stable, so columns that begin in the same frame, and silent ones, keep their order.

    Args:
        activity: (frame, speaker), 0 to 1; a frame is active from 0.5 on.

    Returns:
        (speaker,), column indices: ``activity[:, arrival_order(activity)]`` is in order.
    """
    active = np.asarray(activity) >= 0.5
    num_frames = active.shape[0]
    if num_frames == 0:
        return np.arange(active.shape[1])
    first = np.where(_used(active), active.argmax(axis=0), num_frames)
    return np.argsort(first, kind="stable")


def to_turns(
    activity: npt.ArrayLike, grid: FrameGrid, speakers: Sequence[str], start: float = 0.0
) -> list[Turn]:
    """The turns that an activity draws, the inverse of ``from_turns`` on the grid.

    Args:
        activity: (frame, slot), 0 to 1; a frame is active from 0.5 on.
        grid: the clock of the front end.
        speakers: labels of the first columns; columns beyond them must be silent.
        start: seconds of the recording at which frame 0 begins, taken to the nearest sample.

    Returns:
        Turns in seconds of the recording, by start.

    Raises:
        ValueError: if a column without a label is active.
    """
    active = np.asarray(activity) >= 0.5
    if _used(active)[len(speakers) :].any():
        raise ValueError(
            f"to_turns: {int(np.flatnonzero(_used(active))[-1]) + 1} columns are in use, "
            f"but {len(speakers)} speakers are named. Name every active column."
        )
    first_sample = grid.samples_at(start)
    turns = []
    for column, speaker in enumerate(speakers):
        padded = np.concatenate(([0], active[:, column].astype(np.int8), [0]))
        edges = np.flatnonzero(np.diff(padded)).reshape(-1, 2)  # (turn, begin and end)
        times = (first_sample + edges * grid.hop) / grid.sample_rate
        turns += [Turn(float(begin), float(end), speaker) for begin, end in times]
    return in_order(turns)


def _used(active: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Columns with an active frame."""
    return np.asarray(active.any(axis=0))


Samples = npt.NDArray[np.int64]


def _covered_samples(
    turns: Sequence[Turn], speakers: list[str], grid: FrameGrid, num_frames: int, start: float
) -> list[tuple[Samples, Samples]]:
    """For each speaker, begins and ends of disjoint stretches, in samples from frame 0."""
    index = {speaker: i for i, speaker in enumerate(speakers)}
    spans_of: list[list[tuple[float, float]]] = [[] for _ in speakers]
    for turn in turns:
        spans_of[index[turn.speaker]].append((turn.start, turn.end))
    last = num_frames * grid.hop
    covered = []
    for spans in spans_of:
        seconds = np.array(spans, dtype=np.float64).reshape(-1, 2)
        samples = np.rint(seconds * grid.sample_rate).astype(np.int64) - grid.samples_at(start)
        samples = samples.clip(0, last)
        samples = samples[samples[:, 1] > samples[:, 0]]
        covered.append(_union(samples[:, 0], samples[:, 1]))
    return covered


def _union(begins: Samples, ends: Samples) -> tuple[Samples, Samples]:
    """Stretches that overlap or touch, joined; sorted."""
    if begins.size == 0:
        return begins, ends
    order = np.argsort(begins, kind="stable")
    begins, reach = begins[order], np.maximum.accumulate(ends[order])
    opens = np.concatenate(([True], begins[1:] > reach[:-1]))
    return begins[opens], reach[np.concatenate((opens[1:], [True]))]


def _covered_until(edges: Samples, begins: Samples, ends: Samples) -> npt.NDArray[np.float64]:
    """Covered samples in each stretch between two edges."""
    if begins.size == 0:
        return np.zeros(len(edges) - 1)
    knots = np.stack([begins, ends], axis=1).ravel()
    total = np.stack([np.zeros_like(begins), ends - begins], axis=1).ravel().cumsum()
    return np.diff(np.interp(edges, knots, total))


def _holds_centre(
    num_frames: int, begins: Samples, ends: Samples, hop: int
) -> npt.NDArray[np.bool_]:
    """Frames whose boundaries, after rounding the stretches to the grid, lie in one of them."""
    steps = np.zeros(num_frames + 1, dtype=np.int64)
    np.add.at(steps, (begins + hop // 2) // hop, 1)
    np.add.at(steps, (ends + hop // 2) // hop, -1)
    return steps.cumsum()[:num_frames] > 0
