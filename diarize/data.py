"""Sessions as batches: what a front end hears and what it should answer.

B batch, T frames, S slots, N samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from diarize.activity import from_turns
from diarize.audio import SAMPLE_RATE, TOLERANCE, audio_info, read_audio
from diarize.errors import AudioError, ManifestError
from diarize.frames import FrameGrid
from diarize.manifest import Session, reference_turns, scored_regions
from diarize.turns import Segment, Turn, clip, shift


@dataclass(frozen=True)
class Example:
    """One window of a session.

    Attributes:
        session_id: what it was cut from.
        waveform: (sample,) float32 at 16 kHz.
        turns: who speaks when, seconds from the first sample of the window.
        regions: what is scored, likewise; None is the union of both extents.
    """

    session_id: str
    waveform: NDArray[np.float32]
    turns: list[Turn]
    regions: list[Segment] | None = None


@dataclass(frozen=True)
class Batch:
    """Examples padded to one length.

    Attributes:
        waveform: (B, N) float32, zero beyond each example.
        num_samples: (B,) samples before padding.
        activity: (B, T, S) 0 or 1, columns by arrival.
        num_frames: (B,) frames before padding.
        voice: (B, T) index of the training speaker who talks alone, -1 elsewhere.
        turns: per example, seconds from its first sample.
        regions: per example, what is scored, likewise; None is the union of both extents.
        num_speakers: speakers heard, summed over the examples.
        dropped_speakers: those of them beyond the slots, whose speech is no target.
    """

    waveform: Tensor
    num_samples: Tensor
    activity: Tensor
    num_frames: Tensor
    voice: Tensor
    turns: list[list[Turn]]
    regions: list[list[Segment] | None]
    num_speakers: int
    dropped_speakers: int

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on a device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, as loaders ask for before a copy to a GPU."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        changed: dict[str, Any] = {
            name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **changed)


@dataclass(frozen=True)
class Collate:
    """Examples into a batch, on a front end's clock.

    Attributes:
        grid: the front end's frames.
        num_slots: columns of the activity; later arrivals are dropped and counted.
        voices: training speaker to class index, where voices are trained.
    """

    grid: FrameGrid
    num_slots: int
    voices: Mapping[str, int] | None = None

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Pad to the longest example; frames and samples beyond each example are zero."""
        num_samples = [example.waveform.size for example in examples]
        num_frames = [self.grid.num_frames(n) for n in num_samples]
        waveform = torch.zeros(len(examples), max(num_samples))
        activity = torch.zeros(len(examples), max(num_frames), self.num_slots)
        voice = torch.full((len(examples), max(num_frames)), -1)
        heard = dropped = 0
        for row, example in enumerate(examples):
            waveform[row, : num_samples[row]] = torch.from_numpy(example.waveform)
            frames = num_frames[row]
            # All speakers first: who is beyond the slots still talks into the others' speech.
            most = max(self.num_slots, len({turn.speaker for turn in example.turns}))
            truth = from_turns(example.turns, self.grid, frames, most)
            activity[row, :frames] = torch.from_numpy(truth.matrix[:, : self.num_slots])
            heard += len(truth.speakers)
            dropped += max(len(truth.speakers) - self.num_slots, 0)
            if self.voices is not None:
                alone = truth.matrix.sum(axis=1) == 1
                classes = np.array([self.voices.get(s, -1) for s in truth.speakers] + [-1])
                column = np.where(alone, truth.matrix.argmax(axis=1), -1)
                voice[row, :frames] = torch.from_numpy(classes[column])
        return Batch(
            waveform,
            torch.tensor(num_samples),
            activity,
            torch.tensor(num_frames),
            voice,
            [example.turns for example in examples],
            [example.regions for example in examples],
            heard,
            dropped,
        )


@dataclass(frozen=True)
class _Window:
    """A stretch of a session, in seconds of the recording, and the session's truth."""

    session_id: str
    audio: Path
    start: float
    duration: float
    turns: list[Turn]
    regions: list[Segment] | None

    def cut(self, start: float, duration: float) -> "_Window":
        return replace(self, start=start, duration=duration)

    def example(self) -> Example:
        waveform = read_audio(self.audio, self.start, self.duration)
        end = self.start + waveform.size / SAMPLE_RATE
        regions = None
        if self.regions is not None:
            cut = [(max(r.start, self.start), min(r.end, end)) for r in self.regions]
            regions = [Segment(a - self.start, b - self.start) for a, b in cut if b > a]
        turns = shift(clip(self.turns, self.start, end), -self.start)
        return Example(self.session_id, waveform, turns, regions)


class SessionDataset(Dataset[Example]):
    """Windows of recorded sessions, each with its reference turns.

    Args:
        sessions: manifest lines with ``rttm_filepath``.
        window: seconds of a window; a session is cut into windows end to end and a rest of
            under a second is left out. None keeps sessions whole.
        shuffle_seed: with a seed, any index ``i`` is a window at a random place, drawn from
            (seed, i), of a session drawn by its duration; without, windows come in order.

    Raises:
        ManifestError: if there are no sessions, or one has no reference or ends after its audio.
        AudioError: if a recording is missing or its header cannot be read.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        window: float | None,
        shuffle_seed: int | None = None,
    ) -> None:
        if not sessions:
            raise ManifestError(
                "a manifest of sessions has 0 lines, but training and validation need at least 1. "
                "Name another manifest, or none."
            )
        self._seed, self._window = shuffle_seed, window
        self._windows: list[_Window] = []
        length_of = lru_cache(maxsize=None)(_length)
        for session in sessions:
            whole = _whole(session, length_of)
            if shuffle_seed is not None or window is None:
                self._windows.append(whole)
                continue
            start = 0.0
            while whole.duration - start >= min(1.0, whole.duration):
                length = min(window, whole.duration - start)
                self._windows.append(whole.cut(whole.start + start, length))
                start += window
        total = np.array([w.duration for w in self._windows])
        self._share = total / total.sum()

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Example:
        if self._seed is None:
            return self._windows[index].example()
        rng = np.random.default_rng([self._seed, index])
        drawn = self._windows[int(rng.choice(len(self._windows), p=self._share))]
        if self._window is not None and drawn.duration > self._window:
            start = drawn.start + float(rng.uniform(0.0, drawn.duration - self._window))
            drawn = drawn.cut(start, self._window)
        return drawn.example()


def _length(audio: Path) -> float:
    """Seconds of a recording."""
    return audio_info(audio).duration


def _whole(session: Session, length_of: Callable[[Path], float]) -> _Window:
    """All of a session, which its recording is seen to hold."""
    if session.rttm is None:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} has no rttm_filepath, but "
            "training and validation need references. Add it."
        )
    try:
        lasts = length_of(session.audio)
    except AudioError as error:
        raise AudioError(f"{session.where}: {error}") from None
    duration = lasts - session.offset if session.duration is None else session.duration
    if duration <= 0:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} starts at {session.offset:.2f} "
            f"s, but its audio lasts {lasts:.2f} s. Correct 'offset'."
        )
    if session.offset + duration > lasts + TOLERANCE:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} ends at {session.end:.2f} s, but "
            f"its audio lasts {lasts:.2f} s. Shorten 'duration', or check the file."
        )
    return _Window(
        session.session_id,
        session.audio,
        session.offset,
        duration,
        reference_turns(session),
        scored_regions(session),
    )


class SimulatedDataset(Dataset[Example]):
    """Sessions that a simulator makes on demand.

    Args:
        session: index to waveform and turns, ``Simulator.session``.
    """

    def __init__(self, session: Callable[[int], tuple[NDArray[np.float32], list[Turn]]]) -> None:
        self._session = session

    def __getitem__(self, index: int) -> Example:
        waveform, turns = self._session(index)
        return Example(f"simulated-{index}", waveform, turns)


class MixedDataset(Dataset[Example]):
    """Simulated and recorded examples in one stream; which one, (seed, index) decides.

    Args:
        simulated: endless source.
        recorded: source that takes over for a share of the indices.
        recorded_share: 0 to 1.
        seed: of the draw.
    """

    def __init__(
        self,
        simulated: Dataset[Example],
        recorded: Dataset[Example],
        recorded_share: float,
        seed: int,
    ) -> None:
        self._simulated, self._recorded = simulated, recorded
        self._share, self._seed = recorded_share, seed

    def __getitem__(self, index: int) -> Example:
        draw = np.random.default_rng([self._seed, index, 1]).random()
        return (self._recorded if draw < self._share else self._simulated)[index]


class StreamSampler(Sampler[list[int]]):
    """Batches of consecutive indices, the same whether or not a run is resumed on its way.

    Step ``k`` of rank ``r`` takes the indices ``[(k * R + r) * B, (k * R + r + 1) * B)`` of R
    ranks and B sessions a batch: no index twice, no order to remember beyond the step.

    Args:
        batch_size: sessions per batch and rank.
        num_steps: steps of the whole training.
        first_step: asked at each start, how many steps are already done.
        rank: of this process.
        num_ranks: how many processes train together.
    """

    def __init__(
        self,
        batch_size: int,
        num_steps: int,
        first_step: Callable[[], int] = lambda: 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._batch_size, self._num_steps, self._first_step = batch_size, num_steps, first_step
        self._rank, self._num_ranks = rank, num_ranks

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._first_step(), self._num_steps):
            first = (step * self._num_ranks + self._rank) * self._batch_size
            yield list(range(first, first + self._batch_size))
