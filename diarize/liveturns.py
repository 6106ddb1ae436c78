"""Turns of a stream, each told once, as soon as nothing that is to come can change it."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from diarize.postprocess import STEP, PostprocessConfig, to_turns
from diarize.turns import Turn, in_order

LONGEST = 600.0
"""Seconds after which a turn that does not end is told, and goes on as another."""


class LiveTurns:
    """The turns of `to_turns`, of posteriors as they come.

    A slot is decided up to a silence so long that speech after it cannot be joined, by padding or
    across a gap, with speech before it. What is undecided is kept: no more than a turn, and of a
    turn no more than ten minutes, after which it is told and another begins.

    Args:
        num_slots: columns of the posteriors.
        frame_shift: seconds per frame.
        config: thresholds, padding, shortest speech and gap.
    """

    def __init__(self, num_slots: int, frame_shift: float, config: PostprocessConfig) -> None:
        self._config, self._frame_shift = config, frame_shift
        self._columns = [np.zeros(0, dtype=np.float32) for _ in range(num_slots)]
        self._firsts = [0] * num_slots
        apart = config.pad_onset + config.pad_offset + config.min_duration_off + 2 * STEP
        # What is decided ends in silence for its last padding, what is kept begins with some.
        self._kept = math.ceil((config.pad_onset + STEP) / frame_shift) + 1
        self._silent = math.ceil(apart / frame_shift) + 1 + self._kept
        self._longest = max(round(LONGEST / frame_shift), 2 * self._silent)

    def push(self, posterior: npt.NDArray[np.float32]) -> list[Turn]:
        """Turns that these frames decide, by start; times are seconds of the stream.

        Args:
            posterior: (frame, slot), the next frames.
        """
        turns = []
        for slot, column in enumerate(posterior.T):
            self._columns[slot] = np.concatenate([self._columns[slot], column])
            turns += self._decide(slot, self._decided(self._columns[slot]))
            if len(self._columns[slot]) >= self._longest:
                turns += self._split(slot)
        return in_order(turns)

    def finish(self, duration: float | None = None) -> list[Turn]:
        """The turns that are left, by start.

        Args:
            duration: seconds of the whole stream, where its last frame is partial.
        """
        return in_order(
            turn
            for slot, column in enumerate(self._columns)
            for turn in self._decide(slot, len(column), duration)
        )

    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What is undecided: posteriors slot after slot, how many of each, and from which frame."""
        return {
            "undecided": np.concatenate(self._columns),
            "undecided_counts": np.array([len(column) for column in self._columns]),
            "undecided_since": np.array(self._firsts),
        }

    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Go on from what `state` gave, of as many slots."""
        ends = np.cumsum(state["undecided_counts"])[:-1]
        self._columns = np.split(state["undecided"], ends)
        self._firsts = state["undecided_since"].tolist()

    def _decided(self, column: npt.NDArray[np.float32]) -> int:
        """How many frames nothing to come can change."""
        # Sure to switch off: between two thresholds a slot stays what it was, or toggles.
        silent = (column < self._config.offset) & (column <= self._config.onset)
        frames = np.arange(len(column))
        since = frames - np.maximum.accumulate(np.where(silent, -1, frames))
        long_enough = np.flatnonzero(since >= self._silent)
        return int(long_enough[-1]) + 1 - self._kept if len(long_enough) else 0

    def _split(self, slot: int) -> list[Turn]:
        """Turns of all but the last frame, up to it; who speaks then goes on from there."""
        turns = self._decide(slot, len(self._columns[slot]) - 1)
        cut = self._firsts[slot] * self._frame_shift
        if turns and turns[-1].end > cut - 2 * STEP:  # open speech ends a step short
            turns[-1] = replace(turns[-1], end=cut)
            self._columns[slot] = np.ones(1, dtype=np.float32)
        return turns

    def _decide(self, slot: int, count: int, duration: float | None = None) -> list[Turn]:
        """Turns of the first frames of a slot, which are then forgotten."""
        start = self._firsts[slot] * self._frame_shift
        column, self._columns[slot] = np.split(self._columns[slot], [count])
        self._firsts[slot] += count
        left = None if duration is None else max(duration - start, 0.0)
        turns = to_turns(column[:, None], self._frame_shift, self._config, start, left)
        speaker = f"speaker_{slot}"
        return [Turn(turn.start, turn.end, speaker, turn.confidence) for turn in turns]
