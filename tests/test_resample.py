"""The bootstrap: against every draw written out, and against what is known of it."""

from itertools import product

import numpy as np
import pytest

from diarize.errors import ScoreError
from diarize.score.resample import interval, quotient, resample


def test_draws_are_sums_over_as_many_sessions_drawn_with_replacement() -> None:
    # Three sessions that add 1, 10 and 100: the sum tells how often each was drawn.
    draws = resample(np.array([[1.0], [10.0], [100.0]]), num_draws=4000)[:, 0]
    possible = [sum(drawn) for drawn in product((1, 10, 100), repeat=3)]
    values, counts = np.unique(draws, return_counts=True)
    assert set(values) == set(possible)
    expected = np.array([possible.count(value) for value in values]) / len(possible)
    assert counts / 4000 == pytest.approx(expected, abs=0.03)


def test_measures_that_are_given_together_are_drawn_together() -> None:
    sums = np.random.default_rng(1).random((50, 2))
    draws = resample(np.concatenate([sums, sums + 1.0], axis=1))
    assert draws[:, 2:] - draws[:, :2] == pytest.approx(50.0)


def test_draws_follow_from_the_seed_alone() -> None:
    sums = np.random.default_rng(1).random((30, 1))
    assert np.array_equal(resample(sums), resample(sums))
    assert np.array_equal(resample(sums, 500), resample(sums)[:500])
    assert not np.array_equal(resample(sums), resample(sums, seed=1))


def test_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(2).normal(10.0, 3.0, (400, 1))
    low, high = interval(resample(values)[:, 0] / 400)
    error = values.std() / 20
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.1 * error
    )


def test_interval_ends_are_draws() -> None:
    assert interval(np.arange(1000.0)) == (24.0, 974.0)
    assert interval(np.array([0.5, 0.25, np.inf])) == (0.25, np.inf)


def test_a_part_of_nothing_is_nothing_or_infinite() -> None:
    parts, wholes = np.array([1.0, 0.0, 2.0]), np.array([4.0, 0.0, 0.0])
    assert quotient(parts, wholes).tolist() == [0.25, 0.0, np.inf]


def test_there_must_be_sessions() -> None:
    with pytest.raises(ScoreError, match="there are 0 sessions, but draws need at least 1"):
        resample(np.zeros((0, 3)))
