"""Posteriors and turns of a judged session, and how much of them is true.

A column of posteriors is about the reference speaker to whom the scorer maps its turns; of a
column without one, nothing is true. What lies outside of the scored regions does not count, and
neither does a posterior of exactly 0: that is no answer of a network, but stands where a speaker
has no slot in a window, and in columns beyond the most speakers. A reference speaker without a
column is nothing that is stated, so not here, but missed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarize.activity import from_turns
from diarize.calibration.reliability import Reliability
from diarize.calibration.rescaling import Rescaling
from diarize.frames import FrameGrid
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.score import score_session
from diarize.tune import Labelled
from diarize.turns import Segment, Turn, clip, merge

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evidence:
    """One session.

    Attributes:
        session: what was judged.
        postprocess: how its turns are made.
        truth: slot -> when its speaker speaks, in what is scored.
        regions: what is scored.
        posterior: (statement,), of a slot in a frame, above 0.
        seconds: (statement,), how much of the frame is scored.
        active: (statement,), in how much of that the slot's speaker speaks.
    """

    session: Labelled
    postprocess: PostprocessConfig
    truth: dict[str, list[Turn]]
    regions: list[Turn]
    posterior: Floats
    seconds: Floats
    active: Floats

    @classmethod
    def of(cls, session: Labelled, postprocess: PostprocessConfig) -> "Evidence":
        """What a session with a reference tells.

        Args:
            session: what was judged.
            postprocess: how its turns are made; by these it is decided who is whom.
        """
        given = session.posteriors
        regions = session.regions
        if regions is None:
            regions = [Segment(given.offset, given.offset + given.duration)]
        counted = merge(Turn(region.start, region.end, "") for region in regions)
        turns = _turns(session, postprocess, Rescaling())
        mapping = score_session(session.reference, turns, uem=session.regions).mapping
        spoken = merge(session.reference)
        truth = {
            slot: [
                part
                for region in counted
                for part in clip(
                    (turn for turn in spoken if turn.speaker == speaker), region.start, region.end
                )
            ]
            for slot, speaker in mapping.items()
        }
        seconds = given.frame_shift * _shares(session, {"": counted}, [""])
        slots = [f"speaker_{slot}" for slot in range(given.posterior.shape[1])]
        active = given.frame_shift * _shares(session, truth, slots)
        seconds = np.broadcast_to(seconds, active.shape)
        told = (given.posterior > 0) & (seconds > 0)
        return cls(
            session, postprocess, truth, counted,
            given.posterior[told].astype(np.float64), seconds[told], active[told],
        )  # fmt: skip

    def posteriors(self, rescaling: Rescaling) -> Reliability:
        """How far posteriors are true."""
        return Reliability.of(rescaling.of(self.posterior), self.seconds, self.active)

    def turns(self, rescaling: Rescaling) -> Reliability:
        """How far the confidence of a turn is the share of its scored seconds that are right."""
        rows = [
            (t.confidence, _common(t, self.regions), _common(t, self.truth.get(t.speaker, [])))
            for t in _turns(self.session, self.postprocess, rescaling)
        ]
        return Reliability.of(*np.array(rows, dtype=np.float64).reshape(-1, 3).T)


def _turns(session: Labelled, postprocess: PostprocessConfig, rescaling: Rescaling) -> list[Turn]:
    given = session.posteriors
    posterior = rescaling.of(given.posterior)
    span = (given.offset, given.duration)
    return to_turns(posterior, given.frame_shift, rescaling.moved(postprocess), *span)


def _shares(session: Labelled, turns: dict[str, list[Turn]], names: Sequence[str]) -> Floats:
    """(frame, name), the share of each frame in which there is a turn of that name."""
    given = session.posteriors
    named = [Turn(turn.start, turn.end, name) for name, own in turns.items() for turn in own]
    grid = FrameGrid.of_shift(given.frame_shift)
    size = (len(given.posterior), len(names))
    matrix = from_turns(named, grid, *size, given.offset, list(names), soft=True).matrix
    return matrix.astype(np.float64)


def _common(turn: Turn, others: Sequence[Turn]) -> float:
    """Seconds of a turn in which there is one of the others, which do not overlap."""
    return sum(part.duration for part in clip(others, turn.start, turn.end))
