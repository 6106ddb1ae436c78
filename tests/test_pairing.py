"""Both sides of a comparison: what is refused, and what is told."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import ScoreError
from diarize.formats.rttm import Columns
from diarize.score import pair, score_pairs, score_sessions
from diarize.score.pairing import _within, overlap_themselves
from diarize.turns import Segment, Turn, clip

TURNS = [Turn(0, 1, "x")]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "by"),
    [
        ("ES2011a", "es2011a", "case"),
        ("ES2011a", "ES2011a.wav", "extension"),
        ("ES2011a", "amicorpus/ES2011a", "path"),
        ("ES2011a", "amicorpus\\es2011a.FLAC", "case and extension and path"),
        ("a.wav", "a.rttm", "extension"),
    ],
)
def test_ids_that_mean_one_session_are_told_apart_by_what_differs(
    reference: str, hypothesis: str, by: str
) -> None:
    with pytest.raises(ScoreError) as raised:
        pair({reference: TURNS, "b": TURNS}, {hypothesis: TURNS, "b": TURNS})
    assert f"{reference!r} and {hypothesis!r} differ by {by} alone: name them alike." in str(
        raised.value
    )


def test_one_pair_stands_for_all_that_are_like_it() -> None:
    names = [f"S{number}" for number in range(4)]
    with pytest.raises(ScoreError, match=r"lacks 4 sessions of 4 .* by case alone, and 3 more pa"):
        pair(dict.fromkeys(names, TURNS), {name.lower(): TURNS for name in names})
    told = pair({"A": TURNS}, {"a": TURNS}, allow_missing=True).notes
    assert told[0].endswith("all missed ('A'). 'A' and 'a' differ by case alone: name them alike.")
    with pytest.raises(ScoreError, match=r"but the UEM names no region there\. 'A' and 'a' differ"):
        pair({"A": TURNS}, {"A": TURNS}, {"a": [Segment(0, 1)]})


def channels(*numbers: str) -> list[Turn]:
    return [Turn(0, 2, "ann", channel=number) for number in numbers]


def test_channels_of_both_sides_are_sessions_of_their_own() -> None:
    # ann speaks on both channels, and is found on the first alone, but bob's silence is heard too.
    found = [Turn(0, 2, "x", channel="1"), Turn(3, 4, "y", channel="2")]
    pairing = pair({"f": channels("1", "2"), "g": TURNS}, {"f": found, "g": TURNS})
    assert list(pairing.references) == ["f:1", "f:2", "g"]
    report = score_pairs(pairing)
    parts = {name: (e.miss, e.false_alarm, e.confusion) for name, e in report.sessions.items()}
    assert parts == {"f:1": (0, 0, 0), "f:2": (2, 1, 0), "g": (0, 0, 0)}
    assert pairing.notes == [
        "in 1 session ('f') both sides have several channels; each channel is scored as a session, "
        "named SESSION:CHANNEL"
    ]
    regions = pair({"f": channels("1", "2")}, {"f": found}, {"f": [Segment(0, 3)]}).regions
    assert regions == {"f:1": [Segment(0, 3)], "f:2": [Segment(0, 3)]}


def test_channels_of_one_side_are_scored_as_one() -> None:
    pairing = pair({"f": channels("1", "2"), "g": channels("A")}, {"f": TURNS, "g": TURNS})
    assert list(pairing.references) == ["f", "g"]
    assert pairing.notes == [
        "session 'f' has 2 channels in the reference and 1 in the hypothesis; their channels are "
        "scored as one"
    ]


def test_turns_outside_of_the_regions_are_told() -> None:
    reference = {"a": [Turn(0, 4, "ann"), Turn(5, 6, "ann"), Turn(8, 9, "ben")]}
    pairing = pair(reference, {"a": [Turn(3, 4, "x")]}, {"a": [Segment(3, 5), Segment(4, 8)]})
    assert pairing.notes == [
        "4.00 s in 2 turns of the reference, of 1 session ('a'), lie outside the scored regions; "
        "not scored"
    ]
    assert pair(reference, reference).notes == []


def test_times_of_another_unit_are_told() -> None:
    reference = {"a": [Turn(0, 60, "ann")], "b": [Turn(0, 60, "ann")], "c": []}
    hypothesis = {"a": [Turn(0, 60_000, "x")], "b": [Turn(0, 61, "x")], "c": [Turn(0, 60, "x")]}
    (note,) = pair(reference, hypothesis).notes
    assert note == (
        "session 'a' ends at 60.00 s in the reference and at 60000.00 s in the hypothesis: are "
        "the times of both seconds of the recording?"
    )


MORE = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), max_size=6)


@settings(deadline=None)
@given(MORE, MORE)
def test_seconds_within_regions_are_those_of_clipped_turns(
    spans: list[tuple[int, int]], regions: list[tuple[int, int]]
) -> None:
    turns = [Turn(start, start + length, "ann") for start, length in spans]
    inside = {second for start, length in regions for second in range(start, start + length)}
    expected = [sum(second in inside for second in range(int(t.start), int(t.end))) for t in turns]
    found = _within(Columns.of(turns), [Segment(s, s + n) for s, n in regions])
    assert found.tolist() == pytest.approx(expected)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.sampled_from("ab"))))
def test_who_overlaps_himself_is_found(spans: list[tuple[int, int, str]]) -> None:
    turns = [Turn(start, start + length, speaker) for start, length, speaker in spans]
    expected = any(
        one.speaker == other.speaker and clip([one], other.start, other.end)
        for number, one in enumerate(turns)
        for other in turns[:number]
    )
    assert overlap_themselves({"s": Columns.of(turns)}) == ["s"] * expected


def test_a_hypothesis_of_ten_thousand_speakers_is_counted() -> None:
    reference = [Turn(0, 1000, "ann"), Turn(500, 1000, "ben")]
    hypothesis = [Turn(n / 10, (n + 1) / 10, f"x{n}") for n in range(10_000)]
    report = score_sessions({"s": reference}, {"s": hypothesis})
    assert report.num_invented == 9998 and report.count_error == 9998
    assert report.total.scored == pytest.approx(1500.0)
    assert report.total.confusion == pytest.approx(1000.0 - 0.2)
