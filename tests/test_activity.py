"""Activity drawn as matrices: rows are frames of 80 ms unless said otherwise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.activity import arrival_order, from_turns, to_turns
from diarize.frames import FrameGrid
from diarize.turns import Turn, merge

GRID = FrameGrid(16000, 1280, 160)
SECOND = FrameGrid(16000, 16000)


def draw(matrix: np.ndarray) -> list[str]:
    """One string per frame, '#' where a slot is active."""
    return ["".join("#" if value else "." for value in row) for row in matrix]


def frames(*spans: tuple[int, int, str]) -> list[Turn]:
    """Turns given by frame boundaries of the 80 ms grid."""
    return [Turn(GRID.time_at(a), GRID.time_at(b), speaker) for a, b, speaker in spans]


def test_four_overlapping_turns_drawn() -> None:
    turns = [
        Turn(0.0, 3.0, "anna"),
        Turn(2.0, 5.0, "ben"),
        Turn(4.0, 7.0, "anna"),
        Turn(6.0, 8.0, "cleo"),
    ]
    activity = from_turns(turns, SECOND, 9, 4)
    assert activity.speakers == ["anna", "ben", "cleo"]
    assert activity.dropped == {}
    assert activity.matrix.dtype == np.float32
    assert draw(activity.matrix) == [
        "#...",
        "#...",
        "##..",
        ".#..",
        "##..",
        "#...",
        "#.#.",
        "..#.",
        "....",
    ]


def test_a_frame_is_active_if_its_centre_is_covered() -> None:
    # Frame centres lie at 0.5, 1.5, 2.5, 3.5 s.
    turns = [Turn(0.4, 1.4, "a"), Turn(2.6, 3.4, "b"), Turn(2.4, 2.6, "c")]
    activity = from_turns(turns, SECOND, 4, 3)
    assert activity.speakers == ["a", "c"]
    assert draw(activity.matrix) == ["#..", "...", ".#.", "..."]


def test_soft_activity_is_the_covered_part_of_each_frame() -> None:
    turns = [Turn(0.4, 1.4, "a"), Turn(1.2, 1.5, "a"), Turn(1.75, 1.8, "a"), Turn(2.9, 9.0, "b")]
    activity = from_turns(turns, SECOND, 4, 2, soft=True)
    np.testing.assert_allclose(
        activity.matrix, [[0.6, 0.0], [0.55, 0.0], [0.0, 0.1], [0.0, 1.0]], atol=1e-6
    )


def test_soft_activity_is_exact_to_the_sample() -> None:
    turn = Turn(100 / 16000, 1290 / 16000, "a")
    matrix = from_turns([turn], GRID, 2, 1, soft=True).matrix
    np.testing.assert_array_equal(matrix[:, 0], np.float32([1180 / 1280, 10 / 1280]))


def test_window_starts_inside_the_session() -> None:
    turns = [Turn(8.0, 12.0, "a"), Turn(0.0, 5.0, "gone"), Turn(13.0, 99.0, "b")]
    activity = from_turns(turns, SECOND, 5, 2, start=10.0)
    assert activity.speakers == ["a", "b"]
    assert draw(activity.matrix) == ["#.", "#.", "..", ".#", ".#"]
    assert to_turns(activity.matrix, SECOND, activity.speakers, start=10.0) == [
        Turn(10.0, 12.0, "a"),
        Turn(13.0, 15.0, "b"),
    ]


def test_columns_stand_in_arrival_order_whatever_the_order_of_turns() -> None:
    turns = frames((5, 9, "late"), (0, 4, "early"), (3, 6, "middle"))
    for listed in (turns, turns[::-1], turns[1:] + turns[:1]):
        assert from_turns(listed, GRID, 10, 4).speakers == ["early", "middle", "late"]


def test_speakers_of_one_first_frame_keep_incoming_order() -> None:
    # Both first frames are 2. The earlier start goes first, even if it is listed second.
    turns = [Turn(0.170, 0.5, "second"), Turn(0.165, 0.5, "first")]
    assert from_turns(turns, GRID, 8, 2).speakers == ["first", "second"]
    # The very same start: the earlier turn in the list goes first.
    same = [Turn(0.16, 0.5, "x"), Turn(0.16, 0.5, "a")]
    assert from_turns(same, GRID, 8, 2).speakers == ["x", "a"]
    assert from_turns(same[::-1], GRID, 8, 2).speakers == ["a", "x"]


def test_first_active_frame_decides_before_first_start() -> None:
    # "blip" starts first, but its first turn holds no frame centre; its next one comes late.
    turns = [Turn(0.0, 0.03, "blip"), Turn(0.08, 0.4, "talker"), Turn(0.48, 0.8, "blip")]
    assert from_turns(turns, GRID, 10, 2).speakers == ["talker", "blip"]


def test_arrival_order_drawn() -> None:
    activity = np.array(
        [
            [0, 0, 0, 0],
            [0, 0, 1, 0],
            [1, 0, 1, 1],
            [1, 0, 0, 0],
        ]
    )
    assert arrival_order(activity).tolist() == [2, 0, 3, 1]
    assert arrival_order(np.zeros((0, 3))).tolist() == [0, 1, 2]


def test_speakers_beyond_the_slots_are_the_last_to_arrive_and_are_reported() -> None:
    turns = frames((0, 1, "brief"), (1, 5, "b"), (2, 30, "talker"), (28, 40, "talker"))
    activity = from_turns(turns, GRID, 40, 2)
    assert activity.speakers == ["brief", "b"]
    assert activity.dropped == {"talker": pytest.approx(38 * 0.08)}


def test_listed_speakers_keep_their_columns() -> None:
    turns = frames((0, 2, "b"), (1, 3, "a"), (2, 4, "other"))
    activity = from_turns(turns, GRID, 4, 4, order=["a", "silent", "b"])
    assert activity.speakers == ["a", "silent", "b"]
    assert draw(activity.matrix) == ["..#.", "#.#.", "#...", "...."]
    assert activity.dropped == {"other": pytest.approx(0.16)}


def test_too_many_or_repeated_listed_speakers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"lists 3 speakers, 3 of them different.* 2 slots"):
        from_turns([], GRID, 4, 2, order=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"lists 2 speakers, 1 of them different"):
        from_turns([], GRID, 4, 2, order=["a", "a"])


def test_active_columns_need_names() -> None:
    with pytest.raises(ValueError, match="3 columns are in use, but 1 speakers are named"):
        to_turns(np.eye(3), GRID, ["a"])


def test_nothing_spoken_and_no_frames() -> None:
    assert from_turns([], GRID, 3, 2).matrix.tolist() == [[0, 0]] * 3
    assert from_turns([Turn(0, 1, "a")], GRID, 0, 2).matrix.shape == (0, 2)
    assert from_turns([Turn(1.0, 1.0, "a")], GRID, 20, 2).speakers == []
    assert to_turns(np.zeros((0, 2)), GRID, ["a", "b"]) == []


grid_turns = st.lists(
    st.builds(
        lambda start, length, speaker: (start, start + length, speaker),
        st.integers(0, 90),
        st.integers(1, 12),
        st.sampled_from("abcde"),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=100)
@given(grid_turns, st.integers(0, 500), st.sampled_from([GRID, FrameGrid(8000, 100), SECOND]))
def test_turns_on_the_grid_come_back_unchanged(
    spans: list[tuple[int, int, str]], first: int, grid: FrameGrid
) -> None:
    start = grid.time_at(first)
    turns = [Turn(grid.time_at(first + a), grid.time_at(first + b), who) for a, b, who in spans]
    activity = from_turns(turns, grid, 102, 5, start=start)
    assert to_turns(activity.matrix, grid, activity.speakers, start) == merge(turns)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_arrival_sort_is_idempotent_and_ignores_column_order(data: st.DataObject) -> None:
    first = data.draw(st.lists(st.integers(0, 30), min_size=1, max_size=6, unique=True))
    activity = (np.arange(32)[:, None] >= np.array(first)).astype(np.float32)
    shuffled = activity[:, data.draw(st.permutations(range(len(first))))]
    ordered = shuffled[:, arrival_order(shuffled)]
    np.testing.assert_array_equal(ordered, activity[:, np.argsort(first)])
    assert arrival_order(ordered).tolist() == list(range(len(first)))


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 40_000), st.integers(1, 9_000), st.sampled_from("ab")), max_size=9
    )
)
def test_both_kinds_agree_with_counting_samples(spans: list[tuple[int, int, str]]) -> None:
    grid = FrameGrid(1000, 80)
    turns = [Turn(a / 1000, (a + length) / 1000, who) for a, length, who in spans]
    spoken = np.zeros((600 * 80, 2), dtype=bool)
    for a, length, who in spans:
        spoken[a : a + length, "ab".index(who)] = True
    by_frame = spoken.reshape(600, 80, 2)
    soft = from_turns(turns, grid, 600, 2, order=["a", "b"], soft=True)
    np.testing.assert_allclose(soft.matrix, by_frame.mean(axis=1), atol=1e-6)
    hard = from_turns(turns, grid, 600, 2, order=["a", "b"])
    centres = np.arange(600) * 80 + 40
    drawn = np.zeros((600, 2), dtype=bool)
    for a, length, who in spans:
        # A turn's edge on the very centre rounds up: begins after this frame, ends after it.
        drawn[(a < centres) & (centres <= a + length), "ab".index(who)] = True
    np.testing.assert_array_equal(hard.matrix.astype(bool), drawn)
