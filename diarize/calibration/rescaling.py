"""A temperature, and perhaps a bias, on logits: fitted by Newton's method.

Of all rescalings, the one is taken under which the truth is least surprising (cross-entropy), as
Guo et al. 2017 do for classes; here each slot is a question of its own, yes or no (Platt 1999).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit

from diarize.errors import ScoreError
from diarize.postprocess import PostprocessConfig

Floats = NDArray[np.float64]

MOST = 1.0 - 2.0**-24
"""Of what float32 can tell from 1; logits end there at 16.6."""

LEAST = float(np.finfo(np.float32).tiny)
"""Likewise of what it tells from 0, at -87."""

HOTTEST = 20.0
"""Temperatures lie between this and its inverse; beyond, truth and posteriors have little to do
with each other, or one is known from the other."""

MOST_STEPS = 100
"""Of Newton's method, which takes less than ten where there is a best temperature."""

NEAR = 1e-9
"""Change of the scale of logits at which it has arrived."""


@dataclass(frozen=True)
class Rescaling:
    """Logits that become ``logit / temperature + bias``."""

    temperature: float = 1.0
    bias: float = 0.0

    def of(self, posterior: NDArray[np.floating]) -> Floats:
        """Posteriors of the rescaled logits; 0, which stands where nobody is looked for, stays."""
        known = np.clip(posterior, 0.0, MOST, dtype=np.float64)
        rescaled: Floats = expit(logit(known) / self.temperature + self.bias)
        return rescaled

    def moved(self, config: PostprocessConfig) -> PostprocessConfig:
        """The settings that make the same turns of rescaled posteriors."""
        onset, offset = expit(
            logit([config.onset, config.offset]) / self.temperature + self.bias
        ).tolist()
        return replace(config, onset=onset, offset=offset)


def fit(posterior: Floats, seconds: Floats, active: Floats, with_bias: bool) -> Rescaling:
    """The rescaling under which the truth is least surprising.

    Args:
        posterior: (statement,), above 0.
        seconds: (statement,), how long it holds.
        active: (statement,), seconds of which it is true.
        with_bias: fit a bias as well.

    Raises:
        ScoreError: if no temperature from 0.05 to 20 is best.
    """
    logits = logit(posterior.clip(LEAST, MOST))
    inputs = np.stack([logits, np.ones_like(logits)][: 1 + with_bias])
    weights = np.array([1.0, 0.0][: 1 + with_bias])

    def surprise(weights: Floats) -> float:
        rescaled = weights @ inputs
        return float(seconds @ np.logaddexp(0.0, rescaled) - active @ rescaled)

    least = surprise(weights)
    for _ in range(MOST_STEPS):
        expected = expit(weights @ inputs)
        slope = inputs @ (seconds * expected - active)
        bend = (inputs * (seconds * expected * (1.0 - expected))) @ inputs.T
        step = np.linalg.lstsq(bend, slope)[0]
        while not surprise(weights - step) <= least and np.abs(step).max() > NEAR:
            step /= 2.0
        weights = weights - step
        least = surprise(weights)
        if np.abs(step).max() <= NEAR or weights[0] > HOTTEST:
            break
    if not 1.0 / HOTTEST <= weights[0] <= HOTTEST:
        raise ScoreError(
            f"logits fit the references best when multiplied by {weights[0]:.3g}, but a "
            f"rescaling is by {1.0 / HOTTEST:g} to {HOTTEST:g}. Are these the references? If so, "
            "take more sessions, in some of which the model errs."
        )
    scale, bias = (*weights.tolist(), 0.0)[:2]
    return Rescaling(1.0 / scale, bias)
