from pathlib import Path

import numpy as np
import pytest

from diarize.errors import FeatureError
from diarize.manifest import check_manifest, read_manifest, reference_turns, write_features
from diarize.recording import open_recording
from diarize.turns import Turn


def test_sessions_come_back_from_one_array(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    lengths = [30, 7, 45]
    rows = [generator.normal(size=(length, 5)).astype(np.float16) for length in lengths]
    turns = [
        [Turn(0.0, 1.2, "a"), Turn(0.8, 9.0, "b")],  # the last one is cut at the end, 4.8 s
        [],
        [Turn(0.16, 0.48, "c"), Turn(7.2, 7.9, "d")],  # the last one begins after it
    ]
    manifest = write_features(tmp_path, "part", zip(rows, turns, strict=True), 0.16)
    assert check_manifest(manifest) == []
    sessions = read_manifest(manifest)
    assert [s.session_id for s in sessions] == ["part_00000", "part_00001", "part_00002"]
    assert [s.num_speakers for s in sessions] == [2, 0, 1]
    for session, features in zip(sessions, rows, strict=True):
        recording = open_recording(session.audio, session.frame_shift)
        first, stop = recording.span("it", session.offset, session.end)
        assert np.array_equal(recording.read(first, stop - first), features.astype(np.float32))
    told = [
        [(round(t.start - s.offset, 3), round(t.end - s.offset, 3), t.speaker) for t in ordered]
        for s in sessions
        for ordered in [sorted(reference_turns(s), key=lambda t: t.start)]
    ]
    assert told == [[(0.0, 1.2, "a"), (0.8, 4.8, "b")], [], [(0.16, 0.48, "c")]]
    assert np.load(tmp_path / "features" / "part.npy").dtype == np.float16


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(4), r"part_00000: has shape \(4,\) of float64"),
        (np.zeros((0, 4)), r"has shape \(0, 4\)"),
        (np.zeros((2, 4), dtype=int), "of int64, but features are"),
        (np.full((2, 4), np.nan), "part_00000: holds NaN or infinity"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    rows: np.ndarray, message: str, tmp_path: Path
) -> None:
    with pytest.raises(FeatureError, match=message):
        write_features(tmp_path / "out", "part", [(rows, [])], 0.1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("widths", "message"), [([], r"0 sessions have rows of \[\]"), ([3, 4], r"2 .* of \[3, 4\]")]
)
def test_what_cannot_share_an_array_is_refused(
    widths: list[int], message: str, tmp_path: Path
) -> None:
    sessions = [(np.zeros((4, width)), []) for width in widths]
    with pytest.raises(FeatureError, match=message):
        write_features(tmp_path / "out", "part", sessions, 0.1)
    assert not (tmp_path / "out").exists()
