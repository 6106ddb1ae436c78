"""Posteriors that `diarize infer` wrote, and files that are something else."""

from pathlib import Path

import numpy as np
import pytest

from diarize.errors import FeatureError
from diarize.formats.posteriors import read_posteriors

HALF = np.full((3, 2), 0.5, dtype=np.float32)


def write(path: Path, **arrays) -> Path:
    np.savez(path, **arrays)
    return path


def test_reads_frames_and_their_shift(tmp_path: Path) -> None:
    found = read_posteriors(write(tmp_path / "a.npz", posterior=HALF, frame_shift=0.08))
    np.testing.assert_array_equal(found.posterior, HALF)
    assert found.frame_shift == 0.08
    assert found.duration == pytest.approx(0.24)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(FeatureError, match=r"a\.npz: cannot be read \(No such file.*Check"):
        read_posteriors(tmp_path / "a.npz")


def test_text_arrays_of_other_names_and_pickles_are_no_posteriors(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("SPEAKER a 1 0 1\n")
    write(tmp_path / "other.npz", features=HALF)
    write(tmp_path / "pickle.npz", posterior=np.array([{}], dtype=object), frame_shift=0.08)
    (tmp_path / "cut.npz").write_bytes((tmp_path / "other.npz").read_bytes()[:60])
    np.save(tmp_path / "single.npy", HALF)
    for name in ("text.npz", "other.npz", "pickle.npz", "cut.npz", "single.npy"):
        with pytest.raises(FeatureError, match=f"{name}: holds no posteriors, but an .npz with"):
            read_posteriors(tmp_path / name)


@pytest.mark.parametrize(("posterior", "shift"), [(HALF[0], 0.08), (HALF, 0.0), (HALF, np.nan)])
def test_other_shapes_are_told(tmp_path: Path, posterior: np.ndarray, shift: float) -> None:
    path = write(tmp_path / "a.npz", posterior=posterior, frame_shift=shift)
    with pytest.raises(
        FeatureError, match=r"'posterior' is \(.*and 'frame_shift' .*, but they are"
    ):
        read_posteriors(path)


@pytest.mark.parametrize("wrong", [-3.5, 1.5, np.nan])
def test_logits_are_told(tmp_path: Path, wrong: float) -> None:
    path = write(tmp_path / "a.npz", posterior=np.float32([[0.5], [wrong]]), frame_shift=0.08)
    with pytest.raises(FeatureError, match=r"goes from .* to .*, but it is a probability"):
        read_posteriors(path)
