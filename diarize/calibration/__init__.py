"""Posteriors that mean what they say: how far they do, and the rescaling after which they do."""

from diarize.calibration.calibration import Calibration, calibrate
from diarize.calibration.reliability import Reliability
from diarize.calibration.rescaling import Rescaling

__all__ = ["Calibration", "Reliability", "Rescaling", "calibrate"]
