"""What there is of a session, found to belong together before anything takes its time."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from diarize.errors import AudioError, PosteriorError
from diarize.formats.posteriors import Posteriors, read_posteriors
from diarize.manifest import Session
from diarize.recording import Recording, open_recording
from diarize.turns import Segment, Turn

SLACK = 0.5
"""Seconds by which turns and posteriors may outlast a recording: frames are whole, times rough."""


@dataclass(frozen=True)
class Material:
    """A session to be shown.

    Attributes:
        session_id: its name.
        hypothesis: who spoke when by a system.
        reference: who did in truth; empty where nobody knows.
        session: the session and all turns, seconds of the recording.
        recording: what is heard; None shows turns alone.
        posteriors: from the beginning of the session.
    """

    session_id: str
    hypothesis: Sequence[Turn]
    reference: Sequence[Turn]
    session: Segment
    recording: Recording | None = None
    posteriors: Posteriors | None = None

    @property
    def span(self) -> Segment:
        """What is shown: the session, and turns that lie outside it; a second at least."""
        turns = [*self.hypothesis, *self.reference]
        first = min([self.session.start, *(turn.start for turn in turns)])
        last = max([self.session.end, *(turn.end for turn in turns)])
        return Segment(first, max(last, first + 1.0))

    @property
    def heard(self) -> Segment:
        """What the recording has of the span; nothing where there is none."""
        end = self.span.start if self.recording is None else self.recording.duration
        return Segment(self.span.start, max(self.span.start, min(self.span.end, end)))


def collect(
    session_id: str,
    hypothesis: Sequence[Turn],
    reference: Sequence[Turn],
    session: Session | None,
    posteriors: Path | None,
) -> Material:
    """Open what belongs to a session.

    Raises:
        AudioError: if its recording cannot be read, or ends before its turns.
        PosteriorError: if its posteriors cannot be read, or are another session's.
    """
    recording = None
    span = Segment(0.0, max((turn.end for turn in (*hypothesis, *reference)), default=0.0))
    if session is not None:
        recording = open_recording(session.audio, session.frame_shift, session.channel)
        span = Segment(session.offset, min(session.end, recording.duration))
        for side, turns in (("hypothesis", hypothesis), ("reference", reference)):
            last = max((turn.end for turn in turns), default=0.0)
            if last > recording.duration + SLACK:
                raise AudioError(
                    f"{session.audio}: {recording.lasts}, but the {side} of session "
                    f"{session_id!r} has a turn until {last:.2f} s. Is it another recording's?"
                )
    read = None if posteriors is None else read_posteriors(posteriors)
    material = Material(session_id, hypothesis, reference, span, recording, read)
    if read is not None:
        _refuse_other(f"{posteriors}", read, material)
    return material


def _refuse_other(path: str, posteriors: Posteriors, material: Material) -> None:
    """See that posteriors last as long as the session, or without a recording, as its turns."""
    session = material.session
    missing = session.duration - posteriors.duration
    most = SLACK + posteriors.frame_shift
    last = max((turn.end for turn in material.hypothesis), default=0.0)
    lasts = f"lasts {session.duration:.2f} s"
    if material.recording is None:
        missing, lasts = max(last - posteriors.duration, 0.0), f"has a turn until {last:.2f} s"
    if abs(missing) > most:
        raise PosteriorError(
            f"{path}: {len(posteriors.posterior)} frames of {posteriors.frame_shift:g} s last "
            f"{posteriors.duration:.2f} s, but session {material.session_id!r} {lasts}. "
            "Is it another session's?"
        )
