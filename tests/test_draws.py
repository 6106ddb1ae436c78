"""Random numbers of many sessions at once: each session's are its own."""

import numpy as np
import pytest

from diarize.simulate.draws import Draws


def draws(*index: int, seed: int = 0) -> Draws:
    return Draws(seed, np.array(index, dtype=np.int64))


def test_a_session_draws_alike_in_any_company() -> None:
    alone = [draws(index)("pause", 3, step=2) for index in (5, 0, 10**12)]
    together = draws(5, 0, 10**12)("pause", 3, step=2)
    assert np.array_equal(np.concatenate(alone), together)
    assert np.array_equal(draws(5)("pause", 7)[:, :3], draws(5)("pause", 3))


def test_sessions_seeds_names_and_steps_are_streams_of_their_own() -> None:
    streams = [
        draws(index, seed=seed)(name, 1000, step=step)
        for index in (0, 1)
        for seed in (0, 1)
        for name in ("pause", "gap")
        for step in (0, 1)
    ]
    table = np.concatenate(streams)
    assert len(np.unique(table)) == table.size
    assert np.abs(np.corrcoef(table) - np.eye(len(table))).max() < 0.15


def test_numbers_are_uniform_between_0_and_1() -> None:
    made = draws(*range(300))("x", 20, 10)
    assert made.shape == (300, 20, 10) and made.min() > 0 and made.max() < 1
    assert made.mean() == pytest.approx(0.5, abs=0.005)
    assert made.var() == pytest.approx(1 / 12, abs=0.002)
    counts, _ = np.histogram(made, 20, (0, 1))
    assert np.square(counts - 3000).sum() / 3000 < 50  # chi-square, 19 degrees of freedom
    flat = made.reshape(300, -1)
    assert abs(np.corrcoef(flat[:, :-1].ravel(), flat[:, 1:].ravel())[0, 1]) < 0.02
    assert abs(np.corrcoef(flat[:-1].ravel(), flat[1:].ravel())[0, 1]) < 0.02
