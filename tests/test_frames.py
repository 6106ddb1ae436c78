import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.frames import FrameGrid

GRID = FrameGrid(sample_rate=16000, hop=1280, step=160)
GRIDS = st.tuples(st.sampled_from((8000, 16000, 44100)), st.integers(1, 40), st.integers(1, 400))


def test_a_frame_of_the_model_lasts_80_ms():
    assert GRID.frame_shift == 0.08
    assert [GRID.time_at(frame) for frame in (0, 1, 25)] == [0.0, 0.08, 2.0]


def test_boundaries_are_the_nearest_and_halves_round_up():
    #      0.00      0.08      0.16      0.24
    #        |---------|---------|---------|
    assert [GRID.frame_at(s) for s in (0.0, 0.039, 0.04, 0.08, 0.1199, 0.12)] == [0, 0, 1, 1, 1, 2]


def test_times_that_binary_fractions_miss_still_round_up():
    # 1.16 / 0.08 is 14.499999999999998, and 14.5 rounds up to 15.
    assert GRID.frame_at(1.16) == 15
    assert int(1.16 / 0.08 + 0.5) == 14


def test_every_centisecond_of_an_hour_goes_to_the_nearest_boundary():
    expected = [(2 * centisecond + 8) // 16 for centisecond in range(360_000)]
    assert [GRID.frame_at(c / 100) for c in range(360_000)] == expected


@pytest.mark.parametrize(
    ("num_samples", "num_frames"),
    [(0, 0), (159, 0), (160, 1), (1280, 1), (1439, 1), (1440, 2), (16000, 13)],
)
def test_a_frame_begins_with_a_whole_step_of_audio(num_samples, num_frames):
    assert GRID.num_frames(num_samples) == num_frames


@settings(deadline=None, max_examples=50)
@given(GRIDS, st.integers(0, 100_000))
def test_a_boundary_comes_back_from_its_time(grid, frame):
    sample_rate, steps, step = grid
    clock = FrameGrid(sample_rate, steps * step, step)
    assert clock.frame_at(clock.time_at(frame)) == frame


@settings(deadline=None, max_examples=50)
@given(GRIDS, st.integers(0, 10_000_000))
def test_frames_hold_all_whole_steps_and_no_more(grid, num_samples):
    sample_rate, steps, step = grid
    clock = FrameGrid(sample_rate, steps * step, step)
    frames = clock.num_frames(num_samples)
    whole_steps = num_samples // step * step
    assert frames * clock.hop >= whole_steps
    assert (frames - 1) * clock.hop < whole_steps or frames == 0


@pytest.mark.parametrize(("rate", "hop", "step"), [(0, 1, 1), (16000, 0, 1), (16000, 1280, 300)])
def test_an_impossible_grid_says_its_numbers(rate, hop, step):
    with pytest.raises(ValueError, match=rf"hop {hop} .* step {step} at {rate} Hz\. Give"):
        FrameGrid(rate, hop, step)


# ---- the clock of features


@pytest.mark.parametrize(
    ("frame_shift", "sample_rate", "hop"),
    [
        (0.08, 16000, 1280),
        (0.04, 16000, 640),
        (1 / 30, 16020, 534),
        (0.033333, 16020, 534),
        (1001 / 30000, 30000, 1001),
        (256 / 22050, 22050, 256),
        (0.0333, 20000, 666),
        (0.5, 16000, 8000),
        (1.0, 16000, 16000),
        (86400.0, 16000, 16000 * 86400),
    ],
)
def test_rows_of_features_are_whole_numbers_of_virtual_samples(frame_shift, sample_rate, hop):
    grid = FrameGrid.of_shift(frame_shift)
    assert (grid.sample_rate, grid.hop, grid.step) == (sample_rate, hop, hop)


@settings(deadline=None, max_examples=200)
@given(st.floats(0.01, 1e4), st.integers(0, 10_000))
def test_a_row_is_a_frame_at_any_shift(frame_shift, row):
    grid = FrameGrid.of_shift(frame_shift)
    assert grid.sample_rate >= 16000
    assert grid.frame_shift == pytest.approx(frame_shift, rel=1 / 30000)
    assert grid.num_frames(row * grid.hop) == row == grid.frame_at(grid.time_at(row))


def test_turns_on_features_are_rounded_as_those_on_audio():
    assert all(
        FrameGrid.of_shift(0.08).frame_at(c / 100) == GRID.frame_at(c / 100) for c in range(9999)
    )


@pytest.mark.parametrize("frame_shift", [0, -0.1, 0.009, 2e9, float("inf"), float("nan")])
def test_shifts_at_which_no_rows_come(frame_shift):
    told = f"frame_shift is {frame_shift:g} s, but it may be from 0.01 s to 1e+09 s. Give the"
    with pytest.raises(ValueError, match=re.escape(told)):
        FrameGrid.of_shift(frame_shift)
