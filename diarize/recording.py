"""What a session is cut from: audio, or an array of features.

Both are counted in samples, those of features being virtual: a row is as many of them as
`FrameGrid.of_shift` says.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE, AudioInfo, audio_info, check_channel, read_audio
from diarize.errors import FeatureError, ManifestError
from diarize.features import FeatureInfo, feature_info, read_features
from diarize.frames import FrameGrid


@dataclass(frozen=True)
class Kind:
    """What a recording is made of, or a front end hears.

    Attributes:
        dim: numbers in a row of features; None is audio.
        grid: its frames are what it can be cut into: rows, or single samples of audio.
    """

    dim: int | None
    grid: FrameGrid

    @classmethod
    def of_features(cls, dim: int, frame_shift: float) -> "Kind":
        """Rows of so many numbers, so many seconds apart."""
        return cls(dim, FrameGrid.of_shift(frame_shift))

    def __str__(self) -> str:
        if self.dim is None:
            return "audio"
        return f"features of {self.dim} numbers every {self.grid.frame_shift:.9g} s"


AUDIO = Kind(None, FrameGrid(SAMPLE_RATE, 1))
"""What most models hear."""


def refuse_unheard(name: str, kind: Kind, hears: Kind) -> None:
    """See that a model hears what it is given.

    Args:
        name: of what it is given, as it begins a message.
        kind: what that is made of.
        hears: what the model hears.

    Raises:
        ManifestError: if it is not the same.
    """
    if kind != hears:
        raise ManifestError(
            f"{name} is {kind}, but the model hears {hears}. Give it sessions that it hears, or "
            "take a model (in training, diarizer.front_end) that hears these."
        )


@dataclass(frozen=True)
class Recording:
    """A file whose header was read.

    Attributes:
        path: the file.
        header: what it says of itself.
        kind: what it is made of.
        channel: which channel of audio is heard, from 0; None is their mean.
    """

    path: Path
    header: AudioInfo | FeatureInfo
    kind: Kind = AUDIO
    channel: int | None = None

    @property
    def sample_rate(self) -> int:
        """Samples per second, real or virtual."""
        return self.kind.grid.sample_rate

    @property
    def num_samples(self) -> int:
        """Samples of the whole recording."""
        if isinstance(self.header, FeatureInfo):
            return self.header.rows * self.kind.grid.hop
        return self.header.num_samples_at(self.sample_rate)

    @property
    def duration(self) -> float:
        """Seconds."""
        if isinstance(self.header, FeatureInfo):
            return self.num_samples / self.sample_rate
        return self.header.duration

    @property
    def lasts(self) -> str:
        """How long it is, in words that end a claim."""
        if isinstance(self.header, FeatureInfo):
            return f"its {self.header.rows} rows of features last {self.duration:.2f} s"
        return f"its audio lasts {self.duration:.2f} s"

    def sample_at(self, seconds: float) -> int:
        """The sample nearest to a time, at most one past the last; of features, that of a row."""
        grid = self.kind.grid
        return min(grid.frame_at(seconds) * grid.hop, self.num_samples)

    def nearest(self, seconds: float) -> float:
        """The nearest time at which it can be cut: where a row begins, anywhere in audio."""
        grid = self.kind.grid
        return seconds if self.kind.dim is None else grid.time_at(grid.frame_at(seconds))

    def span(self, name: str, start: float, end: float) -> tuple[int, int]:
        """First sample, and one past the last, of a stretch in seconds.

        Args:
            name: of what lasts so long, as it begins a message.
            start: where it begins.
            end: where it ends.

        Raises:
            ManifestError: if it is shorter than a row of features.
        """
        first, stop = self.sample_at(start), self.sample_at(end)
        if first == stop and self.kind.dim is not None:
            raise ManifestError(
                f"{name} lasts from {start:.2f} s to {end:.2f} s, but holds no row of features, of "
                f"which there is one every {self.kind.grid.frame_shift:g} s. Lengthen 'duration'."
            )
        return first, stop

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """A span of it.

        Args:
            first: sample at which it begins; of features, at which a row does.
            count: samples; of features, whole rows of them.

        Returns:
            (sample,), or (row, dim), float32.

        Raises:
            AudioError: if audio cannot be read.
            FeatureError: if features cannot be.
        """
        if self.kind.dim is None:
            rate = self.sample_rate
            return read_audio(self.path, first / rate, count / rate, self.channel)
        hop, shift = self.kind.grid.hop, self.kind.grid.frame_shift
        return read_features(self.path, first // hop, count // hop, shift)


def open_recording(
    path: str | Path, frame_shift: float | None = None, channel: int | None = None
) -> Recording:
    """A recording by its header.

    Args:
        path: the file.
        frame_shift: seconds per row of an array of features; None means audio.
        channel: of audio with several, from 0; None is their mean.

    Raises:
        AudioError: if it is missing, cannot be read as audio, or has no such channel.
        FeatureError: if it is missing or holds no features, or a channel of them is asked for.
    """
    path = Path(path)
    if frame_shift is None:
        header = audio_info(path)
        check_channel(path, header, channel)
        return Recording(path, header, channel=channel)
    info = feature_info(path)
    if channel is not None:
        raise FeatureError(
            f"{path}: channel {channel} is asked for, but features have none. Leave it out."
        )
    return Recording(path, info, Kind.of_features(info.dim, frame_shift))
