"""Where a session is wrong: spans drawn, and that they sum up to the error."""

from collections import defaultdict

import pytest
from hypothesis import given
from test_score_session import FAIR, FULL, conditions, few, regions, turns

from diarize.score import Condition, ErrorSpan, error_spans, score
from diarize.turns import Segment, Turn


def test_each_kind_drawn() -> None:
    #             0123456789.
    # anna        ####
    # ben             #####
    # hypothesis  xx  xyyy yy
    reference = [Turn(0, 4, "anna"), Turn(4, 9, "ben")]
    hypothesis = [Turn(0, 2, "x"), Turn(4, 5, "x"), Turn(5, 8, "y"), Turn(9, 11, "y")]
    assert error_spans(reference, hypothesis) == [
        ErrorSpan(2, 4, "miss", 1, ("anna",), ()),
        ErrorSpan(4, 5, "confusion", 1, ("ben",), ("x",)),
        ErrorSpan(8, 9, "miss", 1, ("ben",), ()),
        ErrorSpan(9, 11, "false alarm", 1, (), ("y",)),
    ]


def test_of_two_whom_one_answers_wrongly_one_is_confused_and_one_missed() -> None:
    reference = [Turn(0, 9, "anna"), Turn(10, 12, "ben"), Turn(10, 12, "carl")]
    assert error_spans(reference, [Turn(0, 12, "x")]) == [
        ErrorSpan(9, 10, "false alarm", 1, (), ("x",)),
        ErrorSpan(10, 12, "confusion", 1, ("ben", "carl"), ("x",)),
        ErrorSpan(10, 12, "miss", 1, ("ben", "carl"), ("x",)),
    ]


def test_turns_that_touch_are_one_span() -> None:
    reference = [Turn(0, 2, "anna"), Turn(2, 3, "anna"), Turn(3, 4, "anna")]
    assert error_spans(reference, []) == [ErrorSpan(0, 4, "miss", 1, ("anna",), ())]


def test_what_is_not_scored_is_no_error() -> None:
    reference = [Turn(1, 4, "anna"), Turn(3, 6, "ben")]
    uem = [Segment(0, 2), Segment(5, 9)]
    assert error_spans(reference, [], FULL, uem) == [
        ErrorSpan(1, 2, "miss", 1, ("anna",), ()),
        ErrorSpan(5, 6, "miss", 1, ("ben",), ()),
    ]
    assert error_spans(reference, [], FAIR, uem) == [
        ErrorSpan(1.25, 2, "miss", 1, ("anna",), ()),
        ErrorSpan(5, 5.75, "miss", 1, ("ben",), ()),
    ]
    assert error_spans([], []) == []


@few
@given(turns, turns, conditions, regions)
def test_spans_sum_up_to_the_error(
    reference: list[Turn],
    hypothesis: list[Turn],
    condition: Condition,
    uem: list[Segment] | None,
) -> None:
    seconds: dict[str, float] = defaultdict(float)
    spans = error_spans(reference, hypothesis, condition, uem)
    for span in spans:
        assert span.end > span.start
        seconds[span.kind] += span.seconds
    error = score(reference, hypothesis, condition, uem)
    wrong = (error.miss, error.false_alarm, error.confusion)
    found = tuple(seconds[kind] for kind in ("miss", "false alarm", "confusion"))
    assert found == pytest.approx(wrong, abs=1e-9)
    assert spans == sorted(spans, key=lambda span: (span.start, span.end, span.kind))
