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

from dataclasses import dataclass
from pathlib import Path

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
    length = num_frames * frame_shift
    first = _microseconds(start)
    last = first + _microseconds(length if duration is None else min(duration, length))
    turns = []
    for slot in range(num_slots):
        begins, ends = _stretches(columns[:, slot], frame_shift, config)
        # Rounded as times of the recording, for these are what is written.
        begins, ends = _join(_rounded(begins + first), _rounded(ends + first), 0)
        begins, ends = begins.clip(first, last), ends.clip(first, last)
        begins, ends = begins[ends > begins], ends[ends > begins]
        means = _means(columns[:, slot], (begins - first) / 1e6, (ends - first) / 1e6, frame_shift)
        turns += [
            Turn(begin / 1e6, end / 1e6, f"speaker_{slot}", confidence)
            for begin, end, confidence in zip(
                begins.tolist(), ends.tolist(), means.tolist(), strict=True
            )
        ]
    return in_order(turns)


def _stretches(
    column: npt.NDArray[np.float32], frame_shift: float, config: PostprocessConfig
) -> tuple[Whole, Whole]:
    """Begins and ends of one slot's speech, from frame 0."""
    repeat = max(1, round(frame_shift / STEP))
    speech, steps_per_value = _speech(column, repeat, config.onset, config.offset)
    bounded = np.concatenate(([False], speech, [False]))
    edges = np.flatnonzero(bounded[1:] != bounded[:-1]).reshape(-1, 2) * steps_per_value
    edges = np.minimum(edges, len(column) * repeat - 1)  # the reference's open end
    times = np.rint(edges * (frame_shift * 1e6 / repeat)).astype(np.int64)
    begins = np.maximum(times[:, 0] - _microseconds(config.pad_onset), 0)
    ends = times[:, 1] + _microseconds(config.pad_offset)
    begins, ends = _join(begins, ends, 1)
    long_enough = ends - begins >= _microseconds(config.min_duration_on)
    return _join(begins[long_enough], ends[long_enough], _microseconds(config.min_duration_off))


def _speech(
    column: npt.NDArray[np.float32], repeat: int, onset: float, offset: float
) -> tuple[npt.NDArray[np.bool_], int]:
    """The state after each look at the posterior, and the steps that one look stands for.

    A look switches on (above onset only), switches off (below offset only), changes nothing
    (neither) or toggles (both, possible if offset > onset). So the state is what the last
    switch set, inverted if the toggles since are odd; without toggles one look per frame will do.
    """
    above, below = column > onset, column < offset
    if np.any(above & below):
        above, below = np.repeat(above, repeat), np.repeat(below, repeat)
        repeat = 1
    looks = np.arange(len(above))
    last_switch = np.maximum.accumulate(np.where(above != below, looks, -1))
    switched = last_switch >= 0
    toggles = np.cumsum(above & below)
    since: Whole = toggles - np.where(switched, toggles[last_switch], 0)
    return (switched & above[last_switch]) ^ (since % 2 == 1), repeat


def _join(begins: Whole, ends: Whole, shortest_gap: int) -> tuple[Whole, Whole]:
    """Sorted stretches with less than the shortest gap between them, joined."""
    apart = begins[1:] - ends[:-1] >= shortest_gap
    first, last = np.ones(len(begins), dtype=bool), np.ones(len(begins), dtype=bool)
    first[1:], last[:-1] = apart, apart
    return begins[first], ends[last]


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


def _rounded(times: Whole) -> Whole:
    """To the nearest 10 ms, halves up."""
    step = _microseconds(STEP)
    return (times + step // 2) // step * step
