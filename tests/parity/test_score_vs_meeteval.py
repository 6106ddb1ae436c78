"""Scores against meeteval: md-eval-22, and dscore, which is md-eval in the union of extents.

meeteval runs md-eval once a session, so there are few; ``test_score_vs_md_eval.py`` has the many.
"""

import logging
from dataclasses import astuple
from decimal import Decimal

import pytest
from drawn import Drawn, sessions

from diarize.score import CONDITIONS, Condition, score
from diarize.turns import Segment, Turn

md_eval = pytest.importorskip("meeteval.der.md_eval")
dscore = pytest.importorskip("meeteval.der.nryant_dscore")
rttm = pytest.importorskip("meeteval.io.rttm")
uems = pytest.importorskip("meeteval.io.uem")

pytestmark = [pytest.mark.parity, pytest.mark.usefixtures("md_eval_22")]

COUNT = 20


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)  # meeteval warns of what is meant here


def decimal(seconds: float) -> Decimal:
    return Decimal(f"{seconds:.6f}")


def lines(turns: dict[str, list[Turn]]) -> object:
    return rttm.RTTM(
        [
            rttm.RTTMLine(
                filename=name,
                begin_time=decimal(turn.start),
                duration=decimal(turn.end) - decimal(turn.start),
                speaker_id=turn.speaker,
            )
            for name, side in turns.items()
            for turn in side
        ]
    )


def theirs(
    drawn: dict[str, Drawn], condition: Condition, with_uem: bool
) -> dict[str, tuple[float, ...]]:
    regions = [
        uems.UEMLine(name, "1", decimal(region.start), decimal(region.end))
        for name, session in drawn.items()
        for region in session.uem
    ]
    scorer = md_eval.md_eval_22_multifile if with_uem else dscore.dscore_multifile
    errors = scorer(
        lines({name: session.reference for name, session in drawn.items()}),
        lines({name: session.hypothesis for name, session in drawn.items()}),
        condition.collar,
        "nooverlap" if condition.skip_overlap else "all",
        uems.UEM(regions) if with_uem else None,
    )
    return {
        name: (
            float(error.scored_speaker_time),
            float(error.missed_speaker_time),
            float(error.falarm_speaker_time),
            float(error.speaker_error_time),
        )
        for name, error in errors.items()
    }


@pytest.mark.parametrize("with_uem", [True, False], ids=["md_eval", "dscore"])
@pytest.mark.parametrize("condition", CONDITIONS)
def test_equals_meeteval(condition: str, with_uem: bool) -> None:
    drawn, ours = {}, {}
    for name, session in sessions(COUNT).items():
        if not with_uem:  # turns without length are part of meeteval's extents, not of ours
            turns = [[t for t in side if t.end > t.start] for side in session[:2]]
            session = Drawn(turns[0], turns[1], [])
        uem = session.uem if with_uem else None
        error = score(session.reference, session.hypothesis, CONDITIONS[condition], uem)
        # md-eval divides by zero, and meeteval leaves out sessions that one side lacks.
        if error.scored and session.hypothesis:
            drawn[name], ours[name] = session, astuple(error)
    found = theirs(drawn, CONDITIONS[condition], with_uem)
    assert len(found) > 0.5 * COUNT
    assert ours == {name: pytest.approx(p, rel=1e-6, abs=2e-6) for name, p in found.items()}


def test_examples_of_docs_scoring() -> None:
    times = [(0.0, 2.0), (3.0, 3.6), (4.0, 4.6), (5.0, 5.6), (6.0, 6.6)]
    anna = [Turn(a, b, "anna") for a, b in times]
    guess = [Turn(a, b, "x" if a == 0 else "y") for a, b in times]
    drawn = {"mapping": Drawn(anna, guess, [Segment(0.0, 6.6)])}
    fair = CONDITIONS["fair"]
    assert theirs(drawn, fair, True)["mapping"] == pytest.approx((1.9, 0, 0, 1.5))
    assert astuple(score(anna, guess, fair)) == pytest.approx((1.9, 0, 0, 1.5))
    by_pyannote = Condition(0.25, rules="pyannote")
    assert astuple(score(anna, guess, by_pyannote)) == pytest.approx((1.9, 0, 0, 0.4))

    twice, once = [Turn(0.0, 4.0, "anna"), Turn(2.0, 6.0, "anna")], [Turn(0.0, 6.0, "x")]
    drawn = {"twice": Drawn(twice, once, [Segment(0.0, 6.0)])}
    for condition, scored in (
        (Condition(), 6.0),
        (fair, 4.5),
        (Condition(skip_overlap=True), 4.0),
    ):
        assert theirs(drawn, condition, True)["twice"] == pytest.approx((scored, 0, 0, 0))
        assert astuple(score(twice, once, condition)) == pytest.approx((scored, 0, 0, 0))
