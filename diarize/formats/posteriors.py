"""Posteriors as ``diarize infer --posteriors`` writes them: an ``.npz`` for each session.

It holds ``posterior``, (frame, slot) float32, and ``frame_shift``, seconds.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.errors import FeatureError


@dataclass(frozen=True)
class Posteriors:
    """How surely each slot speaks in each frame.

    Attributes:
        posterior: (frame, slot), 0 to 1, from the beginning of the session.
        frame_shift: seconds from frame to frame.
    """

    posterior: NDArray[np.float32]
    frame_shift: float

    @property
    def duration(self) -> float:
        """Seconds."""
        return len(self.posterior) * self.frame_shift


def read_posteriors(path: str | Path) -> Posteriors:
    """The posteriors of one session.

    Raises:
        FeatureError: if the file is missing, or holds something else.
    """
    try:
        # Opened here, since NumPy leaves open what turns out to be no archive.
        with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            posterior = np.asarray(arrays["posterior"], dtype=np.float32)
            frame_shift = float(arrays["frame_shift"])
    except OSError as fault:
        reason = fault.strerror or str(fault)
        raise FeatureError(f"{path}: cannot be read ({reason}). Check the path.") from None
    except (AttributeError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile):
        raise FeatureError(
            f"{path}: holds no posteriors, but an .npz with 'posterior' and 'frame_shift' is "
            "needed. Write it with: diarize infer --posteriors DIR."
        ) from None
    if posterior.ndim != 2 or not frame_shift > 0:
        raise FeatureError(
            f"{path}: 'posterior' is {posterior.shape} and 'frame_shift' {frame_shift:g}, but they "
            "are (frame, slot) and seconds. Write it with: diarize infer --posteriors DIR."
        )
    if not ((posterior >= 0) & (posterior <= 1)).all():
        raise FeatureError(
            f"{path}: 'posterior' goes from {posterior.min():g} to {posterior.max():g}, but it is "
            "a probability. Are these logits?"
        )
    return Posteriors(posterior, frame_shift)
