"""What a page draws of a recording, and what it plays."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import soundfile
from numpy.typing import NDArray

from diarize.errors import AudioError
from diarize.picture import extremes
from diarize.recording import Recording
from diarize.turns import Segment

PEAKS_PER_SECOND = 50
"""Buckets of a waveform: two and a half pixels each where ten seconds fill a screen."""

BEST_BITRATE = 24_000
"""Bits per second at which speech in Opus has nothing left to gain at 16 kHz."""
LEAST_BITRATE = 6_000
"""Bits per second: the least that libsndfile asks Opus for, telephone quality."""
SOUND_BYTES = 13_500_000
"""What all sound of a page may take above the least bitrate: 17.2 MiB once it is text."""

PIECE = 60.0
"""Seconds read at once."""


@dataclass(frozen=True)
class Sound:
    """A span of a recording.

    Attributes:
        peaks: (bucket, 2) int8, lowest and highest sample, ``peaks_per_second`` of them.
        peaks_per_second: buckets.
        ogg: what is played, Opus in Ogg; None of features.
    """

    peaks: NDArray[np.int8]
    peaks_per_second: float
    ogg: bytes | None


def bitrate_for(seconds: float) -> int:
    """Bits per second that so much sound of a page gets: less, where there is much of it."""
    return int(min(max(8 * SOUND_BYTES / max(seconds, 1.0), LEAST_BITRATE), BEST_BITRATE))


def hear(recording: Recording, span: Segment, bitrate: int, tell: Callable[[float], None]) -> Sound:
    """Read a span once, minute by minute.

    Args:
        recording: audio, or features, of which only the strength of each row is drawn.
        span: of it, seconds.
        bitrate: bits per second, from 6,000.
        tell: is told of seconds that were read.

    Raises:
        AudioError: if it cannot be read, or libsndfile writes no Opus.
        FeatureError: if features cannot be read.
    """
    if recording.kind.dim is not None:
        first, stop = recording.span(f"{recording.path}: the session", span.start, span.end)
        rows = recording.read(first, stop - first)
        peaks = extremes(rows, len(rows))
        tell(span.duration)
        return Sound(_quantized(peaks), 1.0 / recording.kind.grid.frame_shift, None)
    rate = recording.sample_rate
    times = np.append(np.arange(span.start, span.end, PIECE), span.end)
    bounds = [recording.sample_at(float(time)) for time in times]
    memory = io.BytesIO()
    found = []
    # 1 is 6 kbit/s and 0 is 256 kbit/s to libsndfile, with all rates between.
    level = 1.0 - (bitrate - 6_000) / 250_000
    try:
        ogg = soundfile.SoundFile(
            memory, "w", rate, 1, format="OGG", subtype="OPUS", compression_level=level
        )
    except (soundfile.LibsndfileError, ValueError) as error:
        raise AudioError(
            f"{recording.path}: libsndfile writes no Ogg Opus ({error}), but a page plays that. "
            "Install soundfile's own wheel, or leave the audio out."
        ) from None
    with ogg:
        for first, stop in pairwise(bounds):
            signal = recording.read(first, stop - first)
            ogg.write(np.clip(signal, -1.0, 1.0))
            found.append(extremes(signal, -(-len(signal) * PEAKS_PER_SECOND // rate)))
            tell(len(signal) / rate)
    return Sound(_quantized(np.concatenate(found)), PEAKS_PER_SECOND, memory.getvalue())


def _quantized(peaks: NDArray[np.float32]) -> NDArray[np.int8]:
    """Whole numbers up to 127, which all but the loudest thousandth stay below."""
    loudest = float(np.quantile(np.abs(peaks), 0.999)) if peaks.size else 0.0
    scaled = peaks * (127.0 / loudest) if loudest > 0 else np.zeros_like(peaks)
    return np.clip(np.round(scaled), -127, 127).astype(np.int8)
