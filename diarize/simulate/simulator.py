"""Session ``index`` of a seed, whoever asks, whenever."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from diarize import augment
from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.corpus import Corpus
from diarize.errors import AudioError, ConfigError, ManifestError
from diarize.manifest import Session, read_manifest
from diarize.simulate.settings import SimulationConfig
from diarize.turns import Turn, in_order, merge

Waveform = NDArray[np.float32]

SPARSE = 20.0
"""How much longer the silences of a sparse session are."""

MIDST = 15.0
"""Most seconds that a session heard from its midst on has been going on."""


class Simulator:
    """Makes session ``index`` of a seed, whoever asks, whenever.

    Args:
        config: how sessions go and sound.
        corpus: utterances, each of one speaker.
        noise: background noises, or None.
        rooms: room responses, each (sample, position), or none.
        seed: another seed is another, unrelated stream of sessions.
    """

    def __init__(
        self,
        config: SimulationConfig,
        corpus: Corpus,
        noise: Corpus | None = None,
        rooms: list[Waveform] | None = None,
        seed: int = 0,
    ) -> None:
        if seed < 0:
            raise ConfigError(f"seed is {seed}, but it is at least 0. Choose another.")
        self.config = config
        self.corpus = corpus
        self.noise = noise
        self.rooms = rooms or []
        self.seed = seed
        speech = np.bincount(corpus.voice, corpus.length, minlength=len(corpus.speakers))
        self._voices = np.flatnonzero(speech >= config.min_voice * SAMPLE_RATE)
        weights = np.array(config.num_speakers, dtype=np.float64)
        self._counts = np.flatnonzero(weights) + 1
        self._weights = weights[self._counts - 1] / weights.sum()
        most = int(self._counts.max())
        if len(self._voices) < most:
            raise ConfigError(
                f"{corpus.where}: has {len(self._voices)} speakers with at least "
                f"{config.min_voice:g} s of speech, but num_speakers asks for {most}. "
                "Add speech, or lower min_voice."
            )
        order = np.argsort(corpus.voice, kind="stable")
        splits = np.searchsorted(corpus.voice[order], np.arange(1, len(corpus.speakers)))
        self._utterances = np.split(order, splits)

    @classmethod
    def from_manifests(
        cls,
        config: SimulationConfig,
        utterances: str | Path,
        noise: str | Path | None = None,
        rir: str | Path | None = None,
        seed: int = 0,
        cache: str | Path | None = None,
    ) -> "Simulator":
        """A simulator over manifests of utterances, noises and room responses.

        Raises:
            ConfigError: for noises or rooms that the settings never use, or too few voices.
            ManifestError: for a manifest that cannot be used.
        """
        for given, manifest, name in (
            ("noises", noise, "noise"),
            ("room responses", rir, "reverberation"),
        ):
            if manifest and not getattr(config, name):
                raise ConfigError(
                    f"{manifest}: has {given}, but {name} is 0: no session would have any. "
                    f"Set {name}=0.5, say, or leave the manifest out."
                )
        corpus = Corpus.from_manifest(utterances, cache)
        noises = Corpus.from_manifest(noise, cache, spoken=False) if noise else None
        rooms = [_read_room(s) for s in read_manifest(rir)] if rir else []
        return cls(config, corpus, noises, rooms, seed)

    @property
    def voices(self) -> list[str]:
        """Every speaker label that sessions may carry: corpus labels at each speed."""
        names = [self.corpus.speakers[voice] for voice in self._voices]
        labels = (_name(speaker, speed) for speaker in names for speed in self.config.speed)
        return list(dict.fromkeys(labels))

    def session(self, index: int) -> tuple[Waveform, list[Turn]]:
        """Waveform (sample,) at 16 kHz, and its turns by start; speakers keep corpus labels."""
        rng = np.random.default_rng([self.seed, index])
        config = self.config
        independent = augment.chance(rng, config.independent_share)
        count = int(rng.choice(self._counts, p=self._weights))
        speakers = rng.choice(self._voices, count, replace=False)
        talkers = [_Talker(self, int(voice), rng) for voice in speakers]
        plan = self._independent if independent else self._conversation
        # Settings without sparse sessions draw nothing for it: their sessions stay what they were.
        sparse = config.sparse > 0 and augment.chance(rng, config.sparse)
        midst = config.midst > 0 and augment.chance(rng, config.midst)
        before = round(rng.uniform(0.0, MIDST) * SAMPLE_RATE) if midst else 0
        limit = None if config.duration is None else before + round(config.duration * SAMPLE_RATE)
        pieces = list(plan(talkers, rng, limit, SPARSE if sparse else 1.0))
        if limit is None:
            num_samples = max(start + piece.size for _, start, piece in pieces)
        else:
            num_samples = limit - before
        tracks = np.zeros((count, num_samples), dtype=np.float32)
        turns = []
        for number, begin, whole in pieces:
            start = max(begin - before, 0)
            piece = whole[max(before - begin, 0) :][: max(num_samples - start, 0)]
            if piece.size:
                tracks[number, start : start + piece.size] += piece
                end = (start + piece.size) / SAMPLE_RATE
                turns.append(Turn(start / SAMPLE_RATE, end, talkers[number].speaker))
        return self._mix(tracks, rng), in_order(merge(turns))

    def _independent(
        self, talkers: list["_Talker"], rng: Generator, limit: int | None, slowness: float
    ) -> Iterator[tuple[int, int, Waveform]]:
        """Utterances with exponential silences before each, one speaker after another."""
        config = self.config
        for number, talker in enumerate(talkers):
            position = 0
            for _ in range(int(rng.integers(config.min_utterances, config.max_utterances + 1))):
                position += round(rng.exponential(config.silence * slowness) * SAMPLE_RATE)
                if limit is not None and position >= limit:
                    break
                piece = talker.utterance()
                yield number, position, piece
                position += piece.size

    def _conversation(
        self, talkers: list["_Talker"], rng: Generator, limit: int | None, slowness: float
    ) -> Iterator[tuple[int, int, Waveform]]:
        """One floor, held, handed over, taken early or commented on."""
        config = self.config
        assert limit is not None
        free_at = [0] * len(talkers)
        position = round(rng.exponential(config.pause * slowness) * SAMPLE_RATE)
        # People talk unequally: shares of the floor are drawn once per session.
        shares = rng.dirichlet(np.full(len(talkers), 3.0))
        holder, last_size = int(rng.choice(len(talkers), p=shares)), 0
        while position < limit:
            piece = talkers[holder].utterance(config.max_turn)
            start = max(position, free_at[holder])
            yield holder, start, piece
            end = free_at[holder] = start + piece.size
            if len(talkers) > 1 and augment.chance(rng, config.backchannel):
                other = int((holder + rng.integers(1, len(talkers))) % len(talkers))
                word = talkers[other].utterance(0.8)
                at = max(start + int(rng.uniform(0.2, 0.9) * piece.size), free_at[other])
                yield other, at, word
                free_at[other] = at + word.size
            last_size = piece.size
            pause = round(rng.exponential(config.pause * slowness) * SAMPLE_RATE)
            if len(talkers) == 1 or augment.chance(rng, config.hold):
                position = end + pause
                continue
            chances = np.delete(shares, holder)
            others = np.delete(np.arange(len(talkers)), holder)
            holder = int(rng.choice(others, p=chances / chances.sum()))
            early = round(rng.exponential(config.overlap_duration) * SAMPLE_RATE)
            overlapping = augment.chance(rng, config.overlap)
            position = end - min(early, last_size) if overlapping else end + pause

    def _mix(self, tracks: Waveform, rng: Generator) -> Waveform:
        """(speaker, sample) -> (sample,): room, noise, line, and a peak that does not clip."""
        config = self.config
        if augment.chance(rng, config.reverberation) and self.rooms:
            room = self.rooms[int(rng.integers(len(self.rooms)))]
            places = rng.permutation(room.shape[1])
            tracks = np.stack(
                [
                    augment.reverberate(track, room[:, places[number % len(places)]])
                    for number, track in enumerate(tracks)
                ]
            )
        mixture: Waveform = tracks.sum(axis=0)
        if augment.chance(rng, config.noise) and self.noise is not None:
            snr = float(rng.uniform(config.snr[0], config.snr[1]))
            background = self._background(mixture.size, rng)
            if mixture.any():
                mixture = augment.add_noise(mixture, background, snr)
            else:
                mixture = augment.level(background, config.level - snr)
        if augment.chance(rng, config.telephone):
            mixture = augment.limit_band(mixture, SAMPLE_RATE, 300.0, 3400.0)
        peak = float(np.max(np.abs(mixture), initial=0.0))
        return mixture / np.float32(peak) if peak > 1.0 else mixture

    def _background(self, num_samples: int, rng: Generator) -> Waveform:
        """A random part of one noise; a short one is repeated."""
        assert self.noise is not None
        index = int(rng.integers(len(self.noise.length)))
        length = int(self.noise.length[index])
        start = int(rng.integers(max(length - num_samples, 0) + 1))
        noise = self.noise.utterance(index, start, min(length, num_samples))
        return np.resize(noise, num_samples)


class _Talker:
    """One speaker of one session: a voice, its speed and level, utterances in random order."""

    def __init__(self, simulator: Simulator, voice: int, rng: Generator) -> None:
        config = simulator.config
        self.corpus = simulator.corpus
        self.rng = rng
        self.speed = float(rng.choice(config.speed))
        self.speaker = _name(self.corpus.speakers[voice], self.speed)
        self.level = float(rng.normal(config.level, config.level_spread))
        self._choices = simulator._utterances[voice]
        self._left: list[int] = []

    def utterance(self, max_duration: float | None = None) -> Waveform:
        """The next utterance, or a random part of it; all are used before one repeats."""
        if not self._left:
            self._left = list(self.rng.permutation(self._choices))
        index = self._left.pop()
        length = int(self.corpus.length[index])
        start, part = 0, length
        if max_duration is not None:
            part = min(length, round(max_duration * self.speed * SAMPLE_RATE))
            start = int(self.rng.integers(length - part + 1))
        piece = augment.change_speed(self.corpus.utterance(index, start, part), self.speed)
        return augment.level(piece, self.level)


def _name(speaker: str, speed: float) -> str:
    """Another speed is another voice."""
    return speaker if speed == 1.0 else f"{speaker}@{speed:g}"


def _read_room(response: Session) -> Waveform:
    """(sample, position): every channel of a room's responses."""
    try:
        channels = [
            read_audio(response.audio, response.offset, response.duration, channel)
            for channel in range(audio_info(response.audio).channels)
        ]
    except AudioError as error:
        raise AudioError(f"{response.where}: {error}") from None
    for number, channel in enumerate(channels):
        if not channel.any():
            raise ManifestError(
                f"{response.where}: channel {number} of {len(channels)} is silent, but a room "
                "response carries sound. Remove the line or mend the file."
            )
    return np.stack(channels, axis=1)
