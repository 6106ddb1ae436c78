"""Simulators over tones, and what the tests of simulation measure in their sessions."""

from collections.abc import Callable

import numpy as np
from tones import SAMPLE_RATE

from diarize.simulate import Simulator
from diarize.turns import Turn

Make = Callable[..., Simulator]

SHORT = {"duration": 6.0, "silence": 0.5, "level_spread": 0.0}
INDEPENDENT = SHORT | {"independent_share": 1.0}
CONVERSATION = SHORT | {"independent_share": 0.0, "duration": 20.0}
ENDLESS = INDEPENDENT | {"duration": None}


def power(waveform: np.ndarray) -> float:
    """Mean of squares."""
    return float(np.mean(np.square(waveform, dtype=np.float64)))


def samples(turn: Turn) -> slice:
    """Where a turn lies."""
    return slice(round(turn.start * SAMPLE_RATE), round(turn.end * SAMPLE_RATE))


def covered(turns: list[Turn], num_samples: int) -> np.ndarray:
    """How many speak in each sample."""
    count = np.zeros(num_samples, dtype=int)
    for turn in turns:
        count[samples(turn)] += 1
    return count
