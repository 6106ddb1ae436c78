r"""How a trained model is best run, chosen on development sessions alone.

    python recipes/mini/choose.py exp/mini/long \
        exp/mini/data/dev/manifest.jsonl ../shared/real/dev.jsonl

Every window and overlap is run with every threshold, shortest turn and shortest gap below; a line
of each of the best says the DER (collar 0, overlap scored) on every manifest. The best by their
mean comes last, as the settings that ``package.py`` takes.
"""

import argparse
import itertools
import sys
from pathlib import Path

import numpy as np

from diarize.checkpoint import load_checkpoint
from diarize.inference import Diarization, Failure, InferenceConfig, diarize_sessions
from diarize.manifest import Session, read_manifest, reference_turns, scored_regions
from diarize.memory import keep_freed_memory
from diarize.model import Diarizer
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.score import DiarizationError, score

WINDOWS = ((120.0, 40.0), (120.0, 90.0), (180.0, 60.0), (240.0, 80.0))
"""Seconds, and seconds that neighbours share."""
THRESHOLDS = (0.4, 0.5, 0.55, 0.6, 0.65)
SHORTEST_TURNS = (0.0, 0.24)
SHORTEST_GAPS = (0.0, 0.24, 0.48)


def main() -> int:
    """Print the ten best combinations, the best last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("manifests", metavar="MANIFEST", type=Path, nargs="+")
    args = parser.parse_args()
    keep_freed_memory()
    diarizer = load_checkpoint(args.model)
    manifests = [read_manifest(path) for path in args.manifests]
    rows = []
    for window, overlap in WINDOWS:
        heard = [judge(diarizer, sessions, window, overlap) for sessions in manifests]
        for onset, on, off in itertools.product(THRESHOLDS, SHORTEST_TURNS, SHORTEST_GAPS):
            config = PostprocessConfig(onset, onset, min_duration_on=on, min_duration_off=off)
            ders = [
                total(sessions, results, config)
                for sessions, results in zip(manifests, heard, strict=True)
            ]
            settings = f"window={window:g} overlap={overlap:g}"
            settings += f" postprocess.onset={onset} postprocess.offset={onset}"
            settings += f" postprocess.min_duration_on={on} postprocess.min_duration_off={off}"
            rows.append((float(np.mean(ders)), ders, settings))
    for mean, ders, settings in sorted(rows, reverse=True)[-10:]:
        parts = " ".join(f"{der:6.2f}" for der in ders)
        print(f"mean {mean:6.2f} of {parts}  {settings}")
    return 0


def judge(
    diarizer: Diarizer, sessions: list[Session], window: float, overlap: float
) -> dict[str, Diarization]:
    """Posteriors of every session."""
    results = {}
    config = InferenceConfig(window=window, overlap=overlap)
    for result in diarize_sessions(diarizer, sessions, config):
        if isinstance(result, Failure):
            raise SystemExit(f"choose.py: {result.session_id}: {result.reason}")
        results[result.session_id] = result
    return results


def total(
    sessions: list[Session], results: dict[str, Diarization], config: PostprocessConfig
) -> float:
    """DER in percent over all sessions, collar 0, overlap scored."""
    error = DiarizationError()
    for session in sessions:
        result = results[session.session_id]
        turns = to_turns(
            result.posterior, result.frame_shift, config, result.offset, result.duration
        )
        error += score(reference_turns(session), turns, uem=scored_regions(session))
    return 100 * error.der


if __name__ == "__main__":
    sys.exit(main())
