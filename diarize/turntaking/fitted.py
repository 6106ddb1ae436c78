"""Turn-taking as numbers that a simulator can draw from, and their file."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarize.errors import ConfigError, RttmError
from diarize.files import named_or_path, read_lines, write_text
from diarize.turntaking.observed import GAP, NOTHING, OVERLAP, PAUSE, Observed

Floats = NDArray[np.float64]

POINTS = 101
"""Of a distribution, its quantiles from 0 to 1 in steps of a hundredth."""

MOST_BANDS = 10
"""Of turns by their length, if there are many."""

IN_BAND = 100
"""Turns that a band needs."""


@dataclass(frozen=True)
class TurnTaking:
    """How conversations go, as numbers that a simulator can draw from.

    Attributes:
        sessions: how many it was fitted to.
        hours: of them.
        num_speakers: how often 1, 2, 3, … speak.
        dominance: concentration of the Dirichlet distribution of how often each takes the floor:
            the lower, the more often one of them does.
        habit: how alike the turns of one speaker are in length: the correlation of normal scores.
        returns: how often the floor goes back to who had it before for that reason alone, rather
            than to anybody.
        silence: share of the time in which nobody speaks.
        overlapped: share of speech in which two or more do.
        bands: seconds at which one band of turns of like length ends and the next begins.
        hold: how often who has the floor goes on, by the band of his turn; so are the next two.
        interrupt: how often another who takes it does so before he ends; else after a gap.
        backchannels: within a second of the turn.
        pause: quantiles, seconds, the last one such that the largest hundredth keeps its mean; so
            are the rest. Before the same speaker.
        gap: before another.
        backchannel: length of one.
        turn: of a turn, by what came before: a pause, a gap, an overlap.
        overlap: of an interruption, by the band of the shorter of its two turns.
    """

    sessions: int
    hours: float
    num_speakers: list[float]
    dominance: float
    habit: float
    returns: float
    silence: float
    overlapped: float
    bands: list[float]
    hold: list[float]
    interrupt: list[float]
    backchannels: list[float]
    pause: list[float]
    gap: list[float]
    backchannel: list[float]
    turn: list[list[float]]
    overlap: list[list[float]]


QUANTILES = ("turn", "pause", "gap", "overlap", "backchannel")
"""Distributions, of `Observed` and `TurnTaking` alike."""

BY_BAND = ("hold", "interrupt", "backchannels")
"""Chances by band."""


def fit(observed: Observed) -> TurnTaking:
    """Chances and distributions of what was seen.

    Raises:
        RttmError: if there is no turn that another one follows.
    """
    if not (observed.follows != NOTHING).any():
        raise RttmError(
            f"the references have {len(observed.turn)} turns in {len(observed.speakers)} sessions, "
            "but turn-taking needs at least 2 in one. Give more references."
        )
    number = int(np.clip(len(observed.turn) // IN_BAND, 1, MOST_BANDS))
    bands = _rounded(np.quantile(observed.turn, np.arange(1, number) / number))
    band = np.searchsorted(bands, observed.turn, "right")
    known, passes = observed.follows != NOTHING, observed.follows > PAUSE

    def by_band(count: NDArray[Any], of: NDArray[Any]) -> list[float]:
        """A ratio in each band; that of all turns where there is none."""
        some, all_ = (np.bincount(band, values * 1.0, number) for values in (count, of))
        mean = count.sum() / max(of.sum(), 1e-9)
        return _rounded(np.where(all_ > 0, some / np.maximum(all_, 1e-9), mean), 4)

    shorter = np.searchsorted(bands, observed.shorter, "right")
    overlaps = [observed.overlap[shorter == k] for k in range(number)]
    before = np.concatenate([[NOTHING], observed.follows[:-1]])
    turns = [observed.turn[before == kind] for kind in (PAUSE, GAP, OVERLAP)]
    chance = observed.changed - observed.expected
    counts = np.bincount(observed.speakers)[1:]
    return TurnTaking(
        sessions=len(observed.speakers),
        hours=round(observed.total / 3600, 3),
        num_speakers=_rounded(counts / counts.sum()),
        dominance=round(_concentration(observed), 3),
        habit=round(float(np.clip(observed.habit, 0.0, 0.99)), 4),
        returns=round(max(observed.returned - observed.expected, 0.0) / max(chance, 1e-9), 4),
        silence=round(observed.silence, 4),
        overlapped=round(observed.overlapped, 4),
        bands=bands,
        hold=by_band(observed.follows == PAUSE, known),
        interrupt=by_band(observed.follows == OVERLAP, passes),
        backchannels=by_band(observed.comments, observed.turn),
        pause=_quantiles(observed.pause),
        gap=_quantiles(observed.gap),
        backchannel=_quantiles(observed.backchannel),
        turn=[_quantiles(own if len(own) else observed.turn) for own in turns],
        overlap=[_quantiles(own if len(own) else observed.overlap) for own in overlaps],
    )


def write_turn_taking(destination: str | Path, fitted: TurnTaking) -> None:
    """Write a fit as JSON, a key a line."""
    lines = [f'  "{name}": {json.dumps(value)}' for name, value in asdict(fitted).items()]
    write_text(destination, "{\n" + ",\n".join(lines) + "\n}\n")


def read_turn_taking(path_or_name: str | Path) -> TurnTaking:
    """A fit from its file, or by the name of one that is shipped.

    Raises:
        ConfigError: if there is no such file, or it holds something else.
    """
    path = named_or_path(path_or_name, "turntaking", ".json")
    try:
        values = json.loads("\n".join(read_lines(path, ConfigError)))
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}: is not JSON ({error.msg}).") from None
    return _checked(path, values)


def _checked(path: Path, values: Any) -> TurnTaking:
    """A fit whose every value is of its kind."""
    names = [field.name for field in fields(TurnTaking)]
    if not isinstance(values, dict) or sorted(values) != sorted(names):
        found = ", ".join(sorted(values)) if isinstance(values, dict) else type(values).__name__
        raise ConfigError(
            f"{path}: holds {found or 'nothing'}, but a fit holds {', '.join(names)}. Make one "
            "with `diarize simulate fit`."
        )
    for name in names:
        value, bands = values[name], values["bands"]
        sound, wanted = _numbers(value), "a list of numbers, at least 0"
        if name in ("turn", "overlap"):
            number = 3 if name == "turn" else _count(bands) + 1
            sound = _count(value) == number and all(_quantile(each) for each in value)
            wanted = f"{number} times {POINTS} rising numbers"
        elif name in QUANTILES:
            sound, wanted = _quantile(value), f"{POINTS} rising numbers"
        elif name in BY_BAND:
            most = np.inf if name == "backchannels" else 1.0
            sound = sound and len(value) == _count(bands) + 1 and max(value) <= most
            wanted = f"{_count(bands) + 1} numbers, from 0 to {most:g}, one for each band"
        elif name == "bands":
            sound, wanted = sound and value == sorted(value), "a list of rising numbers"
        elif name != "num_speakers":
            sound, wanted = _numbers([value]), "at least 0"
        if not sound:
            raise ConfigError(
                f"{path}: {name} is {json.dumps(value)[:40]}, but it is {wanted}. Fit again."
            )
    if not sum(values["num_speakers"]) > 0 or not all(values["turn"]):
        raise ConfigError(f"{path}: has no turns or no speakers. Fit again.")
    return TurnTaking(**values)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < 1e9 for n in value
    )


def _quantile(value: Any) -> bool:
    return _numbers(value) and len(value) in (0, POINTS) and value == sorted(value)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _concentration(observed: Observed) -> float:
    """Of the Dirichlet distribution whose shares vary as much as those that were seen.

    With S speakers and concentration c the squares of all shares sum to (c + 1) / (S c + 1).
    """
    estimates = []
    for count in np.unique(observed.speakers[observed.speakers > 1]):
        own = observed.shares[observed.speakers == count]
        squares = float(np.square(own).sum(axis=1).mean())
        estimates += [(1 - squares) / max(count * squares - 1, 1e-3)] * len(own)
    return float(np.clip(np.mean(estimates), 0.1, 100.0)) if estimates else 100.0


def _quantiles(values: Floats) -> list[float]:
    if not len(values):
        return []
    points = np.quantile(values, np.linspace(0, 1, POINTS))
    # The largest hundredth keeps its mean: between its ends, the rare longest would weigh too much.
    largest = values[values >= points[-2]]
    points[-1] = np.clip(2 * largest.mean() - points[-2], points[-2], points[-1])
    return _rounded(points)


def _rounded(values: Floats, digits: int = 3) -> list[float]:
    return [round(float(value), digits) for value in values]
