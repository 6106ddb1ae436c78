"""Sessions of features on disk: one array, one RTTM and one manifest for all of them."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.files import replacing, write_text
from diarize.formats.rttm import write_rttm
from diarize.turns import Turn, clip, shift


def write_features(
    folder: str | Path,
    name: str,
    sessions: Iterable[tuple[NDArray[np.floating], list[Turn]]],
    frame_shift: float,
) -> Path:
    """Write sessions one after another into ``features/NAME.npy``; each is a span of it.

    Thousands of short sessions are three files so. The manifest is written last.

    Args:
        folder: made if need be.
        name: of the files; the sessions are called NAME_00000, NAME_00001, ...
        sessions: rows (frame, dim), kept in their type, and turns in seconds from the first row.
        frame_shift: seconds per row.

    Returns:
        Path of the manifest, ``folder/NAME.jsonl``.
    """
    folder = Path(folder)
    for part in ("features", "rttm"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    arrays, lines, rows = [], [], 0
    turns: dict[str, list[Turn]] = {}
    for index, (features, spoken) in enumerate(sessions):
        session_id, start = f"{name}_{index:05d}", rows * frame_shift
        duration = len(features) * frame_shift
        turns[session_id] = shift(clip(spoken, 0.0, duration), start)
        line = {
            "feature_filepath": f"features/{name}.npy",
            "frame_shift": frame_shift,
            "offset": round(start, 6),
            "duration": round(duration, 6),
            "num_speakers": len({turn.speaker for turn in turns[session_id]}),
            "rttm_filepath": f"rttm/{name}.rttm",
            "session_id": session_id,
        }
        lines.append(json.dumps(line) + "\n")
        arrays.append(features)
        rows += len(features)
    with replacing(folder / "features" / f"{name}.npy") as beside, beside.open("wb") as file:
        np.save(file, np.concatenate(arrays))
    write_rttm(folder / "rttm" / f"{name}.rttm", turns)
    manifest = folder / f"{name}.jsonl"
    write_text(manifest, "".join(lines))
    return manifest
