"""Where windows may begin: drawings, and every rule held against a naive walk over the frames."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.data.windows import FAR, Spans, Starts, Timeline, TurnTable
from diarize.frames import FrameGrid
from diarize.turns import Turn, clip, shift

GRID = FrameGrid(16000, 1600)
"""Ten frames a second, so that drawings stay small."""


def timeline(*speakers: str) -> Timeline:
    """A line per speaker, # where they speak."""
    found = [
        (begin, begin + 1, number)
        for number, line in enumerate(speakers)
        for begin, mark in enumerate(line)
        if mark == "#"
    ]
    columns = np.array(found, dtype=np.int64).reshape(-1, 3).T
    return Timeline(*columns, num_frames=len(speakers[0]), num_speakers=len(speakers))


def drawn(spans: Spans, num_frames: int) -> str:
    return "".join("^" if held else "." for held in spans.holds(np.arange(num_frames)))


def assert_starts(speakers: list[str], wanted: str, length: int = 8, **rules: int) -> None:
    found = timeline(*speakers).starts(length, **({"guard": 2, "alone": 3} | rules))
    assert drawn(found, len(wanted)) == wanted


# ---- drawings


def test_windows_begin_in_speech_of_one_or_in_a_pause() -> None:
    assert_starts(
        ["....#####....", "............."],
        "^^^^^^^....^^",  # frame 6 is the last with three of speech; then the guard of two
    )


def test_nobody_is_cut_off_before_the_first_speaker() -> None:
    assert_starts(
        [
            "####..........",
            "..############",  # alone from frame 4 on; the guard reaches back to the other
        ],
        "^^....^^^^^^..",
    )


def test_first_speaker_may_pause_before_others_come() -> None:
    assert_starts(
        [
            "..#..#..#.......",  # three frames in all before the other enters
            "...........#####",
        ],
        "^^^..........^..",  # the other alone, once the guard of four is theirs
        length=20,
        guard=4,
    )


def test_an_unbroken_first_turn_may_be_talked_into() -> None:
    assert_starts(["..####....", "...#######"], "^^^...^^..", guard=0)
    assert_starts(["..##......", "...#######"], "....^^^^..", guard=0)


def test_silent_windows_have_a_silent_guard() -> None:
    both = "##............##"
    assert_starts([both, both], "....^^^.........", length=8)
    assert_starts([both, both], "................", length=12)
    assert_starts(["......"], "^^^^^^")


# ---- every rule against a walk over the frames


def naive(active: np.ndarray, start: int, length: int, guard: int, alone: int) -> bool:
    """The rules as they are written, for one start; ``active`` is (frame, speaker)."""
    before = active[max(start - guard, 0) : start]
    rest = active[start:]
    heard = np.flatnonzero(rest.any(axis=1))
    silent_guard = not before.any()
    if heard.size == 0 or heard[0] >= length:
        return silent_guard
    first = heard[0]
    if rest[first].sum() != 1:
        return False
    who = int(rest[first].argmax())
    others = np.delete(rest, who, axis=1).any(axis=1)
    entry = int(others.argmax()) if others.any() else len(rest)
    mine = rest[:, who]
    run = 0
    while first + run < len(mine) and mine[first + run]:
        run += 1
    long_enough = mine[:entry].sum() >= alone or run >= alone
    if first > 0:
        return silent_guard and long_enough
    return long_enough and not np.delete(before, who, axis=1).any()


drawings = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30).map(
    lambda rows: np.repeat(np.array(rows), 2, axis=0)
)


@given(active=drawings, length=st.integers(1, 20), guard=st.integers(0, 5), alone=st.integers(1, 6))
@settings(deadline=None, max_examples=200)
def test_starts_are_those_of_a_walk_over_the_frames(
    active: np.ndarray, length: int, guard: int, alone: int
) -> None:
    begin, speaker = np.nonzero(active)
    found = Timeline(begin, begin + 1, speaker, len(active), 3).starts(length, guard, alone)
    wanted = [naive(active, start, length, guard, alone) for start in range(len(active))]
    assert found.holds(np.arange(len(active))).tolist() == wanted


@given(active=drawings, length=st.integers(1, 20), most=st.integers(0, 3))
@settings(deadline=None, max_examples=100)
def test_speakers_of_a_window_are_counted(active: np.ndarray, length: int, most: int) -> None:
    begin, speaker = np.nonzero(active)
    whole = Timeline(begin, begin + 1, speaker, len(active), 3)
    count = [active[start : start + length].any(axis=0).sum() for start in range(len(active))]
    heard = [whole.heard(start, start + length).size for start in range(len(active))]
    assert heard == count
    everywhere = Spans(np.array([0]), np.array([len(active)]))
    starts = Starts.of(everywhere, whole.present(length), most, crowding=2.0)
    held = starts.spans.holds(np.arange(len(active)))
    assert held.tolist() == [number <= most for number in count]
    assert len(starts) == held.sum()
    for first, last, weight in zip(
        starts.spans.first, starts.spans.last, starts.weight, strict=True
    ):
        assert {2.0**number for number in count[first:last]} == {weight}
    with_first = Starts.of(everywhere, whole.present(length), FAR, 2.0, also=np.array([0]))
    place = np.searchsorted(with_first.spans.first, np.arange(len(active)), side="right") - 1
    others = [active[start : start + length, 1:].any(axis=0).sum() for start in range(len(active))]
    assert with_first.weight[place].tolist() == [2.0 ** (1 + number) for number in others]


# ---- which of them is taken

WEIGHED = Starts(Spans(np.array([2, 10]), np.array([4, 16])), np.array([3.0, 1.0]))
"""Half of all weight is in two frames, and half in six."""


def test_shares_of_the_weight_have_their_frames() -> None:
    shares = np.arange(0, 1, 1 / 12)
    frames = [WEIGHED.at(float(share) + 1e-9) for share in shares]
    assert frames == [2, 2, 2, 3, 3, 3, 10, 11, 12, 13, 14, 15]
    assert WEIGHED.at(0.0) == 2 and WEIGHED.at(1 - 1e-16) == 15


@given(st.floats(0, 1, exclude_max=True))
def test_every_share_is_a_frame_that_may_be_one(share: float) -> None:
    assert WEIGHED.spans.holds(np.array([WEIGHED.at(share)])).all()


# ---- spans

sets = st.sets(st.integers(0, 30))


def spans(frames: set[int]) -> Spans:
    held = np.isin(np.arange(-1, 33), list(frames))
    edges = np.flatnonzero(np.diff(held.astype(int)))
    return Spans(edges[::2], edges[1::2])


@given(one=sets, other=sets)
@settings(deadline=None)
def test_what_lies_in_both_spans(one: set[int], other: set[int]) -> None:
    both = spans(one) & spans(other)
    assert set(np.flatnonzero(both.holds(np.arange(40)))) == one & other
    assert (both.last > both.first).all()


def test_spans_move_and_vanish() -> None:
    moved = spans({1, 2, 3, 7, 8}).moved(2, -1)
    assert (moved.first.tolist(), moved.last.tolist()) == ([], [])
    moved = spans({1, 2, 3, 4, 7, 8}).moved(1, -1)
    assert (moved.first.tolist(), moved.last.tolist()) == ([2], [4])


# ---- turns as columns

turns = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start / 10, (start + length) / 10, speaker),
        st.integers(0, 80),
        st.integers(1, 30),
        st.sampled_from(["ann", "bob", "cid"]),
    ),
    max_size=12,
)


@given(turns=turns, start=st.integers(0, 90), length=st.integers(1, 60))
@settings(deadline=None)
def test_a_table_is_cut_as_turns_are(turns: list[Turn], start: int, length: int) -> None:
    begin, end = start / 10, (start + length) / 10
    cut = TurnTable.of(turns).between(begin, end)
    assert cut == shift(clip(sorted(turns, key=lambda t: t.start), begin, end), -begin)


def test_frames_of_turns_are_the_nearest() -> None:
    table = TurnTable.of([Turn(1.04, 1.26, "a"), Turn(1.05, 1.24, "b")])
    begins, ends = table.frames(GRID, 0.5)
    assert (begins.tolist(), ends.tolist()) == ([5, 6], [8, 7])
    assert table.speakers == ("a", "b")


@pytest.mark.parametrize("num_speakers", [0, 2])
def test_a_session_in_which_nobody_speaks(num_speakers: int) -> None:
    none = np.zeros(0, dtype=np.int64)
    silent = Timeline(none, none, none, 10, num_speakers)
    assert silent.starts(5, 2, 3).holds(np.arange(10)).all()
    assert len(Starts.of(silent.silence(), silent.present(5), 0, 1.0)) == 10
