"""Scores against pyannote.metrics itself, whose collar is the total width: twice ours."""

import random
from dataclasses import astuple

import pytest

from diarize.score import CONDITIONS, Condition, score
from diarize.turns import Segment, Turn

core = pytest.importorskip("pyannote.core")
diarization = pytest.importorskip("pyannote.metrics.diarization")

pytestmark = pytest.mark.parity

CONDITIONS_TRIED = [*CONDITIONS.values(), Condition(collar=1.0), Condition(skip_overlap=True)]


def annotation(turns: list[Turn]) -> object:
    made = core.Annotation()
    for track, turn in enumerate(turns):
        made[core.Segment(turn.start, turn.end), track] = turn.speaker
    return made


def some_turns(generator: random.Random, speakers: str) -> list[Turn]:
    """Up to six turns a speaker, a quarter of them touching the one before."""
    turns = []
    for speaker in speakers[: generator.randint(0, len(speakers))]:
        time = generator.uniform(0, 5)
        for _ in range(generator.randint(1, 6)):
            end = time + generator.uniform(0.05, 4)
            turns.append(Turn(time, end, speaker))
            time = end if generator.random() < 0.25 else end + generator.expovariate(0.5)
    return turns


@pytest.mark.parametrize(
    "condition", CONDITIONS_TRIED, ids=lambda c: f"{c.collar}-{c.skip_overlap}"
)
@pytest.mark.filterwarnings("ignore:'uem' was approximated")
def test_equals_pyannote_with_twice_the_collar(condition: Condition) -> None:
    generator = random.Random(0)
    metric = diarization.DiarizationErrorRate(
        collar=2 * condition.collar, skip_overlap=condition.skip_overlap
    )
    for _ in range(40):
        reference, hypothesis = some_turns(generator, "abcd"), some_turns(generator, "wxyz")
        uem = [Segment(1.0, 6.0), Segment(8.0, 30.0)] if generator.random() < 0.5 else None
        timeline = uem and core.Timeline([core.Segment(s.start, s.end) for s in uem])
        parts = metric.compute_components(
            annotation(reference), annotation(hypothesis), uem=timeline
        )
        assert astuple(score(reference, hypothesis, condition, uem)) == pytest.approx(
            [parts[key] for key in ("total", "missed detection", "false alarm", "confusion")],
            rel=1e-6,
            abs=1e-9,
        )


def test_pyannote_counts_a_speaker_overlapping_themselves_twice() -> None:
    twice, once = [Turn(0, 4, "anna"), Turn(2, 6, "anna")], [Turn(0, 6, "x")]
    metric = diarization.DiarizationErrorRate()
    uem = core.Timeline([core.Segment(0, 6)])
    parts = metric.compute_components(annotation(twice), annotation(once), uem=uem)
    assert (parts["total"], parts["missed detection"]) == pytest.approx((8.0, 2.0))
    assert astuple(score(twice, once)) == pytest.approx((6.0, 0, 0, 0))
