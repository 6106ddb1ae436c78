"""The best of all post-processing: drawn at random, then refined step by step.

Settings are hundredths, as the published ones nearly are. A threshold for the end of speech above
that for its begin is left out: between the two speech would toggle every 10 ms, which padding
joins to what one threshold gives.
"""

from collections.abc import Callable, Iterator
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from diarize.postprocess import PostprocessConfig
from diarize.tune.trials import Trials

Setting = tuple[int, ...]
"""Hundredths, in the order of the fields of ``PostprocessConfig``."""

LEAST = (5, 5, 0, 0, 0, 0)
MOST = (95, 95, 50, 50, 100, 100)
"""Between which settings are sought: thresholds, then seconds."""

STRIDES = (16, 8, 4, 2, 1)
"""Hundredths by which a setting is changed, the long ones first."""

DIRECTIONS = (*np.eye(6, dtype=int).tolist(), [1, 1, 0, 0, 0, 0])
"""What is changed at a time: one setting, or both thresholds."""

REFINED = 3
"""So many of the best draws are refined, besides the setting that there was before."""

SLIGHT = 1e-6
"""Seconds of error by which a setting must be better to be taken instead."""

Floats = NDArray[np.float64]


def size() -> int:
    """How many settings there are to choose from."""
    least, most = np.array(LEAST), np.array(MOST)
    thresholds = int(most[0] - least[0] + 1)
    return thresholds * (thresholds + 1) // 2 * int(np.prod(most[2:] - least[2:] + 1))


def to_config(setting: Setting) -> PostprocessConfig:
    """The settings as they are used."""
    return PostprocessConfig(*(value / 100 for value in setting))


class Search:
    """Finds what errs least on some of the sessions, and remembers all that was ever tried.

    What is tried on one session is tried on all at once, so that searches on other sessions, as
    cross-validation needs them, find most of it done. None looks at sessions but its own.

    Args:
        trials: all sessions.
        before: the setting from which one search begins.
        num_draws: settings drawn first.
        seed: of the draws.

    Attributes:
        start: the setting before, in hundredths, within what is searched.
    """

    def __init__(
        self, trials: Trials, before: PostprocessConfig, num_draws: int, seed: int
    ) -> None:
        self._trials = trials
        self._wrong: dict[Setting, Floats] = {}
        self.start = _nearest(before)
        self._draws = _draws(num_draws, seed)

    @property
    def num_tried(self) -> int:
        """Different settings so far."""
        return len(self._wrong)

    def draw(self) -> Iterator[int]:
        """Try the draws, one at a step."""
        for number, setting in enumerate(self._draws):
            self.wrong(setting)
            yield number

    def wrong(self, setting: Setting) -> Floats:
        """(session,), seconds of error."""
        if setting not in self._wrong:
            self._wrong[setting] = self._trials.errors(to_config(setting)).sum(axis=1)
        return self._wrong[setting]

    def best(self, sessions: NDArray[np.bool_]) -> Setting:
        """What errs least on these sessions; among equals what comes from the setting before."""

        def wrong(setting: Setting) -> float:
            return float(self.wrong(setting)[sessions].sum())

        starts = [self.start, *sorted(self._draws, key=wrong)[:REFINED]]
        found = [_refined(start, wrong) for start in starts]
        least = min(map(wrong, found))
        return next(setting for setting in found if wrong(setting) < least + SLIGHT)

    def best_so_far(self) -> Setting:
        """The best on all sessions of what has been tried."""
        return min(self._wrong, key=lambda setting: self._wrong[setting].sum())


def _refined(setting: Setting, wrong: Callable[[Setting], float]) -> Setting:
    """The end of a walk from a setting to ever better neighbours.

    Strides become shorter whenever no neighbour is better, and long again once they have been
    short, until a whole round of them has found nothing.
    """
    begun = None
    while begun is None or wrong(setting) < wrong(begun) - SLIGHT:
        begun = setting
        for stride in STRIDES:
            while True:
                better = min(_neighbours(setting, stride), key=wrong)
                if not wrong(better) < wrong(setting) - SLIGHT:
                    break
                setting = better
    return setting


def _neighbours(setting: Setting, stride: int) -> list[Setting]:
    """What is one stride away."""
    steps = np.array([*DIRECTIONS, *np.negative(DIRECTIONS)]) * stride
    near = dict.fromkeys(_allowed(step) for step in np.array(setting) + steps)
    near.pop(setting, None)
    return list(near)


def _allowed(values: NDArray[np.int64]) -> Setting:
    """The nearest setting to choose from."""
    onset, offset, *seconds = np.clip(values, LEAST, MOST).tolist()
    return (onset, min(onset, offset), *seconds)


def _nearest(config: PostprocessConfig) -> Setting:
    return _allowed(np.rint(np.array(astuple(config)) * 100).astype(np.int64))


def _draws(count: int, seed: int) -> list[Setting]:
    """Settings of which every hundredth is drawn about as often; short times more often."""
    rng = np.random.default_rng(seed)
    strata = rng.permuted(np.tile(np.arange(count), (6, 1)), axis=1)
    part = (strata + rng.random((6, count))) / max(count, 1)
    part[1] *= part[0]  # of the thresholds for the end, those below that for the begin
    part[2:] **= 2
    least, most = np.array(LEAST)[:, None], np.array(MOST)[:, None]
    return [_allowed(row) for row in np.rint(least + part * (most - least)).astype(int).T]
