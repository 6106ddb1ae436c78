"""Calibration: what is stated is counted beside what is true, a temperature that was hidden is
found, and turns stay what they were."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from shares import drawn

from diarize.calibration import Reliability, Rescaling, calibrate
from diarize.calibration.calibration import BEFORE, LEFT_OUT, SAME
from diarize.calibration.evidence import Evidence
from diarize.calibration.rescaling import fit
from diarize.errors import ScoreError
from diarize.formats.posteriors import Posteriors
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.tune import Labelled
from diarize.turns import Segment, Turn

HALF = PostprocessConfig()


# ---- what is stated, beside what is true


def test_reliability_drawn() -> None:
    # stated    0.05  0.85  0.85  1.0
    # seconds      4     2     1    1
    # true         1     2     0    1
    columns = [0.05, 0.85, 0.85, 1.0], [4.0, 2.0, 1.0, 1.0], [1.0, 2.0, 0.0, 1.0]
    found = Reliability.of(*np.array(columns))
    rows = found.rows()
    assert rows[0] == pytest.approx((4.0, 0.05, 0.25))
    assert rows[8] == pytest.approx((3.0, 0.85, 2 / 3)) and rows[9] == pytest.approx((1, 1, 1))
    assert all(row == (0.0, 0.0, 0.0) for row in rows[1:8])
    # Bin by bin |0.2 - 1| and |2.55 - 2|, of 8 s.
    assert found.calibration_error == pytest.approx((0.8 + 0.55) / 8)
    squares = 0.95**2 + 3 * 0.05**2 + 2 * 0.15**2 + 0.85**2
    assert found.brier == pytest.approx(squares / 8)
    surprise = np.log(0.05) + 3 * np.log(0.95) + 2 * np.log(0.85) + np.log(0.15)
    assert found.cross_entropy == pytest.approx(-surprise / 8)


def test_reliabilities_add_and_of_nothing_all_is_0() -> None:
    generator = np.random.default_rng(0)
    stated, seconds, share = generator.random((3, 100))
    columns = np.stack([stated, seconds, seconds * share])
    whole = Reliability.of(*columns)
    parts = Reliability.sum(
        Reliability.of(*columns[:, part]) for part in np.split(np.arange(100), 5)
    )
    for name in ("cross_entropy", "brier", "calibration_error", "total"):
        assert getattr(parts, name) == pytest.approx(getattr(whole, name))
    nothing = Reliability.sum([])
    assert nothing.cross_entropy == nothing.brier == nothing.calibration_error == 0.0


def test_draws_that_are_true_as_often_as_stated_are_calibrated() -> None:
    generator = np.random.default_rng(0)
    stated = generator.random(200_000)
    true = (generator.random(200_000) < stated).astype(float)
    perfect = Reliability.of(stated, np.ones_like(stated), true)
    # A bin's share strays by 0.5 / sqrt(20,000) at most.
    assert perfect.calibration_error < 4 * 0.5 / np.sqrt(20_000)
    # The expected squared error of p, mean of p (1 - p) over 0 to 1.
    assert perfect.brier == pytest.approx(1 / 6, abs=0.002)
    sure = Reliability.of(expit(2 * logit(stated)), np.ones_like(stated), true)
    assert sure.calibration_error > 0.05 and sure.cross_entropy > perfect.cross_entropy


# ---- sessions


def test_evidence_drawn() -> None:
    # seconds   0    1    2    3    4    5
    # anna      #### ##
    # slot 0    .9   .9   .1   .1   .1   .1
    # slot 1    .1   .1   .1   .9   .0   .1     nobody's
    # scored    #### #### #### ####      ##
    columns = [[0.9, 0.9, 0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.9, 0.0, 0.1]]
    posteriors = Posteriors(np.array(columns, dtype=np.float32).T, 1.0, 10.0, 5.5)
    regions = [Segment(10.0, 14.0), Segment(15.5, 20.0)]
    session = Labelled("a", posteriors, [Turn(10.0, 11.5, "anna")], regions)
    found = Evidence.of(session, HALF)
    # Frame by frame, slot by slot: four of two slots, and half of the sixth's second half, where
    # the session lasts to the middle of it but its posterior to its end.
    assert found.seconds == pytest.approx([1.0] * 8 + [0.5] * 2)
    assert found.active == pytest.approx([1.0, 0.0, 0.5] + [0.0] * 7)
    assert found.posterior == pytest.approx([0.9, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.1, 0.1])
    # Turns: slot 0's of 2 s, of which 1.5 are right, and slot 1's of 1 s, of which none is.
    turns = found.turns(Rescaling())
    assert turns.rows()[8][0] + turns.rows()[9][0] == pytest.approx(3.0, abs=0.02)
    assert turns.true.sum() == pytest.approx(1.5)
    assert turns.stated.sum() == pytest.approx(0.9 * 3.0, abs=0.02)


def test_what_is_not_answered_does_not_count() -> None:
    session = drawn(0, 1.0)
    given = session.posteriors
    wide = np.concatenate([given.posterior, np.zeros_like(given.posterior)], axis=1)
    more = replace(session, posteriors=replace(given, posterior=wide))
    one, other = (Evidence.of(s, HALF).posteriors(Rescaling()) for s in (session, more))
    assert one.total == other.total == pytest.approx(2 * given.duration)
    assert one.surprise == other.surprise


# ---- rescaling


def test_rescaled_posteriors_drawn() -> None:
    rescaling = Rescaling(2.0, -1.0)
    logits = np.array([-3.0, 0.0, 5.0])
    assert rescaling.of(expit(logits)) == pytest.approx(expit([-2.5, -1.0, 1.5]))
    ends = rescaling.of(np.array([0.0, 1.0], dtype=np.float32))
    assert ends[0] == 0.0 and 0.99 < ends[1] < 1.0  # 1 is what rounds to it


temperatures = st.floats(0.3, 3.0)
thresholds = st.integers(5, 95).map(lambda hundredths: hundredths / 100)


@settings(deadline=None, max_examples=50)
@given(temperatures, st.floats(-1.0, 1.0), thresholds, thresholds, st.integers(0, 99))
def test_turns_stay_what_they_were(
    temperature: float, bias: float, onset: float, offset: float, seed: int
) -> None:
    # Between hundredths, so that no rounding decides.
    posterior = (np.random.default_rng(seed).integers(100, size=(50, 2)) + 0.5) / 100
    config = PostprocessConfig(max(onset, offset), min(onset, offset), min_duration_on=0.1)
    rescaling = Rescaling(temperature, bias)
    before = to_turns(posterior, 0.08, config)
    after = to_turns(rescaling.of(posterior), 0.08, rescaling.moved(config))
    assert [replace(t, confidence=None) for t in after] == [
        replace(t, confidence=None) for t in before
    ]


@given(temperatures, st.floats(-30.0, 30.0))
def test_without_bias_nobody_speaks_more_or_less(temperature: float, log_odds: float) -> None:
    rescaling = Rescaling(temperature)
    assert rescaling.moved(HALF) == HALF
    assert np.sign(rescaling.of(expit(np.array([log_odds]))) - 0.5) == np.sign(
        expit(log_odds) - 0.5
    )


@pytest.mark.parametrize(("temperature", "bias"), [(0.5, 0.0), (1.0, 0.0), (2.5, 0.0), (2.0, 0.7)])
def test_a_hidden_temperature_is_found(temperature: float, bias: float) -> None:
    sessions = [drawn(n, temperature, bias) for n in range(6)]
    found = calibrate(sessions, HALF, with_bias=bool(bias), show=False)
    assert found.rescaling.temperature == pytest.approx(temperature, rel=0.01)
    assert found.rescaling.bias == pytest.approx(bias, abs=0.01)
    for name in (SAME, LEFT_OUT):
        assert Reliability.sum(found.posteriors[name]).calibration_error < 0.002
    assert found.is_better == (temperature != 1.0)
    assert found.verdict.startswith("better on" if temperature != 1.0 else "no better")


def test_the_fit_is_the_best() -> None:
    generator = np.random.default_rng(3)
    posterior, share = generator.random((2, 2000)).clip(1e-6, 1.0)
    seconds = generator.random(2000)
    active = seconds * (0.7 * posterior + 0.3 * share)
    best = fit(posterior, seconds, active, True)

    def surprise(rescaling: Rescaling) -> float:
        return Reliability.of(rescaling.of(posterior), seconds, active).surprise

    for more, shift in ((1.01, 0.0), (0.99, 0.0), (1.0, 0.01), (1.0, -0.01)):
        near = Rescaling(best.temperature * more, best.bias + shift)
        assert surprise(best) < surprise(near)


def test_what_no_temperature_fits() -> None:
    sure, seconds = np.array([0.1, 0.2, 0.8]), np.ones(3)
    with pytest.raises(ScoreError, match=r"best when multiplied by [\de+.]+, but .* 0.05 to 20"):
        fit(sure, seconds, np.array([0.0, 0.0, 1.0]), False)  # 20 and more: one follows the other
    with pytest.raises(ScoreError, match=r"best when multiplied by -1.*Are these the references"):
        fit(sure, seconds, 1.0 - sure, False)


# ---- cross-validation


def test_sessions_left_out_are_judged_by_what_others_say() -> None:
    sessions = [drawn(n, 1.0 + n / 2) for n in range(5)]
    found = calibrate(sessions, HALF, num_folds=5, show=False)
    evidence = [Evidence.of(session, HALF) for session in sessions]
    for number, own in enumerate(evidence):
        others = [session for n, session in enumerate(sessions) if n != number]
        alone = calibrate(others, HALF, num_folds=0, show=False).rescaling
        expected = own.posteriors(alone).surprise
        assert found.posteriors[LEFT_OUT][number].surprise == pytest.approx(expected)
        assert found.posteriors[SAME][number].surprise == own.posteriors(found.rescaling).surprise
    gain = found.gain
    assert gain is not None and gain[1] < gain[0] < gain[2]
    left_out, before = (Reliability.sum(found.posteriors[name]) for name in (LEFT_OUT, BEFORE))
    assert gain[0] == pytest.approx(left_out.cross_entropy - before.cross_entropy)


def test_few_sessions() -> None:
    one = calibrate([drawn(0, 2.0)], HALF, show=False)
    assert one.gain is None and not one.is_better and LEFT_OUT not in one.posteriors
    assert "not cross-validated" in one.verdict and "left out" not in one.to_text()
    four = calibrate([drawn(n, 2.0) for n in range(4)], HALF, show=False)
    assert four.gain is not None and four.gain[2] < 0 and not four.is_better
    assert four.verdict.startswith("4 sessions do not tell a gain from chance.")


def test_a_reference_that_nobody_answers() -> None:
    session = replace(drawn(0, 1.0), reference=[])
    with pytest.raises(ScoreError, match="in 1 sessions no turn has a second in common with the"):
        calibrate([session], HALF, show=False)


# ---- reports


def test_the_report_has_its_numbers(tmp_path: Path) -> None:
    found = calibrate([drawn(n, 2.0, 0.5) for n in range(5)], HALF, True, 2, show=False)
    text, values = found.to_text(), json.loads(found.to_json())
    for name, parts in found.posteriors.items():
        whole, turns = Reliability.sum(parts), Reliability.sum(found.turns[name])
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name}  ")]
        told = [f"{whole.cross_entropy:.4f}", f"{whole.brier:.4f}"]
        told += [f"{100 * of.calibration_error:.2f}" for of in (whole, turns)]
        assert line.removeprefix(name).split() == told
        assert values["posteriors"][name]["brier"] == whole.brier
        assert values["turns"][name]["bins"][9]["seconds"] == turns.rows()[9][0]
    assert len(found.of_folds) == 2 and values["rescaling"]["bias"] == found.rescaling.bias
    assert f"temperature: {found.rescaling.temperature:.3f}, " in text and "\nbias: 0.5" in text
    assert f"verdict: {found.verdict}\n" in text and values["verdict"] == found.verdict
    seconds, stated, true = Reliability.sum(found.posteriors[BEFORE]).rows()[0]
    row = [f"{seconds:.0f}", f"{100 * stated:.1f}", f"{100 * true:.1f}"]
    (line, *_) = [line for line in text.splitlines() if line.startswith("0.0 to 0.1")]
    assert line.split()[3:6] == row


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_a_picture_is_written_whole(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    from diarize.calibration.diagram import draw

    path = tmp_path / f"reliability.{suffix}"
    draw(path, calibrate([drawn(n, 2.0) for n in range(5)], HALF, show=False))
    assert path.stat().st_size > 1000 and list(tmp_path.iterdir()) == [path]
    if suffix == "svg":  # both lines, each with its bars
        text = path.read_text()
        assert min(text.count("#0072b2"), text.count("#d55e00")) > 4
