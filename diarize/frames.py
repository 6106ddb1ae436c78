"""Seconds, samples and frames: the only module where one becomes another.

A recording is cut into frames of equal length, counted from its first sample.
Frame ``t`` holds the samples ``[t * hop, (t + 1) * hop)``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class FrameGrid:
    """The clock of a front end: how many samples make one output frame.

    Attributes:
        sample_rate: samples per second.
        hop: samples per frame.
        step: samples per feature step; a frame begins only with a whole step of audio
            (the log-mel front end advances by 160 samples and joins 8 steps to a frame).
    """

    sample_rate: int
    hop: int
    step: int = 1

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.hop < 1 or self.step < 1 or self.hop % self.step:
            raise ValueError(
                f"FrameGrid: hop {self.hop} is not a positive multiple of step {self.step} "
                f"at {self.sample_rate} Hz. Give positive whole numbers with hop = k * step."
            )

    @property
    def frame_shift(self) -> float:
        """Seconds per frame."""
        return self.hop / self.sample_rate

    def samples_at(self, seconds: float) -> int:
        """Index of the sample nearest to a time."""
        return round(seconds * self.sample_rate)

    def frame_at(self, seconds: float) -> int:
        """Index of the frame boundary nearest to a time; halves round up.

        Goes through whole samples, since 1.16 / 0.08 is 14.499999999999998.
        """
        return (round(seconds * self.sample_rate) + self.hop // 2) // self.hop

    def time_at(self, frame: int) -> float:
        """Seconds at which a frame begins."""
        return frame * self.hop / self.sample_rate

    def num_frames(self, num_samples: int) -> int:
        """Frames in a recording of so many samples, the last one possibly partial."""
        return -(-(num_samples // self.step) // (self.hop // self.step))
