"""Scores against NIST's md-eval-22, run by meeteval.

Needs perl, and ``md-eval-22.pl`` on the PATH or in meeteval's folder; else it is made from
Debian's package sctk (see tests/golden/der/README.md). Nothing is downloaded.
"""

import logging
import os
import random
import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from diarize.score import CONDITIONS, Condition, DiarizationError, score
from diarize.turns import Segment, Turn, merge

md_eval = pytest.importorskip("meeteval.der.md_eval")
rttm = pytest.importorskip("meeteval.io.rttm")
uems = pytest.importorskip("meeteval.io.uem")

pytestmark = pytest.mark.parity

DEBIAN = Path("/usr/lib/sctk/bin/md-eval.pl")
END = 40.0
COUNT = 30


@pytest.fixture(autouse=True)
def md_eval_22(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)  # meeteval warns of what is meant here
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    beside = Path(md_eval.__file__).parent / "md-eval-22.pl"
    if shutil.which("md-eval-22.pl") or beside.exists():
        return
    if not DEBIAN.exists():
        pytest.skip("md-eval-22.pl is not on the PATH; Debian's sctk has it")
    script = tmp_path / "md-eval-22.pl"
    script.write_text(DEBIAN.read_text().replace("=%10.2f secs", "=%f secs"))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def lines(sessions: dict[str, list[Turn]]) -> object:
    def decimal(seconds: float) -> Decimal:
        return Decimal(f"{seconds:.3f}")

    return rttm.RTTM(
        [
            rttm.RTTMLine(
                filename=name,
                begin_time=decimal(turn.start),
                duration=decimal(turn.end) - decimal(turn.start),
                speaker_id=turn.speaker,
            )
            for name, turns in sessions.items()
            for turn in turns
        ]
    )


def by_md_eval(
    references: dict[str, list[Turn]], hypotheses: dict[str, list[Turn]], condition: Condition
) -> dict[str, DiarizationError]:
    errors = md_eval.md_eval_22_multifile(
        lines(references),
        lines(hypotheses),
        condition.collar,
        "nooverlap" if condition.skip_overlap else "all",
        uems.UEM([uems.UEMLine(name, "1", Decimal(0), Decimal(END)) for name in references]),
    )
    return {
        name: DiarizationError(
            float(error.scored_speaker_time),
            float(error.missed_speaker_time),
            float(error.falarm_speaker_time),
            float(error.speaker_error_time),
        )
        for name, error in errors.items()
    }


def some_session(generator: random.Random) -> tuple[list[Turn], list[Turn]]:
    """A reference with overlaps and touching turns; a hypothesis that moves and confuses it."""
    reference, hypothesis = [], []
    for speaker in range(generator.randint(1, 4)):
        time = round(generator.uniform(0, 5), 3)
        for _ in range(generator.randint(1, 5)):
            end = round(time + generator.choice([0.3, 1, 3]) * generator.uniform(0.5, 1.5), 3)
            reference.append(Turn(time, end, f"r{speaker}"))
            begin = max(0.0, round(time + generator.gauss(0, 0.3), 3))
            stop = round(end + generator.gauss(0, 0.3), 3)
            who = speaker if generator.random() < 0.8 else generator.randint(0, 4)
            if stop > begin and generator.random() < 0.85:
                hypothesis.append(Turn(begin, stop, f"h{who}"))
            time = end if generator.random() < 0.25 else round(end + generator.random(), 3)
    return reference, merge(hypothesis) or [Turn(0.0, 1.0, "h0")]


def sessions_scored(
    condition: Condition,
) -> tuple[dict[str, DiarizationError], dict[str, DiarizationError]]:
    """Our errors and md-eval's, of sessions in which something is scored.

    md-eval divides by zero where the collars leave nothing.
    """
    generator = random.Random(0)
    references, hypotheses, ours = {}, {}, {}
    while len(ours) < COUNT:
        reference, hypothesis = some_session(generator)
        error = score(reference, hypothesis, condition, [Segment(0.0, END)])
        if error.scored > 0:
            name = f"session{len(ours)}"
            references[name], hypotheses[name], ours[name] = reference, hypothesis, error
    return ours, by_md_eval(references, hypotheses, condition)


def test_equals_md_eval_without_collar() -> None:
    ours, theirs = sessions_scored(CONDITIONS["full"])
    for name, error in theirs.items():
        assert ours[name].scored == pytest.approx(error.scored, abs=2e-6)
        assert ours[name].miss == pytest.approx(error.miss, abs=2e-6)
        assert ours[name].false_alarm == pytest.approx(error.false_alarm, abs=2e-6)
        assert ours[name].confusion == pytest.approx(error.confusion, abs=2e-6)


@pytest.mark.parametrize("name", ["fair", "forgiving"])
def test_only_confusion_differs_with_collars(name: str) -> None:
    ours, theirs = sessions_scored(CONDITIONS[name])
    same = 0
    for session, error in theirs.items():
        assert ours[session].scored == pytest.approx(error.scored, abs=2e-6)
        assert ours[session].miss == pytest.approx(error.miss, abs=2e-6)
        assert ours[session].false_alarm == pytest.approx(error.false_alarm, abs=2e-6)
        # The best mapping of the scored time, theirs of all of it: ours is never worse.
        assert ours[session].confusion <= error.confusion + 2e-6
        same += ours[session].confusion == pytest.approx(error.confusion, abs=2e-6)
    assert same > 0.8 * COUNT


def test_example_of_docs_scoring_where_the_mapping_differs() -> None:
    times = [(0.0, 2.0), (3.0, 3.6), (4.0, 4.6), (5.0, 5.6), (6.0, 6.6)]
    reference = [Turn(a, b, "anna") for a, b in times]
    hypothesis = [Turn(a, b, "x" if a == 0 else "y") for a, b in times]
    fair = CONDITIONS["fair"]
    theirs = by_md_eval({"s": reference}, {"s": hypothesis}, fair)["s"]
    ours = score(reference, hypothesis, fair)
    assert ours.scored == pytest.approx(1.9) == theirs.scored
    assert (ours.confusion, theirs.confusion) == pytest.approx((0.4, 1.5))


def test_example_of_docs_scoring_of_a_speaker_overlapping_themselves() -> None:
    twice, once = [Turn(0.0, 4.0, "anna"), Turn(2.0, 6.0, "anna")], [Turn(0.0, 6.0, "x")]
    scored = {}
    for condition in (Condition(), CONDITIONS["fair"], Condition(skip_overlap=True)):
        theirs = by_md_eval({"s": twice}, {"s": once}, condition)["s"]
        scored[condition] = (score(twice, once, condition).scored, theirs.scored)
    assert list(scored.values()) == [(6.0, 6.0), (5.5, 4.5), (6.0, 4.0)]
