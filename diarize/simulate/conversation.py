"""Conversations on one floor, many at once: held, handed over, taken early or commented on.

B sessions, S talkers of the largest of them, R of the sessions.
"""

import numpy as np
from scipy.special import gammaincinv, ndtr, ndtri

from diarize.audio import SAMPLE_RATE
from diarize.simulate.draws import Draws
from diarize.simulate.manner import Manner
from diarize.simulate.plan import Floats, Ints
from diarize.simulate.steer import Steer
from diarize.simulate.talks import PIECES, Talks, to_samples

BACKCHANNELS = 5
"""Most backchannels within one turn."""


class Conversation:
    """Who has the floor, and who had it before, turn by turn.

    Args:
        manner: how the floor passes on.
        talks: who talks; takes down what is said.
        steer: targets of silence and overlap, or None.
        draws: of these sessions.
        slowness: (B,) how much longer silences are than the manner says.
    """

    def __init__(
        self, manner: Manner, talks: Talks, steer: Steer | None, draws: Draws, slowness: Floats
    ) -> None:
        self._manner, self._talks, self._steer, self._draws = manner, talks, steer, draws
        self._slowness = slowness
        self._number = (talks.voice >= 0).sum(axis=1)
        shares = gammaincinv(manner.dominance, draws("share", talks.voice.shape[1]))
        shares = shares * (talks.voice >= 0)
        self._weights = manner.weights(shares)
        self._usual = ndtri(draws("habit", talks.voice.shape[1]))
        self._holder = _choice(draws("holder"), shares)
        everybody, after_gap = np.arange(len(slowness)), np.ones(len(slowness), dtype=np.int64)
        self._wanted = self._length(draws("first turn"), everybody, self._holder, after_gap)
        """(B,) how long the holder means to talk."""
        self._former = np.full(len(slowness), -1)
        self._free = np.zeros(talks.voice.shape, dtype=np.int64)
        self._position = to_samples(manner.pause(draws("begin")) * slowness)
        self._taken = np.zeros(len(slowness), dtype=np.int64)
        """(B,) how long the holder has talked when the one before him ends."""

    def go(self, rows: Ints, limit: Ints) -> None:
        """Let sessions ``rows`` (R,) go on to sample ``limit`` (B,)."""
        if self._steer is not None:
            self._steer.begin(self._position)
        round_, pieces = 0, PIECES if self._manner.fills else 1
        rows = rows[self._position[rows] < limit[rows]]
        while len(rows):
            drawn = self._draws("turn", 8 + PIECES, step=round_)[rows].T
            start, end = self._turn(rows, drawn[8:])
            for chance in range(BACKCHANNELS):
                step = round_ * BACKCHANNELS + chance
                words = self._draws("backchannel", 3 + pieces, step=step)[rows].T
                self._backchannel(rows, words, start, end, chance)
            self._pass_on(rows, drawn[:8], start, end)
            rows = rows[self._position[rows] < limit[rows]]
            round_ += 1

    def _turn(self, rows: Ints, pieces: Floats) -> tuple[Ints, Ints]:
        """The holders' turns: where they begin and end, (R,)."""
        manner, holder = self._manner, self._holder[rows]
        start = np.maximum(self._position[rows], self._free[rows, holder])
        # Who takes the floor keeps it beyond the words of whom he takes it from.
        wanted = np.maximum(self._wanted[rows], self._taken[rows] + SAMPLE_RATE // 10)
        end = self._talks.turn(rows, holder, start, wanted, pieces, manner.fills)
        self._free[rows, holder] = end
        return start, end

    def _pass_on(self, rows: Ints, drawn: Floats, start: Ints, end: Ints) -> None:
        """Who has the floor next, and from when on."""
        manner, holder = self._manner, self._holder[rows]
        seconds = (end - start) / SAMPLE_RATE
        holds = (self._number[rows] == 1) | (drawn[1] < manner.hold(seconds))
        following = np.where(holds, holder, self._following(drawn[5:7], rows, holder))
        early = ~holds & (drawn[2] < manner.interrupt(seconds))
        before = np.where(holds, 0, 1 + early)
        self._wanted[rows] = self._length(drawn[0], rows, following, before)
        silence = np.where(holds, manner.pause(drawn[3]), manner.gap(drawn[3]))
        silence = to_samples(silence * self._slowness[rows])
        shorter = np.minimum(seconds, self._wanted[rows] / SAMPLE_RATE)
        overlap = to_samples(manner.overlap(drawn[4], shorter))
        if self._steer is not None:
            early, silence, overlap = self._steer.decide(
                drawn[2], rows, end, silence, overlap, holds
            )
        overlap = np.where(early, np.minimum(overlap, end - start), 0)
        if self._steer is not None:
            self._steer.overlapped[rows] += overlap
        self._taken[rows] = overlap
        self._position[rows] = np.where(early, end - overlap, end + silence)
        self._former[rows] = np.where(holds, self._former[rows], holder)
        self._holder[rows] = following

    def _length(self, drawn: Floats, rows: Ints, talker: Ints, before: Ints) -> Ints:
        """Samples of turns of talkers, each of whom has a usual length of his own."""
        habit = self._manner.habit
        score = np.sqrt(habit) * self._usual[rows, talker] + np.sqrt(1 - habit) * ndtri(drawn)
        return to_samples(self._manner.turn(ndtr(score), before))

    def _following(self, drawn: Floats, rows: Ints, holder: Ints) -> Ints:
        """Who would take the floor from the holder, (R,)."""
        chances, former = self._weights[rows], self._former[rows]
        chances[np.arange(len(rows)), holder] = 0.0
        third = (former >= 0) & (self._number[rows] > 2)
        returned = third & (drawn[1] < self._manner.returns)
        return np.where(returned, former, _choice(drawn[0], chances))

    def _backchannel(self, rows: Ints, drawn: Floats, start: Ints, end: Ints, chance: int) -> None:
        """Somebody else says something within the turn, perhaps."""
        manner = self._manner
        expected = manner.backchannels((end - start) / SAMPLE_RATE)
        # Of a fit, each of the most that there are is as likely; else there is but one.
        share = expected / BACKCHANNELS if manner.fills else expected * (chance == 0)
        said = np.flatnonzero((self._number[rows] > 1) & (drawn[0] < share))
        row, number, room = rows[said], self._number[rows[said]], (end - start)[said]
        other = 1 + (drawn[1, said] * (number - 1)).astype(np.int64)
        other = (self._holder[row] + other) % number
        wanted = to_samples(manner.backchannel(drawn[2, said]))
        if manner.fills:  # each in its part of the turn, and ends within it, as what was fitted did
            wanted = np.minimum(wanted, room)
            after = (chance + drawn[3, said]) / BACKCHANNELS * (room - wanted)
        else:
            after = (0.2 + 0.7 * drawn[3, said]) * room
        at = np.maximum(start[said] + after.astype(np.int64), self._free[row, other])
        stop = self._talks.turn(row, other, at, wanted, drawn[3:, said], manner.fills)
        self._free[row, other] = stop
        if self._steer is not None:
            within = np.minimum(stop, end[said]) - at
            self._steer.overlapped[row] += np.maximum(within, 0)


def _choice(uniform: Floats, weights: Floats) -> Ints:
    """A column of each row (row, column), as often as its weight says."""
    reached = weights.cumsum(axis=1)
    chosen = (uniform[:, None] * reached[:, -1:] >= reached).sum(axis=1)
    return np.minimum(chosen, weights.shape[1] - 1)
