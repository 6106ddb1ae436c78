"""How the floor of a simulated conversation passes on: from settings, or from what was fitted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from diarize.simulate.plan import Floats
from diarize.simulate.settings import SimulationConfig
from diarize.turntaking import TurnTaking

WORD = 0.8
"""Longest backchannel of conversations that are not fitted, seconds."""

SHARES = 3.0
"""Concentration of the Dirichlet distribution of shares of the floor, likewise."""


@dataclass(frozen=True)
class Manner:
    """What a conversation draws from: chances, and inverse distributions of uniform numbers.

    Attributes:
        dominance: concentration of the Dirichlet distribution of shares of the floor.
        hold: how often who has the floor goes on after a pause.
        interrupt: how often another takes it early, else after a gap.
        returns: how often it goes back to who had it before; NaN: as often as shares say.
        turn: seconds of a turn.
        pause: seconds before the same speaker goes on.
        gap: seconds before another speaks.
        overlap: seconds by which another is early.
        backchannel: seconds of a backchannel.
        backchannels: how many of them a turn of so many seconds has on average.
        fills: whether a turn takes as many utterances as it needs; else it is one, or part of it.
    """

    dominance: float
    hold: float
    interrupt: float
    returns: float
    turn: Callable[[Floats], Floats]
    pause: Callable[[Floats], Floats]
    gap: Callable[[Floats], Floats]
    overlap: Callable[[Floats], Floats]
    backchannel: Callable[[Floats], Floats]
    backchannels: Callable[[Floats], Floats]
    fills: bool

    @classmethod
    def from_settings(cls, config: SimulationConfig) -> "Manner":
        """Exponential pauses and overlaps; a turn is one utterance."""
        return cls(
            dominance=SHARES,
            hold=config.hold,
            interrupt=config.overlap,
            returns=np.nan,
            turn=_constant(config.max_turn),
            pause=exponential(config.pause),
            gap=exponential(config.pause),
            overlap=exponential(config.overlap_duration),
            backchannel=_constant(WORD),
            backchannels=_constant(config.backchannel),
            fills=False,
        )

    @classmethod
    def fitted(cls, fitted: TurnTaking) -> "Manner":
        """As the references were that were fitted."""
        return cls(
            dominance=fitted.dominance,
            hold=fitted.hold,
            interrupt=fitted.interrupt,
            returns=fitted.returns,
            turn=_quantiles(fitted.turn),
            pause=_quantiles(fitted.pause),
            gap=_quantiles(fitted.gap),
            overlap=_quantiles(fitted.overlap),
            backchannel=_quantiles(fitted.backchannel),
            backchannels=lambda seconds: seconds * fitted.backchannels,
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
