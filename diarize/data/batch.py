"""Sessions as batches: what a front end hears and what it should answer.

B batch, T frames, S slots, N samples, F numbers in a row of features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diarize.activity import from_turns
from diarize.errors import ConfigError
from diarize.frames import FrameGrid
from diarize.recording import AUDIO, Kind, refuse_unheard
from diarize.turns import Segment, Turn


@dataclass(frozen=True)
class Example:
    """One window of a session.

    Attributes:
        session_id: what it was cut from.
        signal: what is heard, float32: (sample,) at 16 kHz, or features, (frame, F).
        turns: who speaks when, seconds from the first sample of the window.
        regions: what is scored, likewise; None is the union of both extents.
        start: where the window starts in its recording, seconds.
        grid: frames that the signal is made of: single samples, or rows of features.
        stands_in: whether it is noise in place of a session that has no such window.
    """

    session_id: str
    signal: NDArray[np.float32]
    turns: list[Turn]
    regions: list[Segment] | None = None
    start: float = 0.0
    grid: FrameGrid = AUDIO.grid
    stands_in: bool = False

    @property
    def kind(self) -> Kind:
        """Audio, or features of some width and frame shift."""
        return Kind(None if self.signal.ndim == 1 else self.signal.shape[1], self.grid)

    @property
    def num_samples(self) -> int:
        """Samples, those of features being virtual."""
        return len(self.signal) * self.grid.hop


@dataclass(frozen=True)
class Batch:
    """Examples padded to one length.

    Attributes:
        signal: (B, N) or, of features, (B, T, F); float32, zero beyond each example.
        num_samples: (B,) samples before padding.
        activity: (B, T, S) 0 to 1, columns by arrival.
        num_frames: (B,) frames before padding.
        voice: (B, T) index of the training speaker who talks alone, -1 elsewhere.
        turns: per example, seconds from its first sample.
        regions: per example, what is scored, likewise; None is the union of both extents.
        num_speakers: speakers heard, summed over the examples.
        dropped_speakers: those of them beyond the slots, whose speech is no target.
        stand_ins: examples that are noise in place of a session that has no such window.
    """

    signal: Tensor
    num_samples: Tensor
    activity: Tensor
    num_frames: Tensor
    voice: Tensor
    turns: list[list[Turn]]
    regions: list[list[Segment] | None]
    num_speakers: int
    dropped_speakers: int
    stand_ins: int = 0

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
        num_slots: columns of the activity; of audio, later arrivals are dropped and counted.
        voices: training speaker to class index, where voices are trained.
        hears: what the front end hears.
        soft: activity says how much of a frame is spoken in, not whether its middle is.
    """

    grid: FrameGrid
    num_slots: int
    voices: Mapping[str, int] | None = None
    hears: Kind = AUDIO
    soft: bool = False

    def __call__(self, examples: Sequence[Example]) -> Batch:
        """Pad to the longest example; frames and samples beyond each example are zero.

        Raises:
            ManifestError: if an example is not what the front end hears.
            ConfigError: if features have more classes than there are slots.
        """
        for example in examples:
            refuse_unheard(f"session {example.session_id!r}", example.kind, self.hears)
        num_samples = [example.num_samples for example in examples]
        num_frames = [self.grid.num_frames(n) for n in num_samples]
        longest = max((example.signal for example in examples), key=len)
        signal = torch.zeros(len(examples), *longest.shape)
        activity = torch.zeros(len(examples), max(num_frames), self.num_slots)
        voice = torch.full((len(examples), max(num_frames)), -1)
        heard = dropped = 0
        for row, example in enumerate(examples):
            signal[row, : len(example.signal)] = torch.from_numpy(example.signal)
            frames = num_frames[row]
            # All speakers first: who is beyond the slots still talks into the others' speech.
            most = max(self.num_slots, len({turn.speaker for turn in example.turns}))
            truth = from_turns(example.turns, self.grid, frames, most, soft=self.soft)
            activity[row, :frames] = torch.from_numpy(truth.matrix[:, : self.num_slots])
            if self.hears != AUDIO and len(truth.speakers) > self.num_slots:
                end = example.start + num_samples[row] / self.grid.sample_rate
                span = Segment(example.start, end)
                name = f"session {example.session_id!r}"
                raise crowded(name, len(truth.speakers), span, self.num_slots)
            heard += len(truth.speakers)
            dropped += max(len(truth.speakers) - self.num_slots, 0)
            if self.voices is not None:
                alone = (truth.matrix > 0).sum(axis=1) == 1
                classes = np.array([self.voices.get(s, -1) for s in truth.speakers] + [-1])
                column = np.where(alone, truth.matrix.argmax(axis=1), -1)
                voice[row, :frames] = torch.from_numpy(classes[column])
        return Batch(
            signal,
            torch.tensor(num_samples),
            activity,
            torch.tensor(num_frames),
            voice,
            [example.turns for example in examples],
            [example.regions for example in examples],
            heard,
            dropped,
            sum(example.stands_in for example in examples),
        )


def crowded(name: str, count: int, span: Segment, num_slots: int) -> ConfigError:
    """A window of features with more classes than slots; of speech, who comes late is dropped."""
    return ConfigError(
        f"{name} has {count} classes between {span.start:.2f} s and "
        f"{span.end:.2f} s, but the model has {num_slots} slots. Raise diarizer.num_slots, or "
        "lower data.window (in validation, data.validation_window)."
    )
