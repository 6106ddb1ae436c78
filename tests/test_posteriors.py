"""Posteriors on disk: what is written is read, and what is none is told."""

from pathlib import Path

import numpy as np
import pytest

from diarize.errors import PosteriorError
from diarize.formats.posteriors import Posteriors, read_posteriors, write_posteriors

DRAWN = np.array([[0.1, 0.9], [0.2, 0.8], [1.0, 0.0]], dtype=np.float32)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    given = Posteriors(DRAWN, 0.08, 3.5, 0.2, {"model": "default", "inference": {"window": 90.0}})
    write_posteriors(tmp_path / "a.npz", given)
    found = read_posteriors(tmp_path / "a.npz")
    assert np.array_equal(found.posterior, DRAWN) and found.posterior.dtype == np.float32
    assert (found.frame_shift, found.offset, found.duration) == (0.08, 3.5, 0.2)
    assert found.made_by == given.made_by
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_other_tools_need_not_say_who_made_them(tmp_path: Path) -> None:
    values = DRAWN.astype(np.float64)
    np.savez(tmp_path / "a.npz", posterior=values, frame_shift=0.08, offset=0, duration=0.24)
    found = read_posteriors(tmp_path / "a.npz")
    assert found.made_by == {} and found.posterior.dtype == np.float32


WHOLE = {"posterior": DRAWN, "frame_shift": 0.08, "offset": 0.0, "duration": 0.24}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"posterior": DRAWN}, r"a\.npz: holds posterior, but no frame_shift\. Write it anew"),
        ({}, r"a\.npz: holds nothing, but no posterior"),
        (WHOLE | {"posterior": DRAWN[0]}, r"float32 of shape \(2,\), but .* \(frame, slot\)"),
        (WHOLE | {"posterior": DRAWN > 0.5}, r"posterior is bool of shape \(3, 2\)"),
        (WHOLE | {"posterior": DRAWN * np.nan}, r"frame 0 \(0\.00 s\) holds \[nan nan\]"),
        (WHOLE | {"posterior": DRAWN * 2}, r"frame 0 .* lies between 0 and 1\. Apply the sig"),
        (WHOLE | {"frame_shift": np.nan}, r"frame_shift is nan, but one number"),
        (WHOLE | {"offset": [0.0, 1.0]}, r"offset is \[0\. 1\.\], but one number"),
        (WHOLE | {"frame_shift": -0.08}, r"3 frames of -0\.08 s last -0\.24 s, but .* 0\.24 s"),
        (WHOLE | {"duration": 9.0}, r"3 frames of 0\.08 s last 0\.24 s, but the session .* 9\.00"),
        (WHOLE | {"made_by": "me"}, r"made_by is 'me', but JSON with names and values"),
        (WHOLE | {"made_by": "[1]"}, r"made_by is '\[1\]', but JSON"),
        (WHOLE | {"posterior": np.array([{}])}, r"a\.npz: is no \.npz file of plain arrays"),
    ],
)
def test_what_is_none_is_told(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays)
    with pytest.raises(PosteriorError, match=message):
        read_posteriors(tmp_path / "a.npz")


def test_what_is_no_npz_is_told(tmp_path: Path) -> None:
    with pytest.raises(PosteriorError, match=r"gone\.npz: cannot be read \(No such file"):
        read_posteriors(tmp_path / "gone.npz")
    for content in (b"", b"no zip", b"PK\x03\x04 cut off"):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(PosteriorError, match=r"a\.npz: is no \.npz file of plain arrays"):
            read_posteriors(tmp_path / "a.npz")
    np.save(tmp_path / "b.npy", DRAWN)
    with pytest.raises(PosteriorError, match=r"b\.npy: is no \.npz file of plain arrays"):
        read_posteriors(tmp_path / "b.npy")
