"""Sessions as batches: what a front end hears and what it should answer.

B batch, T frames, S slots, N samples.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from diarize.activity import from_turns
from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.errors import ManifestError
from diarize.frames import FrameGrid
from diarize.manifest import Session, reference_turns
from diarize.turns import Turn, clip, shift


@dataclass(frozen=True)
class Example:
    """One window of a session.

    Attributes:
        session_id: what it was cut from.
        waveform: (sample,) float32 at 16 kHz.
        turns: who speaks when, seconds from the first sample of the window.
    """

    session_id: str
    waveform: NDArray[np.float32]
    turns: list[Turn]


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
        session_ids: per example.
        dropped_speakers: speakers beyond the slots, whose speech is no target, summed.
    """

    waveform: Tensor
    num_samples: Tensor
    activity: Tensor
    num_frames: Tensor
    voice: Tensor
    turns: list[list[Turn]]
    session_ids: list[str]
    dropped_speakers: int

    def to(self, device: torch.device | str) -> "Batch":
        """The same batch with its tensors on a device."""
        moved = {
            name: value.to(device, non_blocking=True)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory, as loaders ask for before a copy to a GPU."""
        pinned = {n: v.pin_memory() for n, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **pinned)


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
        dropped = 0
        for row, example in enumerate(examples):
            waveform[row, : num_samples[row]] = torch.from_numpy(example.waveform)
            frames = num_frames[row]
            truth = from_turns(example.turns, self.grid, frames, self.num_slots)
            activity[row, :frames] = torch.from_numpy(truth.matrix)
            dropped += len(truth.dropped)
            if self.voices is not None:
                alone = truth.matrix.sum(axis=1) == 1
                classes = np.array([self.voices.get(s, -1) for s in truth.speakers] + [-1])
                column = np.where(alone, truth.matrix.argmax(axis=1), -1)
                column = np.minimum(column, len(truth.speakers))
                voice[row, :frames] = torch.from_numpy(classes[column])
        return Batch(
            waveform,
            torch.tensor(num_samples),
            activity,
            torch.tensor(num_frames),
            voice,
            [example.turns for example in examples],
            [example.session_id for example in examples],
            dropped,
        )


class SessionDataset(Dataset[Example]):
    """Windows of recorded sessions, each with its reference turns.

    Args:
        sessions: manifest lines with ``rttm_filepath``.
        window: seconds of a window; a session is cut into windows end to end and a rest of
            under a second is left out. None keeps sessions whole.
        shuffle_seed: with a seed, index ``i`` is a window at a random place, drawn from
            (seed, i), of a session drawn by its duration; without, windows come in order.
        num_examples: how many examples a shuffled dataset has.
    """

    def __init__(
        self,
        sessions: Sequence[Session],
        window: float | None,
        shuffle_seed: int | None = None,
        num_examples: int = 0,
    ) -> None:
        self._seed, self._num_examples = shuffle_seed, num_examples
        self._window = window
        self._spans: list[tuple[Session, float, float]] = []
        for session in sessions:
            if session.rttm is None:
                raise ManifestError(
                    f"{session.where}: session {session.session_id!r} has no rttm_filepath, but "
                    "training and validation need references. Add it."
                )
            length = session.duration
            if length is None:
                length = audio_info(session.audio).duration - session.offset
            if shuffle_seed is not None or window is None:
                self._spans.append((session, session.offset, length))
                continue
            start = 0.0
            while length - start >= min(1.0, length):
                self._spans.append((session, session.offset + start, min(window, length - start)))
                start += window
        self._turns = {s.session_id: reference_turns(s) for s in sessions}
        total = np.array([length for _, _, length in self._spans])
        self._share = total / total.sum() if len(total) else total

    def __len__(self) -> int:
        return len(self._spans) if self._seed is None else self._num_examples

    def __getitem__(self, index: int) -> Example:
        if self._seed is None:
            session, start, length = self._spans[index]
        else:
            rng = np.random.default_rng([self._seed, index])
            session, start, length = self._spans[int(rng.choice(len(self._spans), p=self._share))]
            if self._window is not None and length > self._window:
                start += float(rng.uniform(0.0, length - self._window))
                length = self._window
        waveform = read_audio(session.audio, start, length)
        turns = clip(self._turns[session.session_id], start, start + waveform.size / SAMPLE_RATE)
        return Example(session.session_id, waveform, shift(turns, -start))


class SimulatedDataset(Dataset[Example]):
    """Sessions that a simulator makes on demand.

    Args:
        session: index to waveform and turns, ``Simulator.session``.
        num_sessions: how many there are.
    """

    def __init__(
        self,
        session: Callable[[int], tuple[NDArray[np.float32], list[Turn]]],
        num_sessions: int,
    ) -> None:
        self._session, self._num_sessions = session, num_sessions

    def __len__(self) -> int:
        return self._num_sessions

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
        self, simulated: Dataset[Example], recorded: Dataset[Example], recorded_share: float, seed: int
    ) -> None:
        self._simulated, self._recorded = simulated, recorded
        self._share, self._seed = recorded_share, seed

    def __getitem__(self, index: int) -> Example:
        draw = np.random.default_rng([self._seed, index, 1]).random()
        return (self._recorded if draw < self._share else self._simulated)[index]


class StreamSampler(Sampler[list[int]]):
    """Batches of consecutive indices, the same whoever stops and resumes.

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
