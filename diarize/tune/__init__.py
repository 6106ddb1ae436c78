"""Post-processing tuned on sessions with references."""

from diarize.tune.trials import Labelled
from diarize.tune.tuning import Tuning, tune

__all__ = ["Labelled", "Tuning", "tune"]
