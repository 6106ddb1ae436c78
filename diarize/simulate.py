"""Conversations mixed from single-speaker utterances, with their turns known by construction.

A session depends on (seed, index) alone: workers, ranks and later runs make the same one, and
no two indices repeat. Two styles:

``independent``: every speaker alternates utterances with exponential silences, regardless of
the others (Fujita et al. 2019, EEND, Algorithm 1).
``conversation``: one floor that speakers hold, hand over after a pause, take early (overlap),
or comment on (backchannel).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from tqdm import tqdm

from diarize import augment
from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.corpus import Corpus
from diarize.errors import ConfigError
from diarize.formats.rttm import format_rttm
from diarize.manifest import Session, read_manifest, write_manifest
from diarize.turns import Turn, in_order, merge

Waveform = NDArray[np.float32]


@dataclass
class SimulationConfig:
    """How simulated conversations go and sound."""

    independent_share: float = 0.5
    """Share of sessions in the independent style; the rest are conversations."""
    num_speakers: list[float] = field(default_factory=lambda: [0.0, 1.0])
    """How often a session has 1, 2, 3, … speakers, relative to one another."""
    duration: float | None = 30.0
    """Seconds of a session; null lets the independent style run to its last utterance."""
    min_utterances: int = 10
    """Fewest utterances of a speaker in an independent session."""
    max_utterances: int = 20
    """Most utterances of a speaker in an independent session."""
    silence: float = 2.0
    """Independent: mean of the exponential silence before each utterance, seconds."""
    hold: float = 0.35
    """Conversation: how often the speaker goes on after a pause."""
    pause: float = 0.6
    """Conversation: mean of the exponential pause between turns, seconds."""
    overlap: float = 0.3
    """Conversation: how often a new speaker begins before the last one ends."""
    overlap_duration: float = 0.8
    """Conversation: mean of the exponential overlap, seconds; at most the shorter turn."""
    backchannel: float = 0.15
    """Conversation: how often somebody else says a word or two during a turn."""
    max_turn: float = 8.0
    """Conversation: longer utterances are cut to a random part of so many seconds."""
    min_voice: float = 2.0
    """A speaker with less speech than this, seconds, is not used."""
    level: float = -26.0
    """Mean level of a speaker, dB below full scale."""
    level_spread: float = 4.0
    """Standard deviation of speakers' levels, dB."""
    speed: list[float] = field(default_factory=lambda: [1.0])
    """Playing speeds, one drawn per speaker and session; each makes other voices."""
    noise: float = 0.0
    """How often a session has background noise."""
    snr: list[float] = field(default_factory=lambda: [5.0, 25.0])
    """Range of signal-to-noise ratios, dB."""
    reverberation: float = 0.0
    """How often a session happens in a room."""
    telephone: float = 0.0
    """How often a session comes over a telephone line, 300 to 3400 Hz."""

    def __post_init__(self) -> None:
        if not self.num_speakers or min(self.num_speakers) < 0 or sum(self.num_speakers) <= 0:
            raise ConfigError(
                f"num_speakers is {list(self.num_speakers)}, but it weighs 1, 2, 3, … speakers: "
                "no weight may be negative, and one must be positive. Write [0, 1] for always two."
            )
        if self.duration is None and self.independent_share < 1.0:
            raise ConfigError(
                "duration is null, but conversations have no end of their own. "
                "Give seconds, or set independent_share=1."
            )


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
                f"num_speakers asks for {most} speakers, but the corpus has {len(self._voices)} "
                f"with at least {config.min_voice:g} s of speech. Add speech or lower min_voice."
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
        """A simulator over manifests of utterances, noises and room responses."""
        corpus = Corpus.from_manifest(utterances, cache)
        noises = Corpus.from_manifest(noise, cache, spoken=False) if noise else None
        rooms = [_read_room(s.audio) for s in read_manifest(rir)] if rir else []
        return cls(config, corpus, noises, rooms, seed)

    @property
    def voices(self) -> list[str]:
        """Every speaker label that sessions may carry: corpus labels at each speed."""
        names = [self.corpus.speakers[voice] for voice in self._voices]
        return [_name(speaker, speed) for speaker in names for speed in self.config.speed]

    def session(self, index: int) -> tuple[Waveform, list[Turn]]:
        """Waveform (sample,) at 16 kHz, and its turns by start; speakers keep corpus labels."""
        rng = np.random.default_rng([self.seed, index])
        config = self.config
        independent = augment.chance(rng, config.independent_share)
        count = int(rng.choice(self._counts, p=self._weights))
        speakers = rng.choice(self._voices, count, replace=False)
        talkers = [_Talker(self, int(voice), rng) for voice in speakers]
        plan = self._independent if independent else self._conversation
        pieces = list(plan(talkers, rng))
        num_samples = max(start + piece.size for _, start, piece in pieces)
        if config.duration is not None:
            num_samples = round(config.duration * SAMPLE_RATE)
        tracks = np.zeros((count, num_samples), dtype=np.float32)
        turns = []
        for number, start, piece in pieces:
            piece = piece[: max(num_samples - start, 0)]
            if piece.size:
                tracks[number, start : start + piece.size] += piece
                end = (start + piece.size) / SAMPLE_RATE
                turns.append(Turn(start / SAMPLE_RATE, end, talkers[number].speaker))
        return self._mix(tracks, rng), in_order(merge(turns))

    def _independent(
        self, talkers: list["_Talker"], rng: Generator
    ) -> Iterator[tuple[int, int, Waveform]]:
        """Utterances with exponential silences before each, one speaker after another."""
        config = self.config
        for number, talker in enumerate(talkers):
            position = 0
            for _ in range(int(rng.integers(config.min_utterances, config.max_utterances + 1))):
                position += round(rng.exponential(config.silence) * SAMPLE_RATE)
                if config.duration is not None and position >= config.duration * SAMPLE_RATE:
                    break
                piece = talker.utterance()
                yield number, position, piece
                position += piece.size

    def _conversation(
        self, talkers: list["_Talker"], rng: Generator
    ) -> Iterator[tuple[int, int, Waveform]]:
        """One floor, held, handed over, taken early or commented on."""
        config = self.config
        assert config.duration is not None
        limit = config.duration * SAMPLE_RATE
        free_at = [0] * len(talkers)
        position = round(rng.exponential(config.pause) * SAMPLE_RATE)
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
            pause = round(rng.exponential(config.pause) * SAMPLE_RATE)
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
            mixture = augment.add_noise(mixture, self._background(mixture.size, rng), snr)
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


def _read_room(path: Path) -> Waveform:
    """(sample, position): every channel of a room's responses."""
    channels = audio_info(path).channels
    return np.stack([read_audio(path, channel=c) for c in range(channels)], axis=1)


def write_sessions(
    simulator: Simulator, num_sessions: int, output: str | Path, progress: bool = True
) -> Path:
    """Write sessions 0, 1, … as FLAC and RTTM, and a manifest of them all.

    A session that an interrupted call finished is kept; the manifest is written last.

    Returns:
        Path of the manifest, ``output/manifest.jsonl``.
    """
    output = Path(output)
    (output / "audio").mkdir(parents=True, exist_ok=True)
    (output / "rttm").mkdir(exist_ok=True)
    sessions = []
    for index in tqdm(range(num_sessions), "simulating", disable=None if progress else True):
        session_id = f"sim-{simulator.seed}-{index:06d}"
        audio = output / "audio" / f"{session_id}.flac"
        rttm = output / "rttm" / f"{session_id}.rttm"
        waveform, turns = simulator.session(index)
        if not (audio.exists() and rttm.exists()):
            temporary = audio.with_suffix(".tmp.flac")
            soundfile.write(temporary, waveform, SAMPLE_RATE, subtype="PCM_16")
            os.replace(temporary, audio)
            temporary = rttm.with_suffix(".tmp")
            temporary.write_text(format_rttm(session_id, turns), encoding="utf-8")
            os.replace(temporary, rttm)
        sessions.append(
            Session(
                session_id,
                audio,
                duration=round(waveform.size / SAMPLE_RATE, 6),
                rttm=rttm,
                num_speakers=len({turn.speaker for turn in turns}),
            )
        )
    manifest = output / "manifest.jsonl"
    write_manifest(manifest, sessions)
    return manifest
