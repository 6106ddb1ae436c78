"""Compute expected.json with md-eval-22, through meeteval: see README.md beside this file."""

import json
from pathlib import Path

from meeteval.der.md_eval import md_eval_22_multifile
from meeteval.io import RTTM, UEM
from meeteval.io.uem import UEMLine

FOLDER = Path(__file__).parent
CONDITIONS = {"full": (0.0, "all"), "fair": (0.25, "all"), "forgiving": (0.25, "nooverlap")}


def main() -> None:
    """Every case under every condition; seconds as md-eval prints them, to a microsecond."""
    expected: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for path in sorted(FOLDER.glob("*.ref.rttm")):
        case = path.name.removesuffix(".ref.rttm")
        reference, hypothesis = RTTM.load(path), RTTM.load(FOLDER / f"{case}.hyp.rttm")
        uem_path = FOLDER / f"{case}.uem"
        uem = _read(uem_path) if uem_path.exists() else _extents(reference, hypothesis)
        expected[case] = {}
        for condition, (collar, regions) in CONDITIONS.items():
            errors = md_eval_22_multifile(reference, hypothesis, collar, regions, uem)
            expected[case][condition] = {
                session: {
                    "scored": float(error.scored_speaker_time),
                    "miss": float(error.missed_speaker_time),
                    "false_alarm": float(error.falarm_speaker_time),
                    "confusion": float(error.speaker_error_time),
                }
                for session, error in sorted(errors.items())
            }
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def _read(path: Path) -> UEM:
    """Any number of regions a session; meeteval's own reader stops at one."""
    lines = [line.split() for line in path.read_text().splitlines()]
    return UEM([UEMLine(name, channel, start, end) for name, channel, start, end in lines])


def _extents(reference: RTTM, hypothesis: RTTM) -> UEM:
    """Our default region; md-eval's own ends with the reference."""
    lines = []
    for session in sorted(reference.filenames()):
        both = [line for line in (*reference, *hypothesis) if line.filename == session]
        begin = min(line.begin_time for line in both)
        end = max(line.begin_time + line.duration for line in both)
        lines.append(UEMLine(session, "1", begin, end))
    return UEM(lines)


if __name__ == "__main__":
    main()
