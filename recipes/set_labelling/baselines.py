"""What a set labelling DER means: three systems that were not trained.

    python recipes/set_labelling/baselines.py MANIFEST

*oracle* knows the prototypes of a session's classes (``classes.npz``) and takes, frame by frame,
those whose sum lies nearest. *one class* says that the same class is there throughout; *energy*
that it is there in all but the weakest 15 % of the frames. Prints the DER of each, collar 0.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.activity import to_turns
from diarize.features import read_features
from diarize.frames import FrameGrid
from diarize.manifest import read_manifest, reference_turns
from diarize.score import score_sessions
from diarize.turns import Segment, Turn

GRID = FrameGrid(sample_rate=10, hop=1)
WEAKEST = 0.15
"""Share of frames that *energy* takes for null."""


def oracle(frames: NDArray[np.float32], prototypes: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The nearest sum of prototypes for each frame.

    Args:
        frames: (frame, dim).
        prototypes: (class, dim).

    Returns:
        (frame, class).
    """
    subsets = np.array(list(product((False, True), repeat=len(prototypes))))
    sums = subsets @ prototypes  # (subset, dim)
    distance = (sums**2).sum(axis=1) - 2 * frames @ sums.T
    return subsets[distance.argmin(axis=1)]


def energy(frames: NDArray[np.float32]) -> NDArray[np.bool_]:
    """One class where a frame is not weak, (frame, 1)."""
    power = (frames**2).sum(axis=1, keepdims=True)
    return power > np.quantile(power, WEAKEST)


def main() -> int:
    """Print the table."""
    manifest = Path(sys.argv[1])
    known = np.load(manifest.with_name("classes.npz"))
    prototypes = dict(zip(known["names"].tolist(), known["prototypes"], strict=True))
    references: dict[str, list[Turn]] = {}
    regions: dict[str, list[Segment] | None] = {}
    systems: dict[str, dict[str, list[Turn]]] = {"oracle": {}, "one class": {}, "energy": {}}
    for session in read_manifest(manifest):
        name, start, end = session.session_id, session.offset, round(session.end, 3)
        references[name], regions[name] = reference_turns(session), [Segment(start, end)]
        first = GRID.frame_at(start)
        frames = read_features(session.audio, first, GRID.frame_at(end) - first, 0.1)
        shown = sorted({turn.speaker for turn in references[name]})
        activity = oracle(frames, np.stack([prototypes[s] for s in shown]))
        systems["oracle"][name] = to_turns(activity, GRID, shown, start)
        systems["one class"][name] = [Turn(start, end, "class_0")]
        systems["energy"][name] = to_turns(energy(frames), GRID, ["class_0"], start)
    for system, hypotheses in systems.items():
        error = score_sessions(references, hypotheses, uems=regions).total
        parts = (error.part(s) for s in (error.miss, error.false_alarm, error.confusion))
        miss, false_alarm, confusion = (f"{100 * part:.2f}" for part in parts)
        print(
            f"{manifest.stem} {system}: DER {100 * error.der:.2f} % (miss {miss}, "
            f"false alarm {false_alarm}, confusion {confusion})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
