"""Scores by pyannote's rules against pyannote.metrics, whose collar is twice ours."""

from collections.abc import Iterator
from dataclasses import astuple, replace
from types import SimpleNamespace

import pytest
from drawn import sessions

from diarize.score import CONDITIONS, Condition, score, score_session
from diarize.turns import Segment, Turn

core = pytest.importorskip("pyannote.core")
diarization = pytest.importorskip("pyannote.metrics.diarization")

# Thousands of sessions take longer than a test may.
pytestmark = [pytest.mark.parity, pytest.mark.timeout(0)]

CONDITIONS_TRIED = [
    replace(condition, rules="pyannote")
    for condition in (*CONDITIONS.values(), Condition(collar=1.0), Condition(skip_overlap=True))
]


def annotation(turns: list[Turn]) -> object:
    made = core.Annotation()
    for track, turn in enumerate(turns):
        made[core.Segment(turn.start, turn.end), track] = turn.speaker
    return made


def timeline(uem: list[Segment] | None) -> object:
    return uem and core.Timeline([core.Segment(s.start, s.end) for s in uem]).support()


@pytest.fixture(params=CONDITIONS_TRIED, ids=lambda c: f"{c.collar}-{c.skip_overlap}")
def compared(request: pytest.FixtureRequest) -> Iterator[SimpleNamespace]:
    """Sessions, half of them without a UEM, as both see them, under one condition."""

    def each() -> Iterator[SimpleNamespace]:
        for number, (name, session) in enumerate(sessions().items()):
            uem = session.uem if number % 2 else None
            ours = score_session(session.reference, session.hypothesis, request.param, uem)
            theirs = annotation(session.reference), annotation(session.hypothesis), timeline(uem)
            yield SimpleNamespace(name=name, drawn=session, ours=ours, theirs=theirs)

    settings = {"collar": 2 * request.param.collar, "skip_overlap": request.param.skip_overlap}
    yield SimpleNamespace(each=each, settings=settings)


@pytest.mark.filterwarnings("ignore:'uem' was approximated")
def test_equals_pyannote_with_twice_the_collar(compared: SimpleNamespace) -> None:
    metric = diarization.DiarizationErrorRate(**compared.settings)
    for session in compared.each():
        reference, hypothesis, uem = session.theirs
        parts = metric.compute_components(reference, hypothesis, uem=uem)
        assert astuple(session.ours.error) == pytest.approx(
            [parts[key] for key in ("total", "missed detection", "false alarm", "confusion")],
            rel=1e-6,
            abs=2e-6,
        ), session.name


@pytest.mark.filterwarnings("ignore:'uem' was approximated")
def test_jaccard_errors_equal_pyannote(compared: SimpleNamespace) -> None:
    metric = diarization.JaccardErrorRate(**compared.settings)
    same = []
    for session in compared.each():
        reference, hypothesis, uem = session.theirs
        parts = metric.compute_components(reference, hypothesis, uem=uem)
        ours, theirs = sum(session.ours.jaccard_errors.values()), parts["speaker error"]
        assert len(session.ours.jaccard_errors) == parts["speaker count"], session.name
        # Of mappings that tie, as where two speakers cover all that is said, ours has the least.
        assert ours <= theirs + 1e-6, session.name
        same.append(ours == pytest.approx(theirs, rel=1e-6, abs=1e-6))
    assert sum(same) > 0.9 * len(same)


def test_pyannote_counts_a_speaker_overlapping_themselves_twice() -> None:
    twice, once = [Turn(0, 4, "anna"), Turn(2, 6, "anna")], [Turn(0, 6, "x")]
    metric = diarization.DiarizationErrorRate()
    uem = core.Timeline([core.Segment(0, 6)])
    parts = metric.compute_components(annotation(twice), annotation(once), uem=uem)
    assert (parts["total"], parts["missed detection"]) == pytest.approx((8.0, 2.0))
    assert astuple(score(twice, once, Condition(rules="pyannote"))) == pytest.approx((8, 2, 0, 0))
    assert astuple(score(twice, once)) == pytest.approx((6.0, 0, 0, 0))
