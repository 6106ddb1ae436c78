from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.turns import Segment, Turn, clip, in_order, merge, shift

TURNS = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start / 4, (start + length) / 4, speaker),
        st.integers(0, 80),
        st.integers(1, 20),
        st.sampled_from("AB"),
    ),
    max_size=12,
)


def test_a_segment_knows_its_duration():
    assert Segment(1.5, 4.0).duration == 2.5


def test_turns_sort_by_time_even_where_one_confidence_is_unknown():
    late, known, unknown = Turn(2.0, 3.0, "A"), Turn(1.0, 2.0, "A", 0.5), Turn(1.0, 2.0, "A")
    assert sorted([late, known, unknown]) == [known, unknown, late]
    assert known != unknown


def test_clipping_cuts_at_both_ends_and_drops_what_lies_outside():
    #           0    1    2    3    4    5
    # before    |----|
    # across    |--------------|
    # inside                |----|
    # touching                        |----|
    turns = [Turn(0, 1, "a"), Turn(0, 3, "b"), Turn(2.5, 3.5, "c"), Turn(4, 5, "d")]
    assert clip(turns, 1, 4) == [Turn(1, 3, "b"), Turn(2.5, 3.5, "c")]


def test_shifting_moves_both_ends_and_keeps_the_rest():
    assert shift([Turn(1, 2, "a", 0.5, "2")], -1) == [Turn(0, 1, "a", 0.5, "2")]


def test_merging_joins_one_speakers_turns_that_overlap_touch_or_lie_near():
    # A   |----|  overlap
    # A     |----|  touch
    # A          |--|      |--|  half a second apart
    # B     |----|
    turns = [Turn(0, 2, "A"), Turn(1, 3, "A"), Turn(3, 4, "A"), Turn(4.5, 5, "A"), Turn(1, 3, "B")]
    assert merge(turns) == [Turn(0, 4, "A"), Turn(1, 3, "B"), Turn(4.5, 5, "A")]
    assert merge(turns, gap=0.5) == [Turn(0, 5, "A"), Turn(1, 3, "B")]


def test_a_turn_inside_another_does_not_shorten_it():
    assert merge([Turn(0, 10, "A"), Turn(2, 3, "A"), Turn(9, 11, "A")]) == [Turn(0, 11, "A")]


def test_a_merged_confidence_is_weighted_by_duration():
    assert merge([Turn(0, 3, "A", 0.9), Turn(3, 4, "A", 0.5)]) == [Turn(0, 4, "A", 0.8)]
    assert merge([Turn(0, 3, "A", 0.9), Turn(3, 4, "A")]) == [Turn(0, 4, "A")]


def test_turns_stand_in_order_of_start_then_end_then_speaker():
    turns = [Turn(1, 2, "B"), Turn(1, 2, "A"), Turn(0, 9, "C"), Turn(1, 1.5, "D")]
    assert [turn.speaker for turn in in_order(turns)] == ["C", "D", "A", "B"]


@settings(deadline=None, max_examples=60)
@given(TURNS)
def test_merging_twice_changes_nothing_and_keeps_who_speaks_when(turns):
    merged = merge(turns)
    assert merge(merged) == merged
    for quarter in range(100):
        time = quarter / 4 + 0.125
        assert _speaking(merged, time) == _speaking(turns, time)


@settings(deadline=None, max_examples=60)
@given(TURNS, st.integers(0, 60), st.integers(1, 40))
def test_clipping_keeps_who_speaks_inside_and_nothing_outside(turns, start, length):
    clipped = clip(turns, start / 4, (start + length) / 4)
    for quarter in range(110):
        inside = start <= quarter < start + length
        time = quarter / 4 + 0.125
        assert _speaking(clipped, time) == (_speaking(turns, time) if inside else set())


def _speaking(turns, time):
    return {turn.speaker for turn in turns if turn.start <= time < turn.end}
