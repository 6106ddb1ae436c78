"""Turns of a stream are those of the whole, and never taken back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.liveturns import LiveTurns
from diarize.postprocess import PostprocessConfig, load_postprocess, to_turns
from diarize.turns import in_order

SHIFT = 0.08
PRESETS = ["v1_dihard3", "v1_callhome", "v2_dihard3", "v2_callhome"]


def speech(num_frames: int, seed: int) -> np.ndarray:
    """(frame, 2): stretches of speech and silence, and between the thresholds."""
    rng = np.random.default_rng(seed)
    columns = []
    for _ in range(2):
        levels = rng.choice([0.02, 0.3, 0.52, 0.6, 0.7, 0.98], num_frames)
        columns.append(np.repeat(levels, rng.integers(1, 14, num_frames))[:num_frames])
    return np.stack(columns, axis=1).astype(np.float32)


def close(found: list, expected: list) -> None:
    assert len(found) == len(expected)
    for ours, whole in zip(found, expected, strict=True):
        assert ours.speaker == whole.speaker
        assert ours.start == pytest.approx(whole.start, abs=1e-9)
        assert ours.end == pytest.approx(whole.end, abs=1e-9)
        assert ours.confidence == pytest.approx(whole.confidence, abs=1e-5)


@settings(max_examples=120, deadline=None)
@given(
    num_frames=st.integers(0, 300),
    seed=st.integers(0, 10_000),
    pieces=st.integers(1, 12),
    config=st.one_of(
        st.sampled_from([PostprocessConfig(), *map(load_postprocess, PRESETS)]),
        st.builds(
            PostprocessConfig,
            onset=st.sampled_from([0.25, 0.5, 0.65]),
            offset=st.sampled_from([0.25, 0.5, 0.65, 1.0]),
            pad_onset=st.floats(0, 0.5),
            pad_offset=st.floats(0, 0.5),
            min_duration_on=st.floats(0, 1),
            min_duration_off=st.floats(0, 1),
        ),
    ),
)
def test_turns_are_those_of_the_whole(
    num_frames: int, seed: int, pieces: int, config: PostprocessConfig
) -> None:
    posterior = speech(num_frames, seed)
    live = LiveTurns(2, SHIFT, config)
    found = [turn for part in np.array_split(posterior, pieces) for turn in live.push(part)]
    found += live.finish()
    close(in_order(found), to_turns(posterior, SHIFT, config))


def test_a_partial_last_frame_ends_with_its_session() -> None:
    posterior = np.full((20, 1), 0.9, dtype=np.float32)
    live = LiveTurns(1, SHIFT, PostprocessConfig())
    assert live.push(posterior) == []
    close(live.finish(1.53), to_turns(posterior, SHIFT, PostprocessConfig(), duration=1.53))


def test_a_turn_is_told_when_the_silence_behind_it_is_long_enough() -> None:
    live = LiveTurns(1, SHIFT, PostprocessConfig(min_duration_off=0.4))
    spoken = np.array([[0.9]] * 10, dtype=np.float32)
    silent = np.zeros((1, 1), dtype=np.float32)
    assert live.push(spoken) == []
    told = [len(live.push(silent)) for _ in range(20)]
    assert sum(told) == 1 and 5 <= told.index(1) <= 10
    assert live.finish() == []


def test_silence_is_forgotten() -> None:
    live = LiveTurns(1, SHIFT, PostprocessConfig())
    for _ in range(50):
        live.push(np.zeros((100, 1), dtype=np.float32))
    assert len(live._columns[0]) < 10


def test_a_turn_without_end_is_told_every_ten_minutes() -> None:
    live = LiveTurns(1, 0.08, PostprocessConfig(pad_onset=0.2, pad_offset=0.2))
    always = np.ones((750, 1), dtype=np.float32)  # a minute
    told = [turn for _ in range(25) for turn in live.push(always)]
    assert len(live.state()["undecided"]) < 6 * 750
    told += live.finish(1500.0)
    assert [turn.start for turn in told] == [0.0, *(turn.end for turn in told[:-1])]
    assert [turn.end for turn in told] == pytest.approx([599.92, 1199.92, 1500.0])


def test_a_turn_that_goes_on_between_the_thresholds_is_not_lost() -> None:
    config = PostprocessConfig(onset=0.7, offset=0.3)
    posterior = np.full((9000, 1), 0.5, dtype=np.float32)  # twelve minutes
    posterior[0] = 0.9
    live = LiveTurns(1, 0.08, config)
    told = [turn for part in np.split(posterior, 12) for turn in live.push(part)]
    told += live.finish()
    (whole,) = to_turns(posterior, 0.08, config)
    assert [turn.start for turn in told] == [whole.start, told[0].end]
    assert told[-1].end == pytest.approx(whole.end)
