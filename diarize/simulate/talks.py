"""Who talks in a batch of sessions, in which words, and what has been said so far.

B sessions, S talkers of the largest of them, E utterances of all.
"""

import numpy as np

from diarize.audio import SAMPLE_RATE
from diarize.corpus import Corpus
from diarize.errors import ConfigError
from diarize.simulate.draws import Draws
from diarize.simulate.plan import Floats, Ints, Script
from diarize.simulate.settings import SimulationConfig

PIECES = 12
"""Most utterances that make one turn of a fitted conversation."""

SHORTEST = 0.1
"""Seconds of a turn that are not worth another utterance."""

PRIMES = np.array([15485863, 32452843, 49979687, 67867967, 86028121, 104395301, 122949823])
"""Strides through a speaker's utterances; each visits all of them before one repeats."""


class Voices:
    """Whose utterances there are to choose from.

    Args:
        config: how sessions go and sound.
        corpus: utterances, at all speeds of the settings.
        weights: how often 1, 2, 3, … speak.

    Attributes:
        enough: (speaker,) those with enough speech, at the first speed.
    """

    def __init__(self, config: SimulationConfig, corpus: Corpus, weights: Floats) -> None:
        self.corpus = corpus
        self.reached = weights.cumsum() / weights.sum()
        per = len(corpus.speeds)
        speech = np.bincount(corpus.voice, corpus.length, minlength=len(corpus.speakers))[::per]
        self.enough = (
            np.flatnonzero(speech * corpus.speeds[0] >= config.min_voice * SAMPLE_RATE) * per
        )
        most = int(np.flatnonzero(weights).max()) + 1
        if len(self.enough) < most:
            raise ConfigError(
                f"{corpus.where}: has {len(self.enough)} speakers with at least "
                f"{config.min_voice:g} s of speech, but num_speakers asks for {most}. "
                "Add speech, or lower min_voice."
            )
        self.speeds = np.array([corpus.speeds.index(speed) for speed in config.speed])
        self.order = np.argsort(corpus.voice, kind="stable")
        self.count = np.bincount(corpus.voice, minlength=len(corpus.speakers))
        self.first = np.cumsum(self.count) - self.count


class Talks:
    """Who talks in a batch of sessions, and what has been said so far.

    Args:
        voices: to choose from.
        draws: of these sessions.

    Attributes:
        voice: (B, S) index into the corpus's speakers, -1 beyond a session's talkers.
    """

    def __init__(self, voices: Voices, draws: Draws) -> None:
        self._voices = voices
        count = 1 + np.searchsorted(voices.reached, draws("count"), "right")
        slots = int(count.max())
        ranks = draws("voice", len(voices.enough))
        best = np.argpartition(ranks, slots - 1, axis=1)[:, :slots]
        order = np.take_along_axis(ranks, best, 1).argsort(axis=1)
        base = voices.enough[np.take_along_axis(best, order, 1)]
        speed = voices.speeds[(draws("speed", slots) * len(voices.speeds)).astype(np.int64)]
        self.voice = np.where(np.arange(slots) < count[:, None], base + speed, -1)
        self._stride = PRIMES[(draws("stride", slots) * len(PRIMES)).astype(np.int64)]
        self._begin = (draws("begin with", slots) * 2**40).astype(np.int64)
        self._used = np.zeros(self.voice.shape, dtype=np.int64)
        self._said: list[tuple[Ints, ...]] = []

    def utterance(self, rows: Ints, talkers: Ints, which: Ints) -> Ints:
        """The ``which``-th utterance of talkers; all are used before one repeats."""
        voices, voice = self._voices, np.maximum(self.voice[rows, talkers], 0)
        place = self._begin[rows, talkers] + self._stride[rows, talkers] * which
        return voices.order[voices.first[voice] + place % voices.count[voice]]

    def take(
        self, rows: Ints, talkers: Ints, wanted: Ints, drawn: Floats
    ) -> tuple[Ints, Ints, Ints]:
        """Talkers' next utterances, or random parts of so many samples: which, from, how long."""
        utterance = self.utterance(rows, talkers, self._used[rows, talkers])
        self._used[rows, talkers] += 1
        whole = self._voices.corpus.length[utterance]
        length = np.minimum(whole, np.maximum(wanted, 1))
        return utterance, (drawn * (whole - length + 1)).astype(np.int64), length

    def say(
        self, row: Ints, talker: Ints, utterance: Ints, first: Ints | int, start: Ints, length: Ints
    ) -> None:
        """Note utterances of sessions ``row``."""
        first = np.broadcast_to(np.asarray(first, dtype=np.int64), row.shape)
        self._said.append((row, talker, utterance, first, start, length))

    def turn(
        self, rows: Ints, talker: Ints, start: Ints, wanted: Ints, drawn: Floats, fills: bool
    ) -> Ints:
        """Talkers' turns from ``start`` on; where they end."""
        end, last = start.copy(), start + wanted
        open_ = np.arange(len(rows))
        for piece in range(PIECES if fills else 1):
            row, who = rows[open_], talker[open_]
            utterance, first, length = self.take(row, who, (last - end)[open_], drawn[piece, open_])
            self.say(row, who, utterance, first, end[open_], length)
            end[open_] += length
            open_ = open_[(last - end)[open_] > SHORTEST * SAMPLE_RATE]
            if not len(open_):
                break
        return end

    def script(self, before: Ints, num_samples: Ints | None) -> Script:
        """What was said from sample ``before`` on, by session and time."""
        columns = zip(*self._said, strict=True) if self._said else [[]] * 6
        session, talker, utterance, first, start, length = (
            np.concatenate([np.zeros(0, dtype=np.int64), *column]) for column in columns
        )
        start = start - before[session]
        if num_samples is None:
            num_samples = np.zeros(len(before), dtype=np.int64)
            np.maximum.at(num_samples, session, start + length)
        head = np.maximum(-start, 0)
        first, start, length = first + head, start + head, length - head
        length = np.minimum(length, num_samples[session] - start)
        heard = np.flatnonzero(length > 0)
        heard = heard[np.lexsort((talker[heard], start[heard], session[heard]))]
        events = (session, talker, utterance, first, start, length)
        return Script(num_samples, self.voice, *(column[heard] for column in events))


def to_samples(seconds: Floats | float | None) -> Ints:
    """The nearest numbers of samples."""
    return np.rint(np.asarray(seconds, dtype=np.float64) * SAMPLE_RATE).astype(np.int64)
