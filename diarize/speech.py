"""Where in an utterance somebody speaks: by its words' times, or by its energy."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE
from diarize.errors import ManifestError

STEP = SAMPLE_RATE // 100
"""Samples whose energy is looked at together."""

LOUD = 35.0
"""Decibels below the loudest within which it is speech."""

ABOVE = 6.0
"""Decibels above the background that speech is at least."""

CONTRAST = 15.0
"""Decibels between both, below which background and speech are not told apart."""

GAP = 0.2
"""Seconds of silence that belong to speech."""

MARGIN = 0.05
"""Seconds before and after the loud parts, where words fade in and out."""

SHORTEST = 0.1
"""Seconds of a stretch that is speech."""

Spans = NDArray[np.int64]


def by_energy(waveform: NDArray[np.float32]) -> Spans:
    """Stretches of speech by loudness; all of it where nothing stands out.

    Args:
        waveform: (sample,) at 16 kHz, of one speaker.

    Returns:
        (stretch, 2), samples at which each begins and ends.
    """
    whole = np.array([[0, waveform.size]])
    steps = waveform[: waveform.size // STEP * STEP].reshape(-1, STEP)
    power = np.square(steps, dtype=np.float64).mean(axis=1)
    if not power.any():
        return whole
    level = 10 * np.log10(power + 1e-12)
    quiet, loudest = np.quantile(level, [0.05, 0.95])
    if loudest - quiet < CONTRAST:
        return whole
    loud = np.flatnonzero(level > max(loudest - LOUD, quiet + ABOVE))
    edges = np.stack([loud, loud + 1], axis=1) * STEP
    return _joined(edges, waveform.size)


def by_words(
    values: Mapping[str, Any], offset: float, num_samples: int, where: str
) -> Spans | None:
    """Stretches of speech by ``words`` and ``alignments``, as NeMo's simulator reads them.

    Args:
        values: of a manifest line; ``alignments`` are the times at which each of ``words`` ends,
            seconds of the recording, and an empty word is silence.
        offset: where the utterance begins in the recording, seconds.
        num_samples: of the utterance.
        where: the line, for messages.

    Returns:
        (stretch, 2), or None where the line has no such keys.

    Raises:
        ManifestError: if both do not go together.
    """
    words, ends = values.get("words"), values.get("alignments")
    if words is None or ends is None:
        return None
    lists = isinstance(words, list) and isinstance(ends, list)
    if not lists or len(words) != len(ends):
        counts = [len(each) if isinstance(each, list) else repr(each) for each in (words, ends)]
        raise ManifestError(
            f"{where}: 'words' has {counts[0]} entries, but 'alignments' has {counts[1]}. Give the "
            'time at which each word ends, and "" for silence.'
        )
    numbers = [end for end in ends if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) < len(ends) or numbers != sorted(numbers):
        raise ManifestError(
            f"{where}: 'alignments' are {str(ends)[:40]}, but times rise. Sort them, and their "
            "words."
        )
    edges = np.rint((np.array([offset, *numbers]) - offset) * SAMPLE_RATE).astype(np.int64)
    edges = np.clip(np.stack([edges[:-1], edges[1:]], axis=1), 0, num_samples)
    spoken = np.array([bool(str(word).strip()) for word in words], dtype=bool)
    return _joined(edges[spoken], num_samples, margin=0.0)


def _joined(edges: Spans, num_samples: int, margin: float = MARGIN) -> Spans:
    """Stretches with their margins, those apart by a short silence joined, short ones left out."""
    if not len(edges):
        return edges.reshape(0, 2)
    apart = edges[1:, 0] - edges[:-1, 1] > GAP * SAMPLE_RATE
    begins = edges[np.concatenate([[True], apart]), 0]
    ends = edges[np.concatenate([apart, [True]]), 1]
    long = ends - begins >= SHORTEST * SAMPLE_RATE
    spans = np.stack([begins[long], ends[long]], axis=1)
    spans += round(margin * SAMPLE_RATE) * np.array([-1, 1])
    return spans.clip(0, num_samples)
