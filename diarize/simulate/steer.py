"""Shares of silence and overlap that a conversation is kept near."""

import numpy as np
from scipy.special import betaincinv

from diarize.simulate.draws import Draws
from diarize.simulate.plan import Bools, Floats, Ints
from diarize.simulate.settings import SimulationConfig


class Steer:
    """Keeps the shares of silence and of overlap near targets, by what a session lacks so far.

    As NeMo's simulator does (Park et al. 2023, arXiv:2310.12371), each session has targets of its
    own, from Beta distributions.

    Attributes:
        overlapped: (B,) samples so far in which several speak.
    """

    def __init__(self, silence: Floats, overlap: Floats) -> None:
        self._silence, self._overlap = silence, overlap
        self._silent = np.zeros(len(silence))
        self.overlapped = np.zeros(len(silence))

    @classmethod
    def of(cls, config: SimulationConfig, draws: Draws) -> "Steer | None":
        """Of settings that have targets."""
        if config.silence_ratio is None or config.overlap_ratio is None:
            return None
        spread = config.ratio_spread
        return cls(
            _beta(config.silence_ratio, spread, draws("silence ratio")),
            _beta(config.overlap_ratio, spread, draws("overlap ratio")),
        )

    def begin(self, silence: Ints) -> None:
        """Note the samples (B,) before the first word."""
        self._silent = silence.astype(np.float64)

    def decide(
        self, drawn: Floats, rows: Ints, end: Ints, silence: Ints, overlap: Ints, holds: Bools
    ) -> tuple[Bools, Ints, Ints]:
        """What comes after the turns of sessions ``rows`` (R,) that end at samples ``end``.

        Args:
            drawn: (R,) uniform numbers, which decide where both are lacking.
            rows: sessions.
            end: (R,) where their turns end.
            silence: (R,) samples that would follow, and are longer where much is lacking.
            overlap: (R,) samples by which the next turn would be early, likewise.
            holds: (R,) whether the same speaker goes on, who cannot be early.

        Returns:
            Whether the next turn is early, samples of silence, samples of overlap, (R,) each.
        """
        lacks = self._silence[rows] * end - self._silent[rows]
        speech = end - self._silent[rows]
        lacks_overlap = self._overlap[rows] * speech - self.overlapped[rows]
        both = np.maximum(lacks, 0) + np.maximum(lacks_overlap, 0)
        early = ~holds & (lacks_overlap > drawn * both)
        silence = np.where(early | (lacks <= 0), 0, np.maximum(silence, lacks).astype(np.int64))
        self._silent[rows] += silence
        return early, silence, np.maximum(overlap, lacks_overlap).astype(np.int64)


def _beta(mean: float, spread: float, uniform: Floats) -> Floats:
    """Of a mean and a standard deviation."""
    if mean in (0.0, 1.0) or spread == 0.0:
        return np.full(uniform.shape, mean)
    size = mean * (1 - mean) / min(spread, 0.9 * np.sqrt(mean * (1 - mean))) ** 2 - 1
    values: Floats = betaincinv(mean * size, (1 - mean) * size, uniform)
    return values
