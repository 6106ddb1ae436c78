"""Random numbers that depend on (seed, session, name) alone, for many sessions at once.

numpy's generators draw one stream after another; here every session of a batch has its own, and
all are drawn in one pass, so that a session is the same in whatever batch it is made.
"""

import math
import zlib

import numpy as np
from numpy.typing import NDArray

STEP = np.uint64(0x9E3779B97F4A7C15)
"""Increment of SplitMix64: the golden ratio's fraction, odd."""


class Draws:
    """Uniform numbers for sessions ``index`` of a seed.

    Each name is another stream, each step of a name another one again.

    Args:
        seed: of all sessions.
        index: (session,) which they are.
    """

    def __init__(self, seed: int, index: NDArray[np.int64]) -> None:
        sessions = index.astype(np.uint64)
        self._keys = _mixed(_mixed(np.full(1, seed, np.uint64)) + sessions * STEP)

    def __call__(self, name: str, *shape: int, step: int = 0) -> NDArray[np.float64]:
        """(session, *shape), above 0 and below 1."""
        stream = np.full(1, zlib.crc32(name.encode()) | step << 32, np.uint64)
        keys = _mixed(self._keys ^ _mixed(stream))
        counter = np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * STEP
        bits = _mixed(keys[:, None] + counter) >> np.uint64(11)
        uniform: NDArray[np.float64] = (bits.astype(np.float64) + 0.5) * 2.0**-53
        return uniform.reshape(-1, *shape)


def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function (Steele et al. 2014), which every bit of the input changes."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
