"""Who spoke when: a SortFormer speaker-diarization toolkit.

This module stays free of torch, so that scoring and checking answer at once.
The model itself is ``diarize.model.Diarizer``.
"""

from diarize.errors import DiarizeError
from diarize.frames import FrameGrid
from diarize.turns import Segment, Turn

__version__ = "0.1.0"

__all__ = ["DiarizeError", "FrameGrid", "Segment", "Turn", "__version__"]
