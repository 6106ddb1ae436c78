"""Sessions whose posteriors lie on two plateaus, so that one setting tells them without error."""

import numpy as np

from diarize.formats.posteriors import Posteriors
from diarize.tune import Labelled
from diarize.turns import Turn


def hidden(number: int, level: float = 0.66, early: int = 0) -> Labelled:
    """A session that is told without error by one threshold, and padding before each turn."""
    rng = np.random.default_rng(number)
    truth = np.repeat(rng.random((40, 2)) < 0.4, 10, axis=0)
    truth[:20] = truth[-20:] = False
    posterior = np.where(truth, level + 0.02, level - 0.02) + rng.uniform(-0.01, 0.01, truth.shape)
    reference = []
    for slot, column in enumerate(truth.T):
        edges = np.flatnonzero(np.diff(column.astype(int))) + 1
        for begin, end in edges.reshape(-1, 2).tolist():
            reference.append(Turn((begin - early) * 0.08, end * 0.08, f"s{slot}"))
    return Labelled(
        f"h{number}", Posteriors(posterior.astype(np.float32), 0.08, 0.0, 32.0), reference, None
    )
