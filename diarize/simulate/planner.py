"""Sessions drawn as arrays, many at once, before any audio is touched.

B sessions, S talkers of the largest of them, E utterances of all.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri

from diarize.corpus import Corpus
from diarize.simulate.conversation import Conversation
from diarize.simulate.draws import Draws
from diarize.simulate.manner import Manner, exponential
from diarize.simulate.plan import Floats, Ints, Plan, Scene, Script
from diarize.simulate.settings import SimulationConfig
from diarize.simulate.steer import Steer
from diarize.simulate.talks import Talks, Voices, to_samples
from diarize.turntaking import read_turn_taking

SPARSE = 20.0
"""How much longer the silences of a sparse session are."""

MIDST = 15.0
"""Most seconds that a session heard from its midst on has been going on."""

TELEPHONE = (300.0, 3400.0)
"""The band that a telephone line passes, Hz."""

TWO = [0.0, 1.0]
"""Speakers, where neither settings nor a fit say how many."""


class Planner:
    """Draws plans of sessions ``index`` of a seed.

    Args:
        config: how sessions go and sound.
        corpus: utterances, at all speeds of the settings.
        noise: background noises, or None.
        places: (room,) how many each room has.
        seed: another seed is another, unrelated stream of sessions.

    Attributes:
        voices: whose utterances there are.
    """

    def __init__(
        self,
        config: SimulationConfig,
        corpus: Corpus,
        noise: Corpus | None,
        places: Sequence[int],
        seed: int,
    ) -> None:
        self.config, self.corpus, self.seed = config, corpus, seed
        self._noise, self._places = noise, np.array(places, dtype=np.int64)
        fitted = None if config.turn_taking is None else read_turn_taking(config.turn_taking)
        self._manner = Manner.from_settings(config) if fitted is None else Manner.fitted(fitted)
        weights = config.num_speakers or (fitted.num_speakers if fitted else TWO)
        self.voices = Voices(config, corpus, np.array(weights, dtype=np.float64))

    def plan(self, index: Ints) -> Plan:
        """Sessions ``index`` (B,), each as if it were drawn alone."""
        config, draws = self.config, Draws(self.seed, index)
        talks = Talks(self.voices, draws)
        slowness = np.where(draws("sparse") < config.sparse, SPARSE, 1.0)
        midst = draws("midst") < config.midst
        before = to_samples(np.where(midst, draws("before") * MIDST, 0.0))
        endless = config.duration is None
        limit = before + (np.iinfo(np.int64).max // 2 if endless else to_samples(config.duration))
        independent = draws("style") < config.independent_share
        self._independent(talks, draws, limit, slowness, np.flatnonzero(independent))
        conversation = Conversation(self._manner, talks, Steer.of(config, draws), draws, slowness)
        conversation.go(np.flatnonzero(~independent), limit)
        script = talks.script(before, None if endless else limit - before)
        return Plan(script, self._scene(script, draws))

    def _independent(
        self, talks: Talks, draws: Draws, limit: Ints, slowness: Floats, rows: Ints
    ) -> None:
        """Utterances with exponential silences before each, whoever else is talking.

        Fujita et al. 2019, EEND, Algorithm 1.
        """
        config, (_, slots) = self.config, talks.voice.shape
        most = config.max_utterances
        spread = most - config.min_utterances + 1
        number = config.min_utterances + (draws("utterances", slots) * spread).astype(np.int64)
        seconds = exponential(config.silence)(draws("silence", slots, most))
        silence = to_samples(seconds * slowness[:, None, None])[rows]
        utterance = talks.utterance(rows[:, None, None], np.arange(slots)[:, None], np.arange(most))
        length = self.corpus.length[utterance]
        start = (silence + length).cumsum(axis=2) - length
        said = np.arange(most) < number[rows][:, :, None]
        said &= (talks.voice[rows] >= 0)[:, :, None] & (start < limit[rows][:, None, None])
        row, talker, which = np.nonzero(said)
        talks.say(
            rows[row], talker, utterance[row, talker, which], 0,
            start[row, talker, which], length[row, talker, which],
        )  # fmt: skip

    def _scene(self, script: Script, draws: Draws) -> Scene:
        """Rooms, noises and lines."""
        config, (num_sessions, slots) = self.config, script.voice.shape
        room = noise = np.full(num_sessions, -1)
        noise_start = np.zeros(num_sessions, dtype=np.int64)
        place = np.zeros(script.voice.shape, dtype=np.int64)
        if len(self._places):
            which = (draws("room") * len(self._places)).astype(np.int64)
            room = np.where(draws("reverberation") < config.reverberation, which, -1)
            order = draws("place", int(self._places.max()))
            order[np.arange(order.shape[1]) >= self._places[which][:, None]] = 2.0  # no place
            talker = np.arange(slots) % self._places[which][:, None]
            place = np.take_along_axis(order.argsort(axis=1), talker, axis=1)
        if self._noise is not None:
            which = (draws("which noise") * len(self._noise.length)).astype(np.int64)
            noise = np.where(draws("noise") < config.noise, which, -1)
            spare = np.maximum(self._noise.length[which] - script.num_samples, 0)
            noise_start = (draws("noise start") * (spare + 1)).astype(np.int64)
        clipped = draws("clipping") < config.clipping
        line, coded = draws("telephone") < config.telephone, draws("codec") < config.codec
        low = np.where(line, TELEPHONE[0], 0.0)
        high = np.where(coded, _between(config.codec_band, draws("band")), np.inf)
        high = np.where(line, np.minimum(high, TELEPHONE[1]), high)
        return Scene(
            level=config.level + config.level_spread * ndtri(draws("level", slots)),
            room=room,
            place=place,
            noise=noise,
            noise_start=noise_start,
            snr=_between(config.snr, draws("snr")),
            band=np.stack([low, high], axis=1),
            overdrive=np.where(clipped, _between(config.overdrive, draws("overdrive")), np.nan),
        )


def _between(ends: list[float], uniform: Floats) -> Floats:
    return ends[0] + (ends[1] - ends[0]) * uniform
