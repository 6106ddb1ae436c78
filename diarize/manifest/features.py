"""Sessions of features on disk: one array, one RTTM and one manifest for all of them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.errors import FeatureError
from diarize.files import replacing
from diarize.formats.rttm import write_rttm
from diarize.frames import FrameGrid
from diarize.manifest.session import Session, write_manifest
from diarize.turns import Turn, clip, shift


def write_features(
    folder: str | Path,
    name: str,
    sessions: Iterable[tuple[NDArray[np.floating], list[Turn]]],
    frame_shift: float,
) -> Path:
    """Write sessions one after another into ``features/NAME.npy``; each is a span of it.

    Thousands of short sessions are three files so, or four: those without a turn have an empty RTTM
    of their own, since one that names others would not tell that nobody was there. The manifest is
    written last.

    Args:
        folder: made if need be.
        name: of the files; the sessions are called NAME_00000, NAME_00001, ...
        sessions: rows (frame, dim), kept in their type, and turns in seconds from the first row.
        frame_shift: seconds per row.

    Returns:
        Path of the manifest, ``folder/NAME.jsonl``.

    Raises:
        FeatureError: if there are no sessions, one of them is no features, or widths differ.
    """
    folder = Path(folder)
    array, rttm = folder / "features" / f"{name}.npy", folder / "rttm" / f"{name}.rttm"
    silent = rttm.with_stem(f"{name}_silent")
    grid = FrameGrid.of_shift(frame_shift)
    rows: list[NDArray[np.floating]] = []
    lines: list[Session] = []
    turns: dict[str, list[Turn]] = {}
    first = 0
    for index, (features, spoken) in enumerate(sessions):
        session_id, start = f"{name}_{index:05d}", grid.time_at(first)
        _check(session_id, features)
        duration = grid.time_at(len(features))
        heard = shift(clip(spoken, 0.0, duration), start)
        count = len({turn.speaker for turn in heard})
        reference = rttm if heard else silent
        line = Session(session_id, array, start, duration, reference, num_speakers=count)
        lines.append(replace(line, frame_shift=frame_shift))
        if heard:
            turns[session_id] = heard
        rows.append(features)
        first += len(features)
    widths = sorted({features.shape[1] for features in rows})
    if len(widths) != 1:
        raise FeatureError(
            f"{array}: {len(rows)} sessions have rows of {widths} numbers, but they share one "
            "array. Give at least one session, and rows of one width."
        )
    for part in (array, rttm):
        part.parent.mkdir(parents=True, exist_ok=True)
    with replacing(array) as beside, beside.open("wb") as file:
        np.save(file, np.concatenate(rows))
    write_rttm(rttm, turns)
    if len(turns) < len(lines):
        write_rttm(silent, {})
    manifest = folder / f"{name}.jsonl"
    write_manifest(manifest, lines)
    return manifest


def _check(session_id: str, features: NDArray[np.floating]) -> None:
    """See that what is written can be read again."""
    if features.ndim != 2 or not features.size or features.dtype.kind != "f":
        raise FeatureError(
            f"{session_id}: has shape {features.shape} of {features.dtype}, but features are (row, "
            "dim) of a floating type, at least 1 of each. Convert it, or leave it out."
        )
    if not np.isfinite(features).all():
        raise FeatureError(
            f"{session_id}: holds NaN or infinity, but features are finite. Look at what made it."
        )
