"""How people take turns: pauses, gaps, overlaps, backchannels, measured in references.

One speaker has the floor. What comes next is one of four: he goes on after a *pause*; another
takes over after a *gap*; another takes over before he has ended, an interruption with an
*overlap*; or another says something within his turn, a *backchannel*, and the floor stays where it
is. (Pauses, gaps and overlaps as in Heldner and Edlund 2010, "Pauses, gaps and overlaps in
conversations"; the four transitions as in Yamashita et al. 2022, "Improving the naturalness of
simulated conversations for end-to-end neural diarization".)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarize.errors import ConfigError, RttmError
from diarize.files import named_or_path, read_lines, write_text
from diarize.turns import Turn, merge

Floats = NDArray[np.float64]

JOIN = 0.2
"""Seconds of silence within which a speaker's words are one turn."""

POINTS = 101
"""Of a distribution, its quantiles from 0 to 1 in steps of a hundredth."""


@dataclass(frozen=True)
class Observed:
    """All that was seen of how people take turns; everything in seconds unless it says otherwise.

    Attributes:
        turn: (n,) how long who has the floor speaks at a time.
        pause: (n,) silence after which he goes on.
        gap: (n,) silence after which another speaks.
        overlap: (n,) how long two speak where another takes over early.
        backchannel: (n,) how long somebody speaks within another's turn.
        speakers: (session,) how many speak.
        shares: (session, speaker) of the time that each speaks, largest first, 0 beyond.
        total: from the first to the last word, summed over sessions.
        speech: with at least one speaker.
        overlapped: with at least two.
        returned: how often a floor that changes goes back to who had it before.
        changed: how often it changes where it might go back.
    """

    turn: Floats
    pause: Floats
    gap: Floats
    overlap: Floats
    backchannel: Floats
    speakers: NDArray[np.int64]
    shares: Floats
    total: float
    speech: float
    overlapped: float
    returned: int
    changed: int


@dataclass(frozen=True)
class TurnTaking:
    """How conversations go, as numbers that a simulator can draw from.

    Attributes:
        sessions: how many it was fitted to.
        hours: of them.
        num_speakers: how often 1, 2, 3, … speak.
        dominance: concentration of the Dirichlet distribution of speakers' shares: the lower, the
            more one of them speaks.
        hold: how often who has the floor goes on.
        interrupt: how often another takes it before he ends; else after a gap.
        returns: how often it then goes back to who had it before.
        backchannels: within a second of somebody's turn.
        silence: share of the time in which nobody speaks.
        overlapped: share of speech in which two or more do.
        turn: quantiles, seconds, the last one such that the largest hundredth keeps its mean; so
            are the next four.
        pause: before the same speaker.
        gap: before another.
        overlap: of an interruption.
        backchannel: length of one.
    """

    sessions: int
    hours: float
    num_speakers: list[float]
    dominance: float
    hold: float
    interrupt: float
    returns: float
    backchannels: float
    silence: float
    overlapped: float
    turn: list[float]
    pause: list[float]
    gap: list[float]
    overlap: list[float]
    backchannel: list[float]


QUANTILES = ("turn", "pause", "gap", "overlap", "backchannel")
"""Distributions, of `Observed` and `TurnTaking` alike."""


def observe(sessions: Mapping[str, Sequence[Turn]], join: float = JOIN) -> Observed:
    """What is seen of turn-taking in references.

    Args:
        sessions: turns by session.
        join: a speaker's turns with at most so many seconds between them are one.
    """
    seen: dict[str, list[float]] = {name: [] for name in QUANTILES}
    shares: list[list[float]] = []
    total = speech = overlapped = 0.0
    returned = changed = 0
    for turns in sessions.values():
        joined = merge(turns, join)
        if not joined:
            continue
        shares.append(_shares(joined))
        total += max(turn.end for turn in joined) - joined[0].start
        spoken, twice = _covered(joined)
        speech, overlapped = speech + spoken, overlapped + twice
        floor, before = joined[0], None
        for turn in joined[1:]:
            if turn.speaker != floor.speaker and turn.end <= floor.end:
                seen["backchannel"].append(turn.duration)
                continue
            seen["turn"].append(floor.duration)
            if turn.speaker == floor.speaker:
                seen["pause"].append(turn.start - floor.end)
            else:
                late = turn.start - floor.end
                seen["gap" if late >= 0 else "overlap"].append(abs(late))
                if before is not None and len(shares[-1]) > 2:
                    changed += 1
                    returned += turn.speaker == before
                before = floor.speaker
            floor = turn
        seen["turn"].append(floor.duration)
    most = max((len(each) for each in shares), default=0)
    return Observed(
        **{name: np.array(values) for name, values in seen.items()},
        speakers=np.array([len(each) for each in shares], dtype=np.int64),
        shares=np.array([each + [0.0] * (most - len(each)) for each in shares]),
        total=total,
        speech=speech,
        overlapped=overlapped,
        returned=returned,
        changed=changed,
    )


def fit(observed: Observed) -> TurnTaking:
    """Distributions of what was seen.

    Raises:
        RttmError: if there is no turn that another one follows.
    """
    after = {name: len(getattr(observed, name)) for name in ("pause", "gap", "overlap")}
    transitions = sum(after.values())
    if not transitions:
        raise RttmError(
            f"the references have {len(observed.turn)} turns in {len(observed.speakers)} sessions, "
            "but turn-taking needs at least 2 in one. Give more references."
        )
    switches = after["gap"] + after["overlap"]
    counts = np.bincount(observed.speakers)[1:]
    return TurnTaking(
        sessions=len(observed.speakers),
        hours=round(observed.total / 3600, 3),
        num_speakers=_rounded(counts / counts.sum()),
        dominance=round(_concentration(observed), 3),
        hold=round(after["pause"] / transitions, 4),
        interrupt=round(after["overlap"] / switches, 4) if switches else 0.0,
        returns=round(observed.returned / observed.changed, 4) if observed.changed else 0.0,
        backchannels=round(len(observed.backchannel) / float(observed.turn.sum()), 5),
        silence=round(1 - observed.speech / observed.total, 4),
        overlapped=round(observed.overlapped / observed.speech, 4),
        **{name: _quantiles(getattr(observed, name)) for name in QUANTILES},
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
        value, listed = values[name], name in QUANTILES or name == "num_speakers"
        numbers = value if isinstance(value, list) and listed else [value]
        sound = isinstance(value, list) == listed and all(
            isinstance(n, int | float) and not isinstance(n, bool) and 0 <= n < 1e9 for n in numbers
        )
        if sound and name in QUANTILES:
            sound = len(numbers) in (0, POINTS) and numbers == sorted(numbers)
        if not sound:
            wanted = f"{POINTS} rising numbers" if name in QUANTILES else "at least 0"
            raise ConfigError(
                f"{path}: {name} is {json.dumps(value)[:40]}, but it is {wanted}. Fit again."
            )
    if not sum(values["num_speakers"]) > 0 or not values["turn"] or values["hold"] > 1:
        raise ConfigError(f"{path}: has no turns or no speakers. Fit again.")
    return TurnTaking(**values)


def _shares(turns: Sequence[Turn]) -> list[float]:
    """Of the time that each speaks, largest first."""
    spoken: dict[str, float] = {}
    for turn in turns:
        spoken[turn.speaker] = spoken.get(turn.speaker, 0.0) + turn.duration
    total = sum(spoken.values())
    return sorted((each / total for each in spoken.values()), reverse=True)


def _covered(turns: Sequence[Turn]) -> tuple[float, float]:
    """Seconds in which at least one, and at least two speak."""
    edges = sorted([(turn.start, 1) for turn in turns] + [(turn.end, -1) for turn in turns])
    once = twice = last = 0.0
    speaking = 0
    for time, change in edges:
        once += (time - last) * (speaking >= 1)
        twice += (time - last) * (speaking >= 2)
        speaking, last = speaking + change, time
    return once, twice


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


def _rounded(values: Floats) -> list[float]:
    return [round(float(value), 3) for value in values]
