"""Pictures: what is drawn, and in whose colour."""

import re
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.picture import draw, extremes
from diarize.turns import Segment, Turn

REFERENCE = [Turn(0, 4, "ann"), Turn(4, 8, "bob"), Turn(9, 10, "cy")]
TURNS = [Turn(0, 3.5, "speaker_0"), Turn(3.5, 8, "speaker_1")]


def test_extremes_of_equal_stretches():
    waveform = np.array([0, 1, -1, 0.5, 0.25, -0.5], dtype=np.float32)
    assert extremes(waveform, 3).tolist() == [[0, 1], [-1, 0.5], [-0.5, 0.25]]
    assert extremes(waveform, 100).tolist() == [[x, x] for x in waveform]
    assert extremes(waveform[:0], 10).shape == (0, 2)


@given(num_samples=st.integers(1, 500), num_bins=st.integers(1, 60))
@settings(deadline=None, max_examples=50)
def test_extremes_lose_no_peak(num_samples: int, num_bins: int):
    waveform = np.random.default_rng(num_samples).standard_normal(num_samples).astype("f4")
    found = extremes(waveform, num_bins)
    assert len(found) == min(num_bins, num_samples)
    assert (found[:, 0].min(), found[:, 1].max()) == (waveform.min(), waveform.max())


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_is_written_whole(tmp_path: Path, suffix: str):
    pytest.importorskip("matplotlib")
    waveform = extremes(np.random.default_rng(0).random(16000).astype("f4") - 0.5, 200)
    path = tmp_path / f"talk.{suffix}"
    draw(path, Segment(0, 10), waveform, TURNS, REFERENCE, title="talk")
    assert path.stat().st_size > 1000 and list(tmp_path.iterdir()) == [path]
    if suffix == "png":
        assert path.read_bytes().startswith(b"\x89PNG")
    else:
        text = path.read_text()
        # A lane in the colour of each speaker, then of the references mapped to them, cy's in grey.
        lanes = [color for color, _ in groupby(re.findall(r"#0072b2|#d55e00|#999999", text))]
        assert lanes == ["#0072b2", "#d55e00", "#0072b2", "#d55e00", "#999999"]


def test_nothing_spoken_is_drawn_too(tmp_path: Path):
    pytest.importorskip("matplotlib")
    draw(tmp_path / "a.png", Segment(600, 900), np.zeros((0, 2), np.float32), [])
    assert (tmp_path / "a.png").exists()


def test_of_features_the_strength_of_each_row_is_drawn():
    rows = np.array([[3.0, 4.0], [0.0, 0.0], [-6.0, 8.0]], dtype=np.float32)
    strength = np.sqrt([12.5, 0.0, 50.0])
    np.testing.assert_allclose(extremes(rows, 9), np.stack([-strength, strength], axis=1), 1e-6)
    np.testing.assert_allclose(extremes(rows, 1), [[-strength[2], strength[2]]], 1e-6)
    assert extremes(rows[:0], 9).shape == (0, 2)
