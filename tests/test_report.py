"""What the scores of sessions add up to: drawn by hand, and against the sessions themselves."""

import numpy as np
import pytest

from diarize.score import CONDITIONS, Condition, ScoreReport, score_sessions
from diarize.score.explain import explain
from diarize.score.report import RATES, rates
from diarize.turns import Segment, Turn


def of_two(condition: Condition = CONDITIONS["full"]) -> ScoreReport:
    """One speaker, a third missed; two, of whom the second is missed, and a false alarm."""
    #             0123456789.
    # a: ben      ##########      carl      ##
    #    x        ##########
    # b: anna     ######          y         #  at 7
    #    x        ####
    references = {"b": [Turn(0, 6, "anna")], "a": [Turn(0, 10, "ben"), Turn(3, 5, "carl")]}
    hypotheses = {"a": [Turn(0, 10, "x")], "b": [Turn(0, 4, "x"), Turn(7, 8, "y")]}
    return score_sessions(references, hypotheses, condition)


def test_table() -> None:
    assert of_two().to_text(per_session=True) == (
        "condition: full (collar 0 s on each side, overlap scored)\n"
        "scored region: union of reference and hypothesis extents\n"
        "speakers: number right in 0 of 2 sessions (0.00 %), off by 1.00 on average; "
        "1 missed, 1 invented\n"
        "while nobody speaks: 1.00 s of false alarm\n"
        "95 % interval: DER 16.67 to 50.00 %, JER 33.33 to 50.00 % (bootstrap over 2 sessions, "
        "2000 draws, seed 0)\n"
        "session                   scored s    miss %  false alarm %  confusion %     DER %"
        "    low   high     JER %\n"
        "a                            12.00     16.67           0.00         0.00     16.67"
        "      -      -     50.00\n"
        "b                             6.00     33.33          16.67         0.00     50.00"
        "      -      -     33.33\n"
        "1 speaker (1 session)         6.00     33.33          16.67         0.00     50.00"
        "      -      -     33.33\n"
        "2 speakers (1 session)       12.00     16.67           0.00         0.00     16.67"
        "      -      -     50.00\n"
        "one speaks                   14.00     14.29           0.00         0.00     14.29"
        "   0.00  33.33         -\n"
        "several speak                 4.00     50.00           0.00         0.00     50.00"
        "   0.00  50.00         -\n"
        "TOTAL                        18.00     22.22           5.56         0.00     27.78"
        "  16.67  50.00     44.44\n"
    )
    names = [line.split("  ")[0] for line in of_two().to_text().splitlines()]
    assert "a" not in names and names[-1] == "TOTAL"


def test_rates_are_those_of_the_total() -> None:
    report = of_two()
    assert report.rates["der"] == pytest.approx(report.total.der)
    # ben and anna lose 2 of 12 and 2 of 6 s, where x says 10 s and 4 s; carl all of his.
    assert report.rates["jer"] == pytest.approx((0 + 1 + 1 / 3) / 3)
    assert report.rates["count_accuracy"] == 0
    rows = {row.label: row for row in report.rows()}
    assert rows["TOTAL"].jer == pytest.approx(report.rates["jer"])
    assert sum(rows[name].error.scored for name in "ab") == pytest.approx(report.total.scored)


def test_intervals_are_ends_of_what_sessions_drawn_anew_have() -> None:
    # Of two sessions, a draw has one twice or both: between are the DERs of each alone.
    report = of_two()
    each = sorted(error.der for error in report.sessions.values())
    assert report.intervals["der"] == pytest.approx(tuple(each))
    references = {f"s{n}": [Turn(0, 10, "ann")] for n in range(40)}
    hypotheses = {f"s{n}": [Turn(0, 10 - n % 8, "x")] for n in range(40)}
    report = score_sessions(references, hypotheses)
    low, high = report.intervals["miss"]
    shares = np.arange(40) % 8 / 10
    assert (low, high) == pytest.approx(
        (0.35 - 1.96 * shares.std() / 40**0.5, 0.35 + 1.96 * shares.std() / 40**0.5), abs=0.01
    )


def lost(*seconds: float, name: str = "s") -> tuple[dict[str, list[Turn]], dict[str, list[Turn]]]:
    """Sessions of ten seconds, of which so many are missed: both sides."""
    names = [f"{name}{number}" for number in range(len(seconds))]
    found = {n: [Turn(0, 10 - gone, "x")] for n, gone in zip(names, seconds, strict=True)}
    return {n: [Turn(0, 10, "ann")] for n in names}, found


def test_a_group_has_the_interval_that_it_has_alone() -> None:
    alone, found = lost(*np.random.default_rng(0).uniform(0, 8, 20))
    others, more = lost(1, 4, 2, name="t")
    of_two = {name: [*turns, Turn(20, 24, "bob")] for name, turns in others.items()}
    report = score_sessions(alone | of_two, found | more)
    one, two = report.rows(per_session=False)[:2]
    assert (one.label, two.label) == ("1 speaker (20 sessions)", "2 speakers (3 sessions)")
    assert one.intervals == score_sessions(alone, found).intervals
    assert two.intervals == score_sessions(of_two, more).intervals
    assert set(one.intervals) == set(RATES)


def test_classes_of_speech_have_the_intervals_of_their_sessions() -> None:
    # Where one speaks all is as alone; where bob speaks as well, he is missed for a second of two.
    truth, found = lost(*np.random.default_rng(0).uniform(0, 8, 20))
    with_bob = {n: [*t, Turn(20, 22, "bob"), Turn(20, 22, "cy")] for n, t in truth.items()}
    heard = {n: [*t, Turn(20, 22, "y"), Turn(20, 21, "z")] for n, t in found.items()}
    single, overlapped = score_sessions(with_bob, heard).rows(per_session=False)[1:3]
    assert single.intervals["der"] == score_sessions(truth, found).intervals["der"]
    assert overlapped.intervals["miss"] == (0.25, 0.25)
    assert list(overlapped.intervals) == ["der", "miss", "false_alarm", "confusion"]


def test_one_session_has_no_interval() -> None:
    report = score_sessions({"a": [Turn(0, 1, "ann")]}, {"a": [Turn(0, 1, "x")]})
    assert report.intervals == {}
    assert not any(row.intervals for row in report.rows())
    assert "  low  " not in report.to_text()
    assert "95 % interval: none, for one session says nothing of others" in report.to_text()


def test_rates_of_nothing_are_zero_or_infinite() -> None:
    report = score_sessions({"s": []}, {"s": [Turn(0, 1, "x")]})
    assert report.to_text().split()[-2:] == ["inf", "-"]
    assert rates(np.zeros((3, 8)))["der"].tolist() == [0.0] * 3


def test_explanation_says_the_rules_and_the_seconds() -> None:
    turns = {"a": [Turn(0, 10, "ben"), Turn(5, 7, "carl"), Turn(20, 30, "ben")]}
    uem = {"a": [Segment(0, 12)]}
    told = explain(score_sessions(turns, turns, CONDITIONS["forgiving"], uem))
    # Overlap with its collars takes 4.75 to 7.25, the ends of ben's turn 0.25 s and 0.5 s; what is
    # left is his speech but for 10.25 to 12.
    assert told[0] == (
        "counted: 7.00 s of reference speech, each speaker for himself or herself: 7.00 s where "
        "one speaks, 0.00 s where several do"
    )
    assert "scored region: 12.00 s, as given by UEM or manifest" in told
    assert "not counted: what lies outside of it, and 3.25 s inside" in told
    whole = " ".join(told)
    assert "collar: 0.25 s on each side of every boundary" in whole
    assert "overlap: not scored where two or more" in whole and "before collars" in whole
    by_pyannote = explain(score_sessions(turns, turns, Condition(rules="pyannote"), uem))
    assert "on what collars and skipped overlap leave" in " ".join(by_pyannote)
    assert "counts as often as they do" in " ".join(by_pyannote)
