"""Scores: hand-drawn sessions, md-eval's figures, and what must hold for any turns."""

import json
import math
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import ScoreError
from diarize.formats.rttm import read_rttm
from diarize.formats.uem import read_uem
from diarize.score import (
    CONDITIONS,
    Condition,
    DiarizationError,
    score,
    score_sessions,
)
from diarize.turns import Segment, Turn

GOLDEN = Path(__file__).parent / "golden" / "der"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
FULL, FAIR, FORGIVING = CONDITIONS.values()


def approx(*parts: float) -> object:
    """Scored, miss, false alarm, confusion."""
    return pytest.approx(parts, abs=1e-9)


def test_each_kind_of_error_drawn() -> None:
    #             0123456789
    # anna        ####
    # ben             ######
    # hypothesis  xx  yyyxx.   and x at 10-11
    reference = [Turn(0, 4, "anna"), Turn(4, 10, "ben")]
    hypothesis = [Turn(0, 2, "x"), Turn(4, 7, "y"), Turn(7, 9, "x"), Turn(10, 11, "x")]
    error = score(reference, hypothesis)
    assert astuple(error) == approx(10, 3, 1, 2)
    assert error.der == pytest.approx(0.6)


def test_overlap_is_scored_per_speaker() -> None:
    reference = [Turn(0, 4, "anna"), Turn(2, 6, "ben")]
    assert astuple(score(reference, [Turn(0, 6, "x")])) == approx(8, 2, 0, 2)
    assert astuple(score(reference, [Turn(0, 6, "x")], Condition(skip_overlap=True))) == approx(
        4, 0, 0, 2
    )


def test_collar_is_the_half_width() -> None:
    # 1 s on each side of 4 and of 8 is left out: 1 s of the turn before, 2 s inside.
    reference, hypothesis = [Turn(4, 8, "anna")], [Turn(3.5, 8.5, "x"), Turn(20, 21, "x")]
    uem = [Segment(0, 30)]
    assert astuple(score(reference, hypothesis, Condition(collar=1.0), uem)) == approx(2, 0, 1, 0)
    assert astuple(score(reference, hypothesis, Condition(collar=0.1), uem)) == approx(
        3.8, 0, 1.8, 0
    )


def test_turns_that_touch_keep_their_collars() -> None:
    reference = [Turn(0, 2, "anna"), Turn(2, 4, "anna")]
    assert score(reference, reference, FAIR).scored == pytest.approx(3.0)


def test_a_speaker_overlapping_themselves_counts_once() -> None:
    twice, once = [Turn(0, 4, "anna"), Turn(2, 6, "anna")], [Turn(0, 6, "x")]
    for condition in CONDITIONS.values():
        assert score(twice, once, condition).der == 0
        assert score(once, twice, condition).der == 0
    assert score(twice, once).scored == pytest.approx(6.0)


def test_without_uem_the_union_of_extents_is_scored() -> None:
    error = score([Turn(5, 6, "anna")], [Turn(0, 6, "x"), Turn(8, 9, "x")])
    assert astuple(error) == approx(1, 0, 6, 0)


def test_uem_regions_may_overlap_or_be_none() -> None:
    reference = [Turn(0, 10, "anna")]
    regions = [Segment(1, 3), Segment(2, 4), Segment(8, 20)]
    assert astuple(score(reference, [], uem=regions)) == approx(5, 5, 0, 0)
    assert score(reference, [], uem=[]) == DiarizationError()


def test_nobody_speaks() -> None:
    assert score([], []) == DiarizationError()
    assert score([], []).der == 0
    alarm = score([], [Turn(0, 2, "x")])
    assert astuple(alarm) == approx(0, 0, 2, 0)
    assert math.isinf(alarm.der)
    assert score([Turn(0, 2, "anna")], []).der == 1


def test_turns_without_length_say_nothing() -> None:
    error = score([Turn(0, 2, "anna"), Turn(50, 50, "ben")], [Turn(0, 2, "x")])
    assert astuple(error) == approx(2, 0, 0, 0)


@pytest.mark.parametrize("case", EXPECTED)
@pytest.mark.parametrize("condition", CONDITIONS)
def test_equals_md_eval(case: str, condition: str) -> None:
    references = read_rttm(GOLDEN / f"{case}.ref.rttm")
    hypotheses = read_rttm(GOLDEN / f"{case}.hyp.rttm")
    uem = GOLDEN / f"{case}.uem"
    regions = read_uem(uem) if uem.exists() else None
    report = score_sessions(references, hypotheses, CONDITIONS[condition], regions)
    found = {name: astuple(error) for name, error in report.sessions.items()}
    assert found == {
        name: pytest.approx((e["scored"], e["miss"], e["false_alarm"], e["confusion"]), abs=1e-6)
        for name, e in EXPECTED[case][condition].items()
    }


def test_conditions_have_names() -> None:
    assert [str(condition) for condition in CONDITIONS.values()] == [
        "full (collar 0 s on each side, overlap scored)",
        "fair (collar 0.25 s on each side, overlap scored)",
        "forgiving (collar 0.25 s on each side, overlap skipped)",
    ]
    assert Condition(0.5).name == "custom"


def test_a_collar_is_a_length() -> None:
    with pytest.raises(ScoreError, match=r"collar is -0\.25, but it is a length of time"):
        Condition(collar=-0.25)
    with pytest.raises(ScoreError, match="collar is nan"):
        Condition(collar=math.nan)


def test_sessions_must_be_on_both_sides() -> None:
    turns = [Turn(0, 1, "x")]
    both = {"ES2011a": turns, "b": turns}
    with pytest.raises(
        ScoreError, match=r"the hypothesis lacks 1 session of 2 in the reference \('ES2011a'\), but"
    ):
        score_sessions(both, {"b": turns})
    with pytest.raises(ScoreError, match=r"the reference lacks 1 session of 2 in the hypothesis"):
        score_sessions({"b": turns}, both)
    with pytest.raises(ScoreError, match=r"It has 'ES2011a\.Mix': the same session as 'ES2011a'\?"):
        score_sessions(both, {"ES2011a.Mix": turns, "b": turns})
    many = {f"s{i}": turns for i in range(8)}
    with pytest.raises(ScoreError, match=r"lacks 8 sessions of 8 .*'s4' and 3 more\)"):
        score_sessions(many, {"other": turns})
    with pytest.raises(ScoreError, match="no sessions to score"):
        score_sessions({}, {})


def test_missing_sessions_count_if_allowed() -> None:
    report = score_sessions(
        {"a": [Turn(0, 3, "anna")], "b": [Turn(0, 1, "ben")]},
        {"b": [Turn(0, 1, "x")], "c": [Turn(0, 2, "x")]},
        allow_missing=True,
    )
    assert astuple(report.total) == approx(4, 3, 2, 0)
    assert report.notes == [
        "1 session of 2 in the reference is not in the hypothesis: all missed ('a')",
        "1 session of 2 in the hypothesis is not in the reference: all false alarm ('c')",
    ]
    assert "note: 1 session of 2 in the reference is not" in report.to_text()


def test_an_empty_list_is_no_missing_session() -> None:
    assert score_sessions({"a": [Turn(0, 3, "anna")]}, {"a": []}).total.der == 1


def test_uem_must_name_every_session() -> None:
    turns = {"a": [Turn(0, 3, "anna")], "b": [Turn(0, 3, "ben")]}
    with pytest.raises(ScoreError, match=r"1 session of 2 to score \('b'\), but the UEM names no"):
        score_sessions(turns, turns, uems={"a": [Segment(0, 2)]})
    # None says that the session's own extents are meant.
    report = score_sessions(turns, turns, uems={"a": [Segment(0, 2)], "b": None})
    assert report.total.scored == pytest.approx(5.0)
    assert report.scored_region == (
        "as given by UEM or manifest for 1 session, "
        "union of reference and hypothesis extents for 1 session"
    )
    more = score_sessions(turns, turns, uems={name: [Segment(0, 2)] for name in "abc"})
    assert more.scored_region == "as given by UEM or manifest"
    assert more.notes[:1] == [
        "the UEM names 1 session more ('c'), which neither side has; not scored"
    ]


def test_self_overlap_is_noted() -> None:
    twice, once = [Turn(0, 4, "anna"), Turn(2, 6, "anna")], [Turn(0, 6, "x")]
    report = score_sessions({"a": once}, {"a": twice})
    assert report.notes == [
        "in 1 session of the hypothesis ('a') turns of one speaker overlap; they count once"
    ]


# Times are centiseconds, so that sums of floats cannot hide or invent an overlap.
any_turns = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start / 100, (start + length) / 100, speaker),
        st.integers(0, 1000),
        st.integers(1, 300),
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=8,
)
any_condition = st.sampled_from([FULL, FAIR, FORGIVING, Condition(skip_overlap=True)])
few = settings(deadline=None, max_examples=40)


@few
@given(any_turns, any_condition)
def test_a_perfect_hypothesis_has_no_error(turns: list[Turn], condition: Condition) -> None:
    error = score(turns, turns, condition)
    assert astuple(error)[1:] == approx(0, 0, 0)


@few
@given(any_turns, any_turns, any_condition, st.permutations(["a", "b", "c"]))
def test_names_of_speakers_do_not_matter(
    reference: list[Turn], hypothesis: list[Turn], condition: Condition, names: list[str]
) -> None:
    new = dict(zip("abc", names, strict=True))
    renamed = [replace(t, speaker=new[t.speaker]) for t in hypothesis]
    anonymous = [replace(t, speaker=f"speaker {t.speaker}") for t in reference]
    expected = astuple(score(reference, hypothesis, condition))
    assert astuple(score(anonymous, renamed, condition)) == approx(*expected)


@few
@given(any_turns, any_turns, st.floats(0.1, 0.9))
def test_splitting_turns_changes_nothing_without_collar(
    reference: list[Turn], hypothesis: list[Turn], place: float
) -> None:
    def split(turns: list[Turn]) -> list[Turn]:
        middles = [round(t.start + place * t.duration, 4) for t in turns]
        first = [replace(t, end=m) for t, m in zip(turns, middles, strict=True)]
        return first + [replace(t, start=m) for t, m in zip(turns, middles, strict=True)]

    expected = astuple(score(reference, hypothesis))
    assert astuple(score(split(reference), split(hypothesis))) == approx(*expected)


@few
@given(any_turns, any_turns)
def test_swapping_sides_swaps_miss_and_false_alarm(
    reference: list[Turn], hypothesis: list[Turn]
) -> None:
    there, back = score(reference, hypothesis), score(hypothesis, reference)
    swapped = (back.false_alarm, back.miss, back.confusion)
    assert (there.miss, there.false_alarm, there.confusion) == approx(*swapped)


@few
@given(st.lists(st.tuples(any_turns, any_turns), min_size=1, max_size=3), any_condition)
def test_sessions_add_up_to_the_total(
    pairs: list[tuple[list[Turn], list[Turn]]], condition: Condition
) -> None:
    references = {str(i): reference for i, (reference, _) in enumerate(pairs)}
    hypotheses = {str(i): hypothesis for i, (_, hypothesis) in enumerate(pairs)}
    report = score_sessions(references, hypotheses, condition)
    together = np.sum([astuple(error) for error in report.sessions.values()], axis=0)
    assert astuple(report.total) == approx(*together)


@few
@given(any_turns, any_turns, any_condition)
def test_parts_are_bounded(
    reference: list[Turn], hypothesis: list[Turn], condition: Condition
) -> None:
    error = score(reference, hypothesis, condition)
    assert min(astuple(error)) >= 0
    assert error.miss + error.confusion <= error.scored + 1e-9
