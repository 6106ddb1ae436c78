"""Sessions in which each frame is spoken in for a share that is known, and posteriors that err."""

import numpy as np
from scipy.special import expit

from diarize.formats.posteriors import Posteriors
from diarize.tune import Labelled
from diarize.turns import Turn


def drawn(number: int, temperature: float, bias: float = 0.0, num_frames: int = 300) -> Labelled:
    """A session of two slots whose posteriors become true by a temperature and a bias.

    What is true of a frame is no draw: its speaker speaks for just that share of it.
    """
    logits = np.random.default_rng(number).uniform(-4.0, 4.0, (num_frames, 2))
    posterior = expit(temperature * (logits - bias)).astype(np.float32)
    reference = [
        Turn(0.08 * frame, 0.08 * (frame + share), f"s{slot}")
        for (frame, slot), share in np.ndenumerate(expit(logits))
    ]
    given = Posteriors(posterior, 0.08, 0.0, 0.08 * num_frames)
    return Labelled(f"c{number}", given, reference, None)
