"""Where in an utterance somebody speaks."""

import numpy as np
import pytest
from tones import SAMPLE_RATE, tone

from diarize.errors import ManifestError
from diarize.speech import by_energy, by_words


def sound(*parts: float, background: float = 0.0) -> np.ndarray:
    """Seconds of tone and, below 0, of silence."""
    pieces = [tone(200.0, s) if s > 0 else np.zeros(round(-s * SAMPLE_RATE)) for s in parts]
    waveform = np.concatenate(pieces)
    noise = background * np.random.default_rng(0).normal(size=waveform.size)
    return (waveform + noise).astype(np.float32)


def seconds(spans: np.ndarray) -> list[list[float]]:
    return (spans / SAMPLE_RATE).round(2).tolist()


def test_silence_at_the_ends_and_within_is_left_out() -> None:
    spans = by_energy(sound(-0.5, 1.0, -0.6, 0.5, -0.3, background=1e-4))
    assert seconds(spans) == [[0.45, 1.55], [2.05, 2.65]]  # 0.05 s to either side


def test_short_silence_is_part_of_speech_and_short_sound_is_none() -> None:
    spans = by_energy(sound(-0.5, 1.0, -0.15, 0.5, -0.5, 0.05, -0.5, background=1e-4))
    assert seconds(spans) == [[0.45, 2.2]]


@pytest.mark.parametrize(
    "waveform", [sound(1.0), sound(-1.0), sound(1.0, -1.0, background=0.1), sound(0.004)]
)
def test_where_nothing_stands_out_all_is_speech(waveform: np.ndarray) -> None:
    assert by_energy(waveform).tolist() == [[0, waveform.size]]


def test_words_say_it_where_a_line_has_them() -> None:
    line = {"words": ["", "good", "morning", "", "all"], "alignments": [2.3, 2.5, 3.0, 3.6, 4.2]}
    assert seconds(by_words(line, 2.0, 3 * SAMPLE_RATE, "m:1")) == [[0.3, 1.0], [1.6, 2.2]]
    assert by_words({"words": ["a"]}, 0.0, 100, "m:1") is None
    assert len(by_words({"words": [""], "alignments": [1.0]}, 0.0, 100, "m:1")) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            {"words": ["a", "b"], "alignments": [1.0]},
            r"m:7: 'words' has 2 entries, but 'alignments' has 1\. Give",
        ),
        ({"words": "a b", "alignments": [1.0]}, r"m:7: 'words' has 'a b' entries, but"),
        (
            {"words": ["a", "b"], "alignments": [2.0, 1.0]},
            r"m:7: 'alignments' are \[2\.0, 1\.0\], but times rise\. Sort",
        ),
    ],
)
def test_words_and_times_that_do_not_go_together(line: dict, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        by_words(line, 0.0, SAMPLE_RATE, "m:7")
