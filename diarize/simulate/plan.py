"""What a mixer needs to know of a batch of sessions: who says which words when, and how it sounds.

B sessions, S talkers of the largest of them, E utterances of all.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Script:
    """Who says which words when.

    Attributes:
        num_samples: (B,) of each session.
        voice: (B, S) index into the corpus's speakers, -1 beyond a session's talkers.
        session: (E,) 0 to B - 1; the next five are by utterance too.
        talker: (E,) 0 to S - 1.
        utterance: (E,) of the corpus.
        first: (E,) sample within the utterance.
        start: (E,) sample within the session.
        length: (E,) samples, at least 1.
    """

    num_samples: Ints
    voice: Ints
    session: Ints
    talker: Ints
    utterance: Ints
    first: Ints
    start: Ints
    length: Ints


@dataclass(frozen=True)
class Scene:
    """Where it is said, and what else is heard.

    Attributes:
        level: (B, S) of talkers, dB below full scale.
        room: (B,) which, or -1.
        place: (B, S) where in the room each talker is.
        noise: (B,) which, or -1.
        noise_start: (B,) its first sample.
        snr: (B,) signal-to-noise ratio, dB.
        band: (B, 2) Hz that pass the line, lowest and highest; all do between 0 and infinity.
        overdrive: (B,) dB by which the peak is above full scale and cut off; NaN where it is not.
    """

    level: Floats
    room: Ints
    place: Ints
    noise: Ints
    noise_start: Ints
    snr: Floats
    band: Floats
    overdrive: Floats


@dataclass(frozen=True)
class Plan:
    """Sessions before they are mixed."""

    script: Script
    scene: Scene

    def part(self, first: int, stop: int) -> "Plan":
        """Some of the sessions, ``first`` to ``stop`` - 1."""
        script = self.script
        chosen = np.flatnonzero((script.session >= first) & (script.session < stop))
        events = ("talker", "utterance", "first", "start", "length")
        of_sessions = {name: value[first:stop] for name, value in vars(self.scene).items()}
        return Plan(
            Script(
                script.num_samples[first:stop],
                script.voice[first:stop],
                script.session[chosen] - first,
                *(getattr(script, name)[chosen] for name in events),
            ),
            Scene(**of_sessions),
        )
