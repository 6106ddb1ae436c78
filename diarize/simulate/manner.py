"""How the floor of a simulated conversation passes on: from settings, or from what was fitted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diarize.simulate.plan import Floats, Ints
from diarize.simulate.settings import SimulationConfig
from diarize.turntaking import POINTS, TurnTaking, floor_weights

WORD = 0.8
"""Longest backchannel of conversations that are not fitted, seconds."""

SHARES = 3.0
"""Concentration of the Dirichlet distribution of shares of the floor, likewise."""


@dataclass(frozen=True)
class Manner:
    """What a conversation draws from: chances, and inverse distributions of uniform numbers.

    Attributes:
        dominance: concentration of the Dirichlet distribution of shares of the floor.
        weights: how likely each is to take the floor, of those shares (B, S).
        habit: how alike the turns of one speaker are in length, as a correlation.
        hold: how often who has the floor goes on after a pause, of the seconds of his turn.
        interrupt: how often another takes it early, else after a gap, likewise.
        returns: how often it goes back to who had it before, whatever the shares say.
        turn: seconds of a turn, of what came before: 0 a pause, 1 a gap, 2 an overlap.
        pause: seconds before the same speaker goes on.
        gap: seconds before another speaks.
        overlap: seconds by which another is early, of the seconds of the shorter of both turns.
        backchannel: seconds of a backchannel.
        backchannels: how many of them a turn of so many seconds has on average.
        fills: whether a turn takes as many utterances as it needs; else it is one, or part of it.
    """

    dominance: float
    weights: Callable[[Floats], Floats]
    habit: float
    hold: Callable[[Floats], Floats]
    interrupt: Callable[[Floats], Floats]
    returns: float
    turn: Callable[[Floats, Ints], Floats]
    pause: Callable[[Floats], Floats]
    gap: Callable[[Floats], Floats]
    overlap: Callable[[Floats, Floats], Floats]
    backchannel: Callable[[Floats], Floats]
    backchannels: Callable[[Floats], Floats]
    fills: bool

    @classmethod
    def from_settings(cls, config: SimulationConfig) -> "Manner":
        """Exponential pauses and overlaps; a turn is one utterance."""
        return cls(
            dominance=SHARES,
            weights=lambda shares: shares,
            habit=0.0,
            hold=_constant(config.hold),
            interrupt=_constant(config.overlap),
            returns=0.0,
            turn=lambda uniform, _: np.full(uniform.shape, config.max_turn),
            pause=exponential(config.pause),
            gap=exponential(config.pause),
            overlap=lambda uniform, _: exponential(config.overlap_duration)(uniform),
            backchannel=_constant(WORD),
            backchannels=_constant(config.backchannel),
            fills=False,
        )

    @classmethod
    def fitted(cls, fitted: TurnTaking) -> "Manner":
        """As the references were that were fitted."""
        hold, interrupt = np.array(fitted.hold), np.array(fitted.interrupt)
        rate, overlap = np.array(fitted.backchannels), _choice_of_quantiles(fitted.overlap)

        def band(seconds: Floats) -> Ints:
            return np.searchsorted(fitted.bands, seconds, "right")

        return cls(
            dominance=fitted.dominance,
            weights=floor_weights,
            habit=fitted.habit,
            hold=lambda seconds: hold[band(seconds)],
            interrupt=lambda seconds: interrupt[band(seconds)],
            returns=fitted.returns,
            turn=_choice_of_quantiles(fitted.turn),
            pause=_quantiles(fitted.pause),
            gap=_quantiles(fitted.gap),
            overlap=lambda uniform, seconds: overlap(uniform, band(seconds)),
            backchannel=_quantiles(fitted.backchannel),
            backchannels=lambda seconds: seconds * rate[band(seconds)],
            fills=True,
        )


def exponential(mean: float) -> Callable[[Floats], Floats]:
    """Exponentially distributed seconds of a mean."""
    return lambda uniform: -mean * np.log(uniform)


def _constant(value: float) -> Callable[[Floats], Floats]:
    return lambda uniform: np.full(uniform.shape, value)


def _quantiles(values: list[float]) -> Callable[[Floats], Floats]:
    """A distribution by its quantiles; where none was seen, no time at all."""
    table = np.array(values or [0.0, 0.0])
    places = np.linspace(0, 1, len(table))
    return lambda uniform: np.interp(uniform, places, table)


def _choice_of_quantiles(values: list[list[float]]) -> Callable[[Floats, Ints], Floats]:
    """One of several distributions, by number."""
    table = np.array([own or [0.0] * POINTS for own in values])

    def drawn(uniform: Floats, which: Ints) -> Floats:
        place = uniform * (POINTS - 1)
        below = place.astype(np.int64)
        low, high = table[which, below], table[which, below + 1]
        return low + (place - below) * (high - low)

    return drawn
