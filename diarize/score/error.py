"""Errors of a session as values: seconds that add up, and stretches that can be shown."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class DiarizationError:
    """Speaker-seconds scored, and wrong in three ways. Adds up over sessions.

    Attributes:
        scored: reference speech inside the scored region.
        miss: reference speech to which no hypothesis speaker answers.
        false_alarm: hypothesis speech beyond the reference's.
        confusion: speech that a wrong speaker answers.
    """

    scored: float = 0.0
    miss: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0

    @property
    def der(self) -> float:
        """(miss + false alarm + confusion) / scored.

        Without scored speech it is 0 where nothing is wrong, else infinite.
        """
        return self.part(self.miss + self.false_alarm + self.confusion)

    def part(self, seconds: float) -> float:
        """Seconds as a fraction of the scored time; of no time, 0 or infinite."""
        if self.scored > 0:
            return seconds / self.scored
        return math.inf if seconds > 0 else 0.0

    def __add__(self, other: "DiarizationError") -> "DiarizationError":
        return DiarizationError(
            self.scored + other.scored,
            self.miss + other.miss,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )


@dataclass(frozen=True)
class SessionScore:
    """All that is counted in one session.

    Speakers are those who speak where speakers are mapped: in the whole scored region by md-eval's
    rules, in what collars and skipped overlap leave of it by pyannote's.

    Attributes:
        silence: the error where no reference speaker speaks, which is false alarm alone.
        single: the error where one does.
        overlapped: the error where two or more do.
        mapping: hypothesis speaker -> the reference speaker taken to be the same.
        jaccard_errors: reference speaker -> 1 - intersection / union with the hypothesis speaker
            that fits, 1 without one. By md-eval's rules as dscore and DIHARD II count: without
            collars, overlap included, speakers mapped so that the sum of these is least.
            By pyannote's, where and as the error is counted.
        num_reference_speakers: who speak.
        num_hypothesis_speakers: who speak by the hypothesis.
        missed_speakers: of the reference, mapped to nobody; in order of their names.
        invented_speakers: of the hypothesis, mapped to nobody; in order of their names.
        region: seconds of the scored region.
        left_out: seconds of it that collars and skipped overlap take.
    """

    silence: DiarizationError
    single: DiarizationError
    overlapped: DiarizationError
    mapping: dict[str, str]
    jaccard_errors: dict[str, float]
    num_reference_speakers: int
    num_hypothesis_speakers: int
    missed_speakers: tuple[str, ...]
    invented_speakers: tuple[str, ...]
    region: float
    left_out: float

    @property
    def error(self) -> DiarizationError:
        """The error of all of it."""
        return self.silence + self.single + self.overlapped

    @property
    def jer(self) -> float:
        """Jaccard error rate: the mean over reference speakers, each weighing the same.

        Where there are none, 0 if the hypothesis has none either, else 1, as dscore says.
        """
        if self.jaccard_errors:
            return sum(self.jaccard_errors.values()) / len(self.jaccard_errors)
        return 1.0 if self.num_hypothesis_speakers else 0.0


@dataclass(frozen=True)
class ErrorSpan:
    """A stretch in which the same is wrong throughout.

    Where more reference speakers are left unanswered than hypothesis speakers are left over, or
    fewer, some are confused and the rest missed or false: nothing says who, so both spans name all.

    Attributes:
        start: seconds.
        end: seconds.
        kind: "miss", "false alarm" or "confusion".
        count: how many speakers are wrong in this way at once.
        reference: those of the reference whom the speaker mapped to them does not answer.
        hypothesis: those of the hypothesis who answer nobody that they are mapped to.
    """

    start: float
    end: float
    kind: str
    count: int
    reference: tuple[str, ...]
    hypothesis: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Speaker-seconds: those of a session's spans of one kind sum up to that part of it."""
        return self.count * (self.end - self.start)
