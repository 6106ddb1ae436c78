"""Posteriors to turns: two thresholds, padding, shortest speech and shortest gap.

The rules, and their corner cases, are those that the published Sortformer models were tuned and
scored with:

1. Each posterior is repeated to steps of 10 ms. A speaker begins to speak when the posterior
   lies above ``onset`` and stops when it lies below ``offset``. One step changes the state once,
   so between ``onset`` and a higher ``offset`` the state toggles at every step; padding and
   gap filling then join the pieces.
2. A turn is widened by ``pad_onset`` and ``pad_offset`` and never begins before the session.
   Speech that lasts to the end of the posteriors ends with their last step, 10 ms short.
3. Turns of one speaker that touch or overlap are joined, those shorter than ``min_duration_on``
   are dropped, and then gaps shorter than ``min_duration_off`` are filled.
4. Times are rounded to 10 ms, and turns that then overlap are joined.

Unlike the reference, no turn ends after the session, and none is left without length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from diarize.config import load_config
from diarize.errors import ConfigError
from diarize.files import named_or_path
from diarize.turns import Turn, in_order

STEP = 0.01
"""Seconds between two looks at the posterior, and the rounding of times."""

Whole = npt.NDArray[np.int64]
"""Times are whole microseconds inside: a turn that 0.1 s of padding completes is complete."""

THRESHOLDS = 128
"""So many are remembered at most, with where posteriors pass them."""


@dataclass
class PostprocessConfig:
    """How posteriors become turns; times in seconds."""

    onset: float = 0.5
    """Speech begins above this posterior."""
    offset: float = 0.5
    """Speech ends below this posterior."""
    pad_onset: float = 0.0
    """Added before each turn."""
    pad_offset: float = 0.0
    """Added after each turn."""
    min_duration_on: float = 0.0
    """Turns shorter than this are dropped."""
    min_duration_off: float = 0.0
    """Gaps of one speaker shorter than this are filled."""

    def __post_init__(self) -> None:
        """Refuse settings that no posterior and no clock can meet."""
        for name in ("onset", "offset"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(
                    f"PostprocessConfig: {name} is {getattr(self, name)}, but a posterior lies "
                    "between 0 and 1. Give a threshold in that range."
                )
        for name in ("pad_onset", "pad_offset", "min_duration_on", "min_duration_off"):
            if not 0 <= getattr(self, name) < np.inf:
                raise ConfigError(
                    f"PostprocessConfig: {name} is {getattr(self, name)}, but it is a length of "
                    "time. Give seconds, 0 or more."
                )


def load_postprocess(path_or_name: str | Path) -> PostprocessConfig:
    """Settings from a YAML file, or by the name of one in ``conf/postprocess``.

    The settings may stand under ``parameters:``, as NeMo writes them.

    Raises:
        ConfigError: if there is no such file, or it holds something else.
    """
    path = named_or_path(path_or_name, "postprocess", ".yaml")
    return load_config(PostprocessConfig, [path], section="parameters")


def to_turns(
    posterior: npt.ArrayLike,
    frame_shift: float,
    config: PostprocessConfig,
    start: float = 0.0,
    duration: float | None = None,
) -> list[Turn]:
    """Who speaks when, read from posteriors.

    Args:
        posterior: (frame, slot), 0 to 1.
        frame_shift: seconds per frame.
        config: thresholds, padding, shortest speech and gap.
        start: seconds of the recording at which frame 0 begins.
        duration: seconds of the session, where its last frame is partial; the length of all
            frames otherwise.

    Returns:
        Turns of ``speaker_0``, ``speaker_1``, ... in seconds of the recording, by start. Their
        confidence is the mean posterior over the turn.

    Raises:
        ValueError: if the posterior has not two axes, or a value outside 0 to 1.
    """
    columns = np.asarray(posterior, dtype=np.float32)
    if columns.ndim != 2:
        raise ValueError(
            f"to_turns: posterior has shape {columns.shape}, but (frame, slot) is needed. "
            "Take one session at a time."
        )
    num_frames, num_slots = columns.shape
    if not np.all((columns > -1e-3) & (columns < 1 + 1e-3)):  # NaN fails as well
        raise ValueError(
            f"to_turns: posterior holds values from {columns.min()} to {columns.max()}, but it "
            "lies between 0 and 1. Apply the sigmoid to logits, and look for NaN in the input."
        )
    first, last = bounds(num_frames, frame_shift, start, duration)
    lanes = Lanes(list(columns.T), frame_shift, [first] * num_slots, [last] * num_slots)
    cut = lanes.cut(lanes.speech(config.onset, config.offset), config)
    turns = []
    for slot in range(num_slots):
        own = cut.lanes == slot
        begins, ends = cut.begins[own], cut.ends[own]
        means = _means(columns[:, slot], (begins - first) / 1e6, (ends - first) / 1e6, frame_shift)
        turns += [
            Turn(begin / 1e6, end / 1e6, f"speaker_{slot}", confidence)
            for begin, end, confidence in zip(
                begins.tolist(), ends.tolist(), means.tolist(), strict=True
            )
        ]
    return in_order(turns)


def bounds(
    num_frames: int, frame_shift: float, start: float, duration: float | None
) -> tuple[int, int]:
    """Microseconds of the recording between which turns may lie; arguments as of `to_turns`."""
    length = num_frames * frame_shift
    first = _microseconds(start)
    return first, first + _microseconds(length if duration is None else min(duration, length))


class Stretches(NamedTuple):
    """Speech in some lanes, by lane and then by time.

    Attributes:
        lanes: (stretch,), whose speech.
        begins: (stretch,), microseconds.
        ends: (stretch,), likewise.
    """

    lanes: Whole
    begins: Whole
    ends: Whole


class Lanes:
    """Columns of posteriors, of one session or of many, cut in one go.

    They lie end to end in one array, each between two values below all thresholds: whatever is
    done to it is done to all of them. Where a posterior rises or falls through a threshold is
    found once, and kept for the next settings that have it.

    Args:
        columns: posteriors (frame,), each a lane.
        frame_shift: seconds per frame.
        firsts: microseconds of the recording at which each begins, and
        lasts: at which each ends.
    """

    def __init__(
        self,
        columns: Sequence[npt.NDArray[np.float32]],
        frame_shift: float,
        firsts: Sequence[int],
        lasts: Sequence[int],
    ) -> None:
        bound = np.full(1, -1.0, dtype=np.float32)
        pieces = [bound] + [piece for column in columns for piece in (column, bound)]
        self._values = np.concatenate(pieces)
        self._sizes = np.array([len(column) for column in columns], dtype=np.int64)
        self._starts = np.cumsum(self._sizes + 1) - self._sizes
        self._repeat = max(1, round(frame_shift / STEP))
        self._step = frame_shift * 1e6 / self._repeat
        self.firsts = np.array(firsts, dtype=np.int64)
        self.lasts = np.array(lasts, dtype=np.int64)
        self._passed: dict[tuple[float, bool], Whole] = {}

    def speech(self, onset: float, offset: float) -> Stretches:
        """Where each lane speaks, counted from its own frame 0: rule 1."""
        if onset < offset and np.any((self._values > onset) & (self._values < offset)):
            return self._toggling(onset, offset)
        rises, falls = self._passing(onset, up=True), self._passing(offset, up=False)
        until = np.searchsorted(falls, rises)
        first = np.flatnonzero(np.diff(until, prepend=-1))  # of the rises before one fall
        begins, ends = rises[first], falls[until[first]]
        lanes = np.searchsorted(self._starts, begins, side="right") - 1
        starts = self._starts[lanes]
        return self._timed(lanes, (begins - starts) * self._repeat, (ends - starts) * self._repeat)

    def _passing(self, threshold: float, up: bool) -> Whole:
        """Where posteriors begin to lie above a threshold, or below."""
        key = (threshold, up)
        if key not in self._passed:
            if len(self._passed) >= THRESHOLDS:
                self._passed.clear()
            beyond = self._values > threshold if up else self._values < threshold
            self._passed[key] = np.flatnonzero(beyond[1:] & ~beyond[:-1]) + 1
        return self._passed[key]

    def _toggling(self, onset: float, offset: float) -> Stretches:
        """The same if a step may both begin and end speech: lane by lane, step by step."""
        found: list[Stretches] = []
        for lane, (start, size) in enumerate(zip(self._starts, self._sizes, strict=True)):
            steps = np.repeat(self._values[start : start + size], self._repeat)
            edges = np.flatnonzero(np.diff(_states(steps, onset, offset), prepend=0, append=0))
            begins, ends = edges.reshape(-1, 2).T
            found.append(self._timed(np.full(len(begins), lane), begins, ends))
        return Stretches(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def _timed(self, lanes: Whole, begins: Whole, ends: Whole) -> Stretches:
        """Steps as microseconds."""
        most = self._sizes[lanes] * self._repeat - 1  # the reference's open end
        begins, ends = np.minimum(begins, most), np.minimum(ends, most)
        return Stretches(lanes, _whole(begins * self._step), _whole(ends * self._step))

    def cut(self, speech: Stretches, config: PostprocessConfig) -> Stretches:
        """Turns of the recording, made of speech that is counted from frame 0: rules 2 to 4."""
        lanes, begins, ends = speech
        begins = np.maximum(begins - _microseconds(config.pad_onset), 0)
        joined = _join(lanes, begins, ends + _microseconds(config.pad_offset), 1)
        long = joined.ends - joined.begins >= _microseconds(config.min_duration_on)
        lanes, begins, ends = (part[long] for part in joined)
        lanes, begins, ends = _join(lanes, begins, ends, _microseconds(config.min_duration_off))
        # Rounded as times of the recording, for these are what is written.
        first = self.firsts[lanes]
        lanes, begins, ends = _join(lanes, _rounded(begins + first), _rounded(ends + first), 0)
        begins = begins.clip(self.firsts[lanes], self.lasts[lanes])
        ends = ends.clip(self.firsts[lanes], self.lasts[lanes])
        some = ends > begins
        return Stretches(lanes[some], begins[some], ends[some])


def _states(steps: npt.NDArray[np.float32], onset: float, offset: float) -> npt.NDArray[np.int8]:
    """Whether there is speech after each look at the posterior, 0 or 1.

    A look switches on (above onset only), switches off (below offset only), changes nothing
    (neither) or toggles (both, possible if offset > onset). So the state is what the last
    switch set, inverted if the toggles since are odd.
    """
    above, below = steps > onset, steps < offset
    looks = np.arange(len(above))
    last_switch = np.maximum.accumulate(np.where(above != below, looks, -1))
    switched = last_switch >= 0
    toggles = np.cumsum(above & below)
    since: Whole = toggles - np.where(switched, toggles[last_switch], 0)
    states: npt.NDArray[np.bool_] = (switched & above[last_switch]) ^ (since % 2 == 1)
    return states.astype(np.int8)


def _join(lanes: Whole, begins: Whole, ends: Whole, shortest_gap: int) -> Stretches:
    """Stretches of a lane with less than the shortest gap between them, joined."""
    first = np.ones(len(begins) + 1, dtype=bool)
    first[1:-1] = (begins[1:] - ends[:-1] >= shortest_gap) | (lanes[1:] != lanes[:-1])
    return Stretches(lanes[first[:-1]], begins[first[:-1]], ends[first[1:]])


def _means(
    column: npt.NDArray[np.float32],
    begins: npt.NDArray[np.float64],
    ends: npt.NDArray[np.float64],
    frame_shift: float,
) -> npt.NDArray[np.float64]:
    """Mean posterior of each stretch, frames weighted by the part of them inside it."""
    frames = np.arange(len(column) + 1)
    total = np.concatenate(([0.0], np.cumsum(column, dtype=np.float64)))
    sums = np.interp(ends / frame_shift, frames, total) - np.interp(
        begins / frame_shift, frames, total
    )
    return (sums * frame_shift / (ends - begins)).clip(0.0, 1.0)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1e6)


def _whole(times: npt.NDArray[np.floating]) -> Whole:
    whole: Whole = np.rint(times).astype(np.int64)
    return whole


def _rounded(times: Whole) -> Whole:
    """To the nearest 10 ms, halves up."""
    step = _microseconds(STEP)
    return (times + step // 2) // step * step
