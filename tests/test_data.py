"""Sessions as batches: activity by arrival, padding, voices, and an order that can be resumed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ramps import CLOCK, HEARS, TURNS, seconds, span, write_ramp, write_rows
from torch import Tensor

from diarize.data import Collate, Example, SessionDataset
from diarize.errors import AudioError, ConfigError, FeatureError, ManifestError
from diarize.formats.rttm import write_rttm
from diarize.formats.uem import write_uem
from diarize.frames import FrameGrid
from diarize.manifest import Session
from diarize.recording import AUDIO
from diarize.turns import Segment, Turn

GRID = FrameGrid(16000, 1600)
"""Ten frames a second, so that drawings stay small."""


def example(duration: float, turns: list[Turn], value: float = 0.5) -> Example:
    waveform = np.full(round(duration * 16000), value, dtype=np.float32)
    return Example("s", waveform, turns)


def picture(activity: Tensor) -> list[str]:
    """A line per slot, # where it is active."""
    return ["".join("#" if value else "." for value in column) for column in activity.T]


# ---- batches

MEETING = [
    Turn(0.3, 0.8, "ann"),
    Turn(0.1, 0.5, "bob"),
    Turn(0.9, 1.0, "bob"),
]


def test_slots_are_filled_in_order_of_arrival() -> None:
    batch = Collate(GRID, 3)([example(1.0, MEETING)])
    assert picture(batch.activity[0]) == [
        ".####....#",  # bob
        "...#####..",  # ann
        "..........",
    ]


def test_shorter_examples_are_padded_with_silence() -> None:
    short = example(0.45, [Turn(0.0, 0.45, "cid")], value=-0.5)
    batch = Collate(GRID, 2)([example(1.0, MEETING), short])
    assert batch.signal.shape == (2, 16000) and batch.signal.dtype == torch.float32
    assert batch.num_samples.tolist() == [16000, 7200]
    assert batch.num_frames.tolist() == [10, 5]
    assert (batch.signal[1, :7200] == -0.5).all() and not batch.signal[1, 7200:].any()
    assert picture(batch.activity[1]) == ["#####.....", ".........."]
    assert batch.turns[0] == MEETING


def test_voices_are_told_where_they_talk_alone() -> None:
    batch = Collate(GRID, 2, {"ann": 4, "bob": 7})([example(1.0, MEETING)])
    assert batch.voice.tolist() == [[-1, 7, 7, -1, -1, 4, 4, 4, -1, 7]]


def test_soft_activity_is_the_part_of_a_frame_that_is_spoken_in() -> None:
    turns = [Turn(0.1, 0.24, "ann"), Turn(0.27, 0.4, "bob")]
    batch = Collate(GRID, 2, {"ann": 0, "bob": 1}, soft=True)([example(0.5, turns)])
    expected = [[0.0, 1.0, 0.4, 0.0, 0.0], [0.0, 0.0, 0.3, 1.0, 0.0]]
    torch.testing.assert_close(batch.activity[0].T, torch.tensor(expected))
    assert batch.voice.tolist() == [[-1, 0, -1, 1, -1]]  # one in the third frame is not alone


def test_voices_that_are_not_trained_have_no_class() -> None:
    batch = Collate(GRID, 2, {"ann": 0})([example(1.0, MEETING)])
    assert batch.voice.tolist() == [[-1, -1, -1, -1, -1, 0, 0, 0, -1, -1]]
    assert (Collate(GRID, 2)([example(1.0, MEETING)]).voice == -1).all()


def test_speakers_beyond_the_slots_are_counted_and_still_no_silence() -> None:
    crowd = [Turn(0.0, 0.5, "a"), Turn(0.2, 1.0, "b"), Turn(0.4, 0.7, "c"), Turn(2.0, 3.0, "d")]
    voices = {name: index for index, name in enumerate("abcd")}
    batch = Collate(GRID, 1, voices)([example(1.0, crowd), example(0.5, crowd[:1])])
    assert (batch.num_speakers, batch.dropped_speakers) == (4, 2)  # d speaks after the end
    assert picture(batch.activity[0]) == ["#####....."]
    # Whoever has no slot talks into the others' speech, and has a voice of their own.
    assert batch.voice[0].tolist() == [0, 0, -1, -1, -1, -1, -1, 1, 1, 1]


def test_batch_moves_its_tensors_and_keeps_the_rest() -> None:
    batch = Collate(GRID, 2)([example(1.0, MEETING)])
    moved = batch.to("meta")
    assert moved.signal.device.type == moved.voice.device.type == "meta"
    assert (moved.turns, moved.num_speakers) == (batch.turns, 2)
    assert batch.signal.device.type == "cpu"


# ---- recorded sessions


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return write_ramp(tmp_path)


def test_session_is_whole_without_a_window(session: Session) -> None:
    dataset = SessionDataset([session], None)
    assert len(dataset) == 1
    whole = dataset[0]
    assert seconds(whole.signal) == (2.0, 12.0)
    assert whole.turns == [Turn(0.0, 1.5, "ann"), Turn(3.0, 7.0, "bob"), Turn(6.5, 10.0, "ann")]
    assert whole.regions == [Segment(0.0, 10.0)]


def test_windows_come_in_order_end_to_end(session: Session) -> None:
    dataset = SessionDataset([session], 4.0)
    windows = [dataset[index] for index in range(len(dataset))]
    assert [seconds(w.signal) for w in windows] == [(2.0, 6.0), (6.0, 10.0), (10.0, 12.0)]
    assert windows[0].turns == [Turn(0.0, 1.5, "ann"), Turn(3.0, 4.0, "bob")]
    assert windows[1].turns == [Turn(0.0, 3.0, "bob"), Turn(2.5, 4.0, "ann")]
    assert windows[2].turns == [Turn(0.0, 2.0, "ann")]


def test_rest_of_under_a_second_is_left_out(session: Session) -> None:
    assert len(SessionDataset([session], 4.6)) == 2
    assert len(SessionDataset([session], 4.5)) == 3
    assert len(SessionDataset([session], 0.5)) == 19


def test_spans_that_share_an_id_keep_their_own_turns(session: Session) -> None:
    spans = [Session("a", session.audio, start, 5.0, rttm=session.rttm) for start in (1.0, 7.0)]
    dataset = SessionDataset(spans, None)
    assert [turn.speaker for turn in dataset[0].turns] == ["ann", "bob"]
    assert [turn.speaker for turn in dataset[1].turns] == ["bob", "ann"]


def test_session_without_duration_lasts_to_the_end(session: Session) -> None:
    endless = Session("a", session.audio, 11.0, rttm=session.rttm)
    assert seconds(SessionDataset([endless], 30.0)[0].signal) == (11.0, 14.0)


def test_scored_regions_are_in_the_time_of_the_window(session: Session, tmp_path: Path) -> None:
    write_uem(tmp_path / "a.uem", {"a": [Segment(0.0, 3.0), Segment(7.0, 20.0)]})
    scored = Session("a", session.audio, 2.0, 10.0, session.rttm, tmp_path / "a.uem")
    dataset = SessionDataset([scored], 4.0)
    assert [dataset[index].regions for index in range(3)] == [
        [Segment(0.0, 1.0)],
        [Segment(1.0, 4.0)],
        [Segment(0.0, 2.0)],
    ]
    whole = Session("a", session.audio, rttm=session.rttm)
    assert SessionDataset([whole], None)[0].regions is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rttm": None}, r"m:1: session 'a' has no rttm_filepath, but .* references\. Add it"),
        (
            {"offset": 15.0, "duration": None},
            r"m:1: session 'a' starts at 15\.00 s, but its audio lasts 14\.00 s\. Correct",
        ),
        (
            {"offset": 4.5},
            r"m:1: session 'a' ends at 14\.50 s, but its audio lasts 14\.00 s\. Shorten 'dur",
        ),
        ({"audio": Path("gone.flac")}, r"m:1: gone\.flac: cannot be read \(No such file"),
    ],
)
def test_sessions_that_cannot_be_used(session: Session, change: dict, message: str) -> None:
    wrong = Session(**(vars(session) | change))
    with pytest.raises((ManifestError, AudioError), match=message):
        SessionDataset([wrong], 4.0)


def test_a_session_may_end_a_rounding_after_its_audio(session: Session) -> None:
    rounded = Session(**(vars(session) | {"offset": 4.005}))
    assert seconds(SessionDataset([rounded], None)[0].signal)[1] == 14.0


def test_no_sessions_are_no_data() -> None:
    with pytest.raises(ManifestError, match=r"has 0 lines, but .* at least 1"):
        SessionDataset([], 4.0)


def test_references_with_confidences_are_the_same(session: Session, tmp_path: Path) -> None:
    """They are read line by line, and those without at once."""
    sure = [replace(turn, confidence=0.5) for turn in TURNS[::-1]]
    write_rttm(tmp_path / "sure.rttm", {"a": sure, "b": TURNS})
    dataset = SessionDataset([session, replace(session, rttm=tmp_path / "sure.rttm")], None)
    assert dataset[0].turns == dataset[1].turns != []


def test_references_that_fit_nothing_are_no_data(session: Session) -> None:
    late = replace(session, offset=13.0, duration=1.0)
    told = (
        r"m: has 2 sessions of 1\.50 s, but all 6 turns of their references lie outside, the first "
        r"at 1\.00 s\. Do the RTTM files belong"
    )
    with pytest.raises(ManifestError, match=told):
        SessionDataset([late, replace(session, offset=0.0, duration=0.5)], 4.0)
    SessionDataset([late, session], 4.0)  # one that nobody speaks in is heard all the same


def test_a_reference_of_another_recording_is_refused(session: Session, tmp_path: Path) -> None:
    write_rttm(tmp_path / "late.rttm", {"a": [Turn(14.0, 15.0, "ann"), Turn(20.0, 21.0, "bob")]})
    late = replace(session, rttm=tmp_path / "late.rttm")
    told = (
        r"m:1: session 'a' has 2 turns in \S+late\.rttm, the first at 14\.00 s, but its audio last"
    )
    for wrong in (late, replace(late, offset=0.0, duration=None)):
        with pytest.raises(ManifestError, match=told):
            SessionDataset([session, wrong], 4.0)


def test_references_without_turns_are_no_data(session: Session, tmp_path: Path) -> None:
    write_rttm(tmp_path / "empty.rttm", {})
    silent = replace(session, rttm=tmp_path / "empty.rttm")
    with pytest.raises(ManifestError, match=r"m: has 1 session of 10\.00 s, but 0 turns: where"):
        SessionDataset([silent], 4.0)


# ---- features


def rows(count: int, turns: list[Turn], value: float = 0.5) -> Example:
    return Example("f", np.full((count, 2), value, dtype=np.float32), turns, grid=CLOCK)


@pytest.fixture
def features(tmp_path: Path) -> Session:
    return write_rows(tmp_path)


def test_rows_are_padded_with_zeros_and_counted_in_samples() -> None:
    batch = Collate(CLOCK, 2, hears=HEARS)([rows(10, MEETING), rows(4, MEETING, -0.5)])
    assert batch.signal.shape == (2, 10, 2) and batch.signal.dtype == torch.float32
    assert batch.num_frames.tolist() == [10, 4]
    assert batch.num_samples.tolist() == [10 * CLOCK.hop, 4 * CLOCK.hop]
    assert (batch.signal[1, :4] == -0.5).all() and not batch.signal[1, 4:].any()
    assert picture(batch.activity[0]) == [".####....#", "...#####.."]
    assert picture(batch.activity[1]) == [".###......", "...#......"]


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        (Example("x", np.zeros(16000, dtype=np.float32), []), "audio"),
        (
            Example("x", np.zeros((9, 3), dtype=np.float32), [], grid=CLOCK),
            r"features of 3 numbers every 0\.1 s",
        ),
        (
            Example("x", np.zeros((9, 2), dtype=np.float32), [], grid=FrameGrid.of_shift(0.2)),
            r"features of 2 numbers every 0\.2 s",
        ),
    ],
)
def test_what_the_front_end_does_not_hear_is_no_batch(wrong: Example, kind: str) -> None:
    told = rf"session 'x' is {kind}, but the model hears features of 2 numbers every 0\.1 s\. "
    with pytest.raises(ManifestError, match=told):
        Collate(CLOCK, 2, hears=HEARS)([rows(10, MEETING), wrong])


def test_features_are_not_heard_as_audio() -> None:
    told = r"session 'f' is features of 2 numbers every 0\.1 s, but the model hears audio\."
    with pytest.raises(ManifestError, match=told):
        Collate(GRID, 2)([rows(10, MEETING)])


def test_more_classes_than_slots_are_no_batch() -> None:
    late = Example("f", rows(8, []).signal, MEETING, start=3.0, grid=CLOCK)
    told = r"session 'f' has 2 classes between 3\.00 s and 3\.80 s, but the model has 1 slots\. Ra"
    with pytest.raises(ConfigError, match=told):
        Collate(CLOCK, 1, hears=HEARS)([late])


def test_features_are_whole_without_a_window(features: Session) -> None:
    whole = SessionDataset([features], None)[0]
    assert span(whole) == (20, 120) and whole.start == 2.0 and whole.kind == HEARS
    assert whole.turns == [Turn(0.0, 1.5, "ann"), Turn(3.0, 7.0, "bob"), Turn(6.5, 10.0, "ann")]
    assert whole.regions == [Segment(0.0, 10.0)]


def test_windows_of_features_are_whole_rows_end_to_end(features: Session) -> None:
    odd = replace(features, offset=2.04, duration=9.93)  # rows 20 to 120
    windows = [*map(SessionDataset([odd], 3.96).__getitem__, range(3))]
    assert [span(window) for window in windows] == [(20, 60), (60, 100), (100, 120)]
    assert windows[1].turns == [Turn(0.0, 3.0, "bob"), Turn(2.5, 4.0, "ann")]
    assert windows[1].start == 6.0


def test_slow_rows_make_windows_too(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.arange(14.0)[:, None] * [1, -1])
    write_rttm(tmp_path / "f.rttm", {"f": [Turn(0.0, 70.0, "ann")]})
    slow = Session("f", tmp_path / "f.npy", rttm=tmp_path / "f.rttm", where="m:1", frame_shift=60)
    dataset = SessionDataset([slow], 301.0)
    assert [span(dataset[index]) for index in range(len(dataset))] == [(0, 5), (5, 10), (10, 14)]
    told = r"m:1: session 'f' is features of 2 numbers every 60 s, but a window lasts 20 s\. Raise"
    with pytest.raises(ManifestError, match=told):
        SessionDataset([slow], 20.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"offset": 15.0, "duration": None},
            r"m:1: session 'f' starts at 15\.00 s, but its 140 rows of features last 14\.00 s\. Co",
        ),
        (
            {"offset": 4.5},
            r"m:1: session 'f' ends at 14\.50 s, but its 140 rows of features last 14\.00 s\. Shor",
        ),
        (
            {"duration": 0.04},
            r"m:1: session 'f' lasts from 2\.00 s to 2\.04 s, but holds no row of .* every 0\.1 s",
        ),
        ({"audio": Path("gone.npy")}, r"m:1: gone\.npy: cannot be read \(No such file"),
    ],
)
def test_features_that_cannot_be_used(features: Session, change: dict, message: str) -> None:
    with pytest.raises((ManifestError, FeatureError), match=message):
        SessionDataset([replace(features, **change)], 4.0)


def test_audio_may_have_more_speakers_than_slots(session: Session) -> None:
    SessionDataset([session], 4.0).check(AUDIO, 1)
