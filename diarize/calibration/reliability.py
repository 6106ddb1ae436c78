"""What is stated with some probability, beside how often it is true."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NUM_BINS = 10
"""Bins of equal width, from 0 to 1."""

NEARLY = 2.0**-53
"""How near to 0 and 1 a probability is taken for, where its logarithm is needed."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Sums over statements, by the probability with which they are made; those of sessions add.

    A statement holds for some seconds, of which some are true. Each moment of them counts alike.

    Attributes:
        seconds: (bin,), for how long something is stated.
        stated: (bin,), the same, each second weighed by the probability that is stated.
        true: (bin,), seconds of which it is true.
        surprise: sum over seconds of the negative logarithm of what is stated of the truth.
        squared: sum over seconds of (stated - true)^2.
    """

    seconds: Floats
    stated: Floats
    true: Floats
    surprise: float
    squared: float

    @classmethod
    def of(cls, stated: Floats, seconds: Floats, true: Floats) -> "Reliability":
        """Those of statements.

        Args:
            stated: (statement,), probability, 0 to 1.
            seconds: (statement,), how long it holds.
            true: (statement,), seconds of which it is true.
        """
        bins = np.minimum((stated * NUM_BINS).astype(np.int64), NUM_BINS - 1)
        count, expected, found = (
            np.bincount(bins, of, NUM_BINS).astype(np.float64)
            for of in (seconds, stated * seconds, true)
        )
        likely = stated.clip(NEARLY, 1.0 - NEARLY)
        surprise = -(true @ np.log(likely) + (seconds - true) @ np.log1p(-likely))
        squared = true @ (1.0 - stated) ** 2 + (seconds - true) @ stated**2
        return cls(count, expected, found, float(surprise), float(squared))

    @classmethod
    def sum(cls, parts: "Iterable[Reliability]") -> "Reliability":
        """Those of several sessions together."""
        total = cls.of(*np.zeros((3, 0)))
        for part in parts:
            total = cls(
                total.seconds + part.seconds,
                total.stated + part.stated,
                total.true + part.true,
                total.surprise + part.surprise,
                total.squared + part.squared,
            )
        return total

    @property
    def total(self) -> float:
        """Seconds of all statements."""
        return float(self.seconds.sum())

    @property
    def cross_entropy(self) -> float:
        """Mean surprise, in nats; 0 where nothing is stated, as all means here."""
        return self._mean(self.surprise)

    @property
    def brier(self) -> float:
        """Mean squared error."""
        return self._mean(self.squared)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: by how much stated and true shares differ, bin by bin."""
        return self._mean(float(np.abs(self.stated - self.true).sum()))

    def rows(self) -> list[tuple[float, float, float]]:
        """Of each bin its seconds, the mean that is stated, and the share that is true."""
        most = np.maximum(self.seconds, NEARLY)
        columns = (self.seconds, self.stated / most, self.true / most)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _mean(self, total: float) -> float:
        return total / self.total if self.total else 0.0
