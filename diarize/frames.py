"""Seconds, samples and frames: the only module where one becomes another.

A recording is cut into frames of equal length, counted from its first sample.
Frame ``t`` holds the samples ``[t * hop, (t + 1) * hop)``.
"""

from dataclasses import dataclass
from fractions import Fraction

LEAST_RATE = 16000
"""Fewest virtual samples a second of a grid that is made from a frame shift: those of audio."""

SHIFTS = (0.01, 1e9)
"""Seconds: the frame shifts of features lie between these. Turns are cut to hundredths of a second
and RTTM is written with three decimals, so shorter frames would be lost."""

LARGEST_DENOMINATOR = 30000
"""Of a frame shift as a fraction. 1001/30000 and 128/11025 are exact, and 0.033333 is 1/30."""


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

    @classmethod
    def of_shift(cls, frame_shift: float) -> "FrameGrid":
        """The clock of rows of features, each of which is a frame.

        Its samples are virtual, and so many a second that a row is a whole number of them and
        times are rounded as those of audio are: 0.08 s is 1280 of 16000, 1/30 s 534 of 16020.

        Args:
            frame_shift: seconds per row.

        Raises:
            ValueError: if it is no time that passes between rows.
        """
        if not SHIFTS[0] <= frame_shift <= SHIFTS[1]:
            raise ValueError(
                f"frame_shift is {frame_shift:g} s, but it may be from {SHIFTS[0]:g} s to "
                f"{SHIFTS[1]:g} s. Give the seconds from row to row: 0.04 where 25 are a second."
            )
        shift = Fraction(frame_shift).limit_denominator(LARGEST_DENOMINATOR)
        times = -(-LEAST_RATE // shift.denominator)
        hop = shift.numerator * times
        return cls(shift.denominator * times, hop, step=hop)

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
