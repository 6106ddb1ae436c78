"""Plans to sound: whole batches mixed as tensors, where the corpus lies.

No loop over utterances: every sample of every utterance of a batch is fetched, scaled and put in
its place at once, on a CPU from memory-mapped files, on a GPU from its own memory. The same plan
sounds the same on both, to the rounding of float32.

B sessions, S talkers, N samples, T frames, E utterances, M samples of all utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diarize.audio import SAMPLE_RATE
from diarize.augment import NOTHING, add_noise, limit_band, overdrive, reverberate
from diarize.corpus import Corpus
from diarize.frames import FrameGrid
from diarize.simulate.plan import Floats, Ints, Plan

Waveform = NDArray[np.float32]

FULL_SCALE = 32768
"""Of 16-bit samples."""

IN_CACHE = 2**22
"""Samples of talkers' tracks that a CPU makes at once, a session or two: more leave its caches."""

AT_ONCE = 2**27
"""Of which a GPU makes as many at once: half a gibibyte for each copy of them."""

IN_ROOMS = 16
"""Tracks that a GPU puts into rooms at once, which takes several copies of them; a CPU one."""


@dataclass(frozen=True)
class Mixture:
    """Sessions and their truth.

    Attributes:
        waveform: (B, N) float32 at 16 kHz, zero beyond each session.
        num_samples: (B,).
        activity: (B, T, S) 0 or 1, columns as the plan numbers its talkers.
    """

    waveform: Tensor
    num_samples: Tensor
    activity: Tensor


class Mixer:
    """Makes sessions that a planner has drawn.

    Args:
        corpus: utterances.
        noise: background noises, or None.
        rooms: room responses, each (sample, position).
        quiet: dB below full scale of speech, beside which noise is as loud where nobody speaks.
        device: where samples lie and sessions are made.
    """

    def __init__(
        self,
        corpus: Corpus,
        noise: Corpus | None,
        rooms: Sequence[Waveform],
        quiet: float,
        device: torch.device | str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        here = self.device.type == "cpu"
        self._at_once, self._in_rooms = (IN_CACHE, 1) if here else (AT_ONCE, IN_ROOMS)
        self._quiet = quiet
        self._speech = _Store(corpus, self.device)
        self._noise = None if noise is None else _Store(noise, self.device)
        self._rooms: Tensor | None = None
        if rooms:
            responses, self._direct = _aligned(rooms)
            self._rooms = responses.to(self.device)

    def mix(self, plan: Plan, grid: FrameGrid) -> Mixture:
        """Sound and activity of a plan's sessions."""
        num_samples = self._tensor(plan.script.num_samples)
        return Mixture(self.sound(plan), num_samples, self.activity(plan, grid))

    def sound(self, plan: Plan) -> Tensor:
        """Waveforms (B, N) of a plan's sessions, zero beyond each."""
        num_sessions, slots = plan.script.voice.shape
        longest = int(plan.script.num_samples.max(initial=0))
        few = max(self._at_once // max(longest * slots, 1), 1)
        parts = [plan.part(first, first + few) for first in range(0, num_sessions, few)]
        return torch.cat([self._sound(part, longest) for part in parts])

    def activity(self, plan: Plan, grid: FrameGrid) -> Tensor:
        """Who speaks in each frame, as `diarize.activity.from_turns` says, (B, T, S)."""
        script, (num_sessions, slots) = plan.script, plan.script.voice.shape
        num_frames = grid.num_frames(int(script.num_samples.max(initial=0)))
        change = torch.zeros(num_sessions * slots * (num_frames + 1), device=self.device)
        track = self._tensor(script.session * slots + script.talker) * (num_frames + 1)
        for sign, sample in ((1.0, script.start), (-1.0, script.start + script.length)):
            frame = self._tensor((sample + grid.hop // 2) // grid.hop).clamp(max=num_frames)
            change.index_add_(0, track + frame, torch.full_like(track, sign, dtype=torch.float32))
        active = change.view(num_sessions, slots, -1).cumsum(dim=2)[:, :, :-1] > 0
        return active.transpose(1, 2).float()

    def _sound(self, plan: Plan, longest: int) -> Tensor:
        """Waveforms (B, N) of as many sessions as are made at once."""
        script, scene = plan.script, plan.scene
        num_samples = self._tensor(script.num_samples)
        inside = torch.arange(longest, device=self.device) < num_samples[:, None]
        mixture = self._heard(plan, longest)
        if self._noise is not None:
            mixture = self._background(plan, self._noise, mixture, inside)
        lines = np.flatnonzero((scene.band[:, 0] > 0) | (scene.band[:, 1] < SAMPLE_RATE / 2))
        for length in np.unique(script.num_samples[lines]):  # of sessions with an end of their own
            alike = lines[script.num_samples[lines] == length]
            row, band = self._tensor(alike), self._tensor(scene.band[alike]).float()
            mixture[row, :length] = limit_band(mixture[row, :length], SAMPLE_RATE, band)
        mixture = overdrive(mixture, self._tensor(scene.overdrive).float())
        return torch.where(inside, mixture, 0.0)

    def _heard(self, plan: Plan, longest: int) -> Tensor:
        """The sum of talkers, each from his place in the room, (B, N)."""
        script, scene = plan.script, plan.scene
        num_sessions, slots = script.voice.shape
        track = script.session * slots + script.talker
        level = scene.level[script.session, script.talker]
        gain = 10 ** (level / 20) / self._speech.loudness[script.utterance]
        samples = self._speech.fetch(script.utterance, script.first, script.length, gain)
        tracks = torch.zeros(num_sessions * slots * longest, device=self.device)
        # Nobody talks into his own words: no place is written twice.
        place = consecutive(track * longest + script.start, script.length, self.device)
        tracks.scatter_(0, place, samples)
        tracks = tracks.view(-1, longest)
        inside = np.flatnonzero((scene.room[:, None] >= 0) & (script.voice >= 0))
        for first in range(0, len(inside), self._in_rooms):
            few = inside[first : first + self._in_rooms]
            assert self._rooms is not None
            room = self._tensor(scene.room[few // slots])
            response = self._rooms[room, self._tensor(scene.place.flat[few])]
            row = self._tensor(few)
            length = self._tensor(script.num_samples[few // slots])
            tracks[row] = reverberate(tracks[row], response, self._direct, length)
        return tracks.view(num_sessions, slots, longest).sum(dim=1)

    def _background(self, plan: Plan, noises: "_Store", mixture: Tensor, inside: Tensor) -> Tensor:
        """With noise, (B, N), where there shall be some; a short one is repeated."""
        script, scene = plan.script, plan.scene
        noisy = np.flatnonzero(scene.noise >= 0)
        number, row = scene.noise[noisy], self._tensor(noisy)
        period = np.minimum(noises.length[number], script.num_samples[noisy])
        first = self._tensor(noises.start[number] + scene.noise_start[noisy])
        time = torch.arange(mixture.shape[1], device=self.device)
        place = first[:, None] + time % self._tensor(np.maximum(period, 1))[:, None]
        noise = noises.samples.index_select(0, place.flatten()).view_as(place) / FULL_SCALE
        noise = torch.where(inside[row], noise, 0.0)
        snr = self._tensor(scene.snr[noisy]).float()
        mixture[row] = add_noise(mixture[row], noise, snr, inside[row].sum(dim=1), self._quiet)
        return mixture

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, non_blocking=True)


class _Store:
    """A corpus where it is mixed."""

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        self.samples = torch.from_numpy(corpus.samples).to(device)  # (sample,) int16
        self.start, self.length = corpus.start, corpus.length
        self.loudness = np.sqrt(np.maximum(corpus.power, NOTHING))

    def fetch(self, utterance: Ints, first: Ints, length: Ints, gain: Floats) -> Tensor:
        """Samples (M,) float32 of parts of utterances, scaled, one after another."""
        device = self.samples.device
        place = consecutive(self.start[utterance] + first, length, device)
        scale = torch.from_numpy((gain / FULL_SCALE).astype(np.float32)).to(device)
        lengths = torch.from_numpy(length).to(device)
        loud = torch.repeat_interleave(scale, lengths, output_size=len(place))
        return loud.mul_(self.samples.index_select(0, place))


def consecutive(start: Ints, length: Ints, device: torch.device) -> Tensor:
    """Places (M,) of stretches, one after another: ``start[e]`` + 0, 1, … ``length[e]`` - 1."""
    total = int(length.sum())
    begin = torch.from_numpy(start - (np.cumsum(length) - length)).to(device)
    lengths = torch.from_numpy(length).to(device)
    place = torch.repeat_interleave(begin, lengths, output_size=total)
    return place.add_(torch.arange(total, device=device))


def _aligned(rooms: Sequence[Waveform]) -> tuple[Tensor, int]:
    """Responses (room, position, tap) with their direct sounds, the strongest, at one tap."""
    direct = [np.abs(room).argmax(axis=0) for room in rooms]
    latest = max(int(taps.max()) for taps in direct)
    longest = max(int((len(room) - taps).max()) for room, taps in zip(rooms, direct, strict=True))
    places = max(room.shape[1] for room in rooms)
    aligned = torch.zeros(len(rooms), places, latest + longest)
    for number, room in enumerate(rooms):
        for place, tap in enumerate(direct[number]):
            first = latest - int(tap)
            response = np.ascontiguousarray(room[:, place])
            aligned[number, place, first : first + len(room)] = torch.from_numpy(response)
    return aligned, latest
