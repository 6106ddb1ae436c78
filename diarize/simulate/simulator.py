"""Session ``index`` of a seed, whoever asks, whenever."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.corpus import Corpus
from diarize.errors import AudioError, ConfigError, ManifestError
from diarize.frames import FrameGrid
from diarize.manifest import Session, read_manifest
from diarize.simulate.mixer import Mixer, Mixture
from diarize.simulate.plan import Plan
from diarize.simulate.planner import Planner
from diarize.simulate.settings import SimulationConfig
from diarize.turns import Turn, in_order, merge
from diarize.turntaking import read_turn_taking

Waveform = NDArray[np.float32]


class Simulator:
    """Makes session ``index`` of a seed, whoever asks, whenever.

    Args:
        config: how sessions go and sound.
        corpus: utterances, each of one speaker, at all speeds of the settings.
        noise: background noises, or None.
        rooms: room responses, each (sample, position), or none.
        seed: another seed is another, unrelated stream of sessions.
        device: where batches are mixed; the corpus lies there.
    """

    def __init__(
        self,
        config: SimulationConfig,
        corpus: Corpus,
        noise: Corpus | None = None,
        rooms: Sequence[Waveform] | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if seed < 0:
            raise ConfigError(f"seed is {seed}, but it is at least 0. Choose another.")
        self.config, self.corpus, self.noise, self.seed = config, corpus, noise, seed
        self.rooms = list(rooms or ())
        self.device = torch.device(device)
        self._planner = Planner(config, corpus, noise, [r.shape[1] for r in self.rooms], seed)
        self._mixer = Mixer(corpus, noise, self.rooms, config.level, self.device)

    def __reduce__(self) -> tuple[type["Simulator"], tuple[Any, ...]]:
        # Another process maps the corpus itself.
        made_of = (self.config, self.corpus, self.noise, self.rooms, self.seed, self.device)
        return Simulator, made_of

    def on(self, device: torch.device) -> "Simulator":
        """The same sessions, made elsewhere."""
        made_of = (self.config, self.corpus, self.noise, self.rooms, self.seed)
        return self if device == self.device else Simulator(*made_of, device)

    @classmethod
    def from_manifests(
        cls,
        config: SimulationConfig,
        utterances: str | Path,
        noise: str | Path | None = None,
        rir: str | Path | None = None,
        seed: int = 0,
        cache: str | Path | None = None,
        device: torch.device | str = "cpu",
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
        if config.turn_taking is not None:
            # What is wrong with it is told before the corpus is decoded, which takes minutes.
            read_turn_taking(config.turn_taking)
        corpus = Corpus.from_manifest(utterances, cache, speeds=config.speed, trim=config.trim)
        noises = Corpus.from_manifest(noise, cache, spoken=False) if noise else None
        rooms = [_read_room(s) for s in read_manifest(rir)] if rir else []
        return cls(config, corpus, noises, rooms, seed, device)

    @property
    def voices(self) -> list[str]:
        """Every speaker label that sessions may carry: corpus labels at each speed."""
        first = self._planner.voices.enough[:, None] + np.arange(len(self.corpus.speeds))
        return [self.corpus.speakers[voice] for voice in first.flat]

    def plan(self, index: Sequence[int]) -> Plan:
        """Who says which words when in sessions ``index``, before they are mixed."""
        return self._planner.plan(np.array(index, dtype=np.int64))

    def mix(self, plan: Plan, grid: FrameGrid) -> Mixture:
        """Sound and activity of planned sessions, on the simulator's device."""
        return self._mixer.mix(plan, grid)

    def sound(self, plan: Plan) -> Tensor:
        """Waveforms (B, N) of planned sessions, zero beyond each, on the simulator's device."""
        return self._mixer.sound(plan)

    def session(self, index: int) -> tuple[Waveform, list[Turn]]:
        """Waveform (sample,) at 16 kHz, and its turns by start; speakers keep corpus labels."""
        plan = self.plan([index])
        return self.sound(plan)[0].cpu().numpy(), self.turns(plan)[0]

    def turns(self, plan: Plan) -> list[list[Turn]]:
        """Turns of planned sessions, by start, seconds from the first sample of each."""
        script, speakers = plan.script, self.corpus.speakers
        turns: list[list[Turn]] = [[] for _ in script.num_samples]
        voice = script.voice[script.session, script.talker]
        columns = (script.session, voice, script.start, script.length)
        for session, who, start, length in zip(*(c.tolist() for c in columns), strict=True):
            end = (start + length) / SAMPLE_RATE
            turns[session].append(Turn(start / SAMPLE_RATE, end, speakers[who]))
        return [in_order(merge(each)) for each in turns]


def _read_room(response: Session) -> Waveform:
    """(sample, position): every channel of a room's responses, or the one that is named."""
    try:
        positions = (
            range(audio_info(response.audio).channels)
            if response.channel is None
            else [response.channel]
        )
        channels = [
            read_audio(response.audio, response.offset, response.duration, channel)
            for channel in positions
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
