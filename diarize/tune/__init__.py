"""Post-processing tuned on sessions with references."""

from diarize.tune.trials import Labelled
from diarize.tune.tuning import Tuning, deal_out, tune

__all__ = ["Labelled", "Tuning", "deal_out", "tune"]
