"""Sessions as batches: what a front end hears and what it should answer.

B batch, T frames, S slots, N samples, F numbers in a row of features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from diarize.activity import from_turns
from diarize.audio import TOLERANCE
from diarize.errors import AudioError, ConfigError, FeatureError, ManifestError
from diarize.frames import FrameGrid
from diarize.manifest import Session, reference_turns, scored_regions
from diarize.recording import AUDIO, Kind, Recording, open_recording, refuse_unheard
from diarize.turns import Segment, Turn, clip, shift


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
    """

    session_id: str
    signal: NDArray[np.float32]
    turns: list[Turn]
    regions: list[Segment] | None = None
    start: float = 0.0
    grid: FrameGrid = AUDIO.grid

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
                raise _crowded(name, len(truth.speakers), span, self.num_slots)
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
        )


def _crowded(name: str, count: int, span: Segment, num_slots: int) -> ConfigError:
    """A window of features with more classes than slots; of speech, who comes late is dropped."""
    return ConfigError(
        f"{name} has {count} classes between {span.start:.2f} s and "
        f"{span.end:.2f} s, but the model has {num_slots} slots. Raise diarizer.num_slots, or "
        "lower data.window (in validation, data.validation_window)."
    )


@dataclass(frozen=True)
class _Window:
    """A stretch of a session, in seconds of the recording, and the session's truth."""

    session: Session
    recording: Recording
    start: float
    duration: float
    turns: list[Turn]
    regions: list[Segment] | None

    def cut(self, start: float, duration: float) -> "_Window":
        return replace(self, start=start, duration=duration)

    def example(self) -> Example:
        first = self.recording.sample_at(self.start)
        count = self.recording.sample_at(self.start + self.duration) - first
        signal = self.recording.read(first, count)
        start = self.recording.nearest(self.start)
        end = start + count / self.recording.sample_rate
        regions = None
        if self.regions is not None:
            cut = [(max(r.start, start), min(r.end, end)) for r in self.regions]
            regions = [Segment(a - start, b - start) for a, b in cut if b > a]
        turns = shift(clip(self.turns, start, end), -start)
        grid = self.recording.kind.grid
        return Example(self.session.session_id, signal, turns, regions, start, grid)

    def check(self, hears: Kind, num_slots: int, window: float | None) -> None:
        """See that a model hears it, and has slots for all classes in any ``window`` seconds."""
        name = f"{self.session.where}: session {self.session.session_id!r}"
        refuse_unheard(name, self.recording.kind, hears)
        classes = sorted({turn.speaker for turn in self.turns})
        if hears == AUDIO or len(classes) <= num_slots:
            return
        grid = self.recording.kind.grid
        num_frames = grid.frame_at(self.duration)
        length = min(grid.frame_at(window or self.duration), num_frames)
        truth = from_turns(self.turns, grid, num_frames, len(classes), self.start, classes)
        so_far = np.zeros((num_frames + 1, len(classes)), dtype=np.int64)
        np.cumsum(truth.matrix, axis=0, out=so_far[1:])
        present = (so_far[length:] - so_far[:-length] > 0).sum(axis=1)  # by first frame
        first = int(present.argmax())
        if present[first] > num_slots:
            start = self.start + grid.time_at(first)
            span = Segment(start, start + grid.time_at(length))
            raise _crowded(name, int(present[first]), span, num_slots)


class SessionDataset(Dataset[Example]):
    """Windows of recorded sessions, each with its reference turns.

    Args:
        sessions: manifest lines with ``rttm_filepath``; of features, windows begin and end where
            rows do.
        window: seconds of a window; a session is cut into windows end to end and a rest of
            under a second is left out. None keeps sessions whole.
        shuffle_seed: with a seed, any index ``i`` is a window at a random place, drawn from
            (seed, i), of a session drawn by its duration; without, windows come in order.

    Raises:
        ManifestError: if there are no sessions, or one has no reference, ends after its recording,
            or has no row of features as long as a window.
        AudioError: if audio is missing or its header cannot be read.
        FeatureError: if features are.
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
        open_once = lru_cache(maxsize=None)(open_recording)
        for session in sessions:
            whole = _whole(session, open_once)
            if window is not None and not whole.recording.nearest(window):
                raise ManifestError(
                    f"{session.where}: session {session.session_id!r} is {whole.recording.kind}, "
                    f"but a window lasts {window:g} s. Raise data.window (in "
                    "validation, data.validation_window)."
                )
            if shuffle_seed is not None or window is None:
                self._windows.append(whole)
                continue
            start, step = 0.0, whole.recording.nearest(window)
            least = max(1.0, whole.recording.kind.grid.frame_shift)
            while whole.duration - start >= min(least, whole.duration):
                length = min(step, whole.duration - start)
                self._windows.append(whole.cut(whole.start + start, length))
                start += step
        total = np.array([w.duration for w in self._windows])
        self._share = total / total.sum()

    def check(self, hears: Kind, num_slots: int) -> None:
        """See that a model can learn from it, before any window is cut.

        Args:
            hears: what the model hears.
            num_slots: classes that it tells apart in a window; audio may have more.

        Raises:
            ManifestError: if a session is something else.
            ConfigError: if a window of features may have more classes.
        """
        for window in self._windows:
            window.check(hears, num_slots, self._window)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Example:
        if self._seed is None:
            return self._windows[index].example()
        rng = np.random.default_rng([self._seed, index])
        drawn = self._windows[int(rng.choice(len(self._windows), p=self._share))]
        window = self._window and drawn.recording.nearest(self._window)
        if window is not None and drawn.duration > window:
            start = drawn.start + float(rng.uniform(0.0, drawn.duration - window))
            drawn = drawn.cut(drawn.recording.nearest(start), window)
        return drawn.example()


def _whole(session: Session, open_once: Callable[..., Recording]) -> _Window:
    """All of a session, which its recording is seen to hold."""
    if session.rttm is None:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} has no rttm_filepath, but "
            "training and validation need references. Add it."
        )
    try:
        recording = open_once(session.audio, session.frame_shift)
    except (AudioError, FeatureError) as error:
        raise type(error)(f"{session.where}: {error}") from None
    left = recording.duration - session.offset
    duration = left if session.duration is None else session.duration
    if duration <= 0:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} starts at {session.offset:.2f} "
            f"s, but {recording.lasts}. Correct 'offset'."
        )
    if session.offset + duration > recording.duration + TOLERANCE:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} ends at {session.end:.2f} s, but "
            f"{recording.lasts}. Shorten 'duration', or check the file."
        )
    start = session.offset
    if recording.kind != AUDIO:  # rows are cut nowhere else than between them
        name = f"{session.where}: session {session.session_id!r}"
        first, stop = recording.span(name, start, start + duration)
        start, duration = first / recording.sample_rate, (stop - first) / recording.sample_rate
    return _Window(
        session,
        recording,
        start,
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


class SharedBatches(Sampler[list[int]]):
    """Batches of a dataset from first to last, dealt out to the ranks, as many to each.

    Batch ``k`` is that of one process, and rank ``k % R``'s. Where R ranks do not divide their
    number, the last one is given again, since ranks that work together take steps together; what
    it says must not count (`is_first`).

    Args:
        num_examples: of the dataset.
        batch_size: examples per batch.
        rank: of this process.
        num_ranks: how many processes work together.
    """

    def __init__(
        self, num_examples: int, batch_size: int, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self._num_examples, self._batch_size = num_examples, batch_size
        self._rank, self._num_ranks = rank, num_ranks
        self._num_batches = -(-num_examples // batch_size)

    def __len__(self) -> int:
        return -(-self._num_batches // self._num_ranks)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(len(self)):
            number = min(step * self._num_ranks + self._rank, self._num_batches - 1)
            first = number * self._batch_size
            yield list(range(first, min(first + self._batch_size, self._num_examples)))

    def is_first(self, step: int) -> bool:
        """Whether no rank was given this rank's batch of a step before."""
        return step * self._num_ranks + self._rank < self._num_batches
