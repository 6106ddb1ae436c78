"""Sessions of features whose classes are known: each class is a direction, a row the sum of those
that are present. No two sessions share a class.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from diarize.formats.rttm import write_rttm
from diarize.turns import Turn

SHIFT = 0.1
DIM = 8
CONFIG = """
diarizer:
  num_slots: 3
  front_end:
    _target_: diarize.frontend.features.Features
    dim: 8
    frame_shift: 0.1
  encoder: {width: 32, inner: 32, num_layers: 1, num_heads: 2, dropout: 0.0}
  head_dropout: 0.0
data: {window: 4.0, batch_size: 4, num_workers: 0}
optimizer: {warmup_steps: 3}
trainer: {max_steps: 6, validate_every: 3, log_every: 2}
"""


def session(num_rows: int, num_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, list[Turn]]:
    """(row, dim) float32 and who is where: classes come in turn for 12 rows, 4 of them shared."""
    rng = np.random.default_rng(seed)
    directions = 2 * np.linalg.qr(rng.normal(size=(DIM, DIM)))[0][:num_classes].astype(np.float32)
    rows = rng.normal(0.0, 0.05, (num_rows, DIM)).astype(np.float32)
    turns = []
    for number, first in enumerate(range(2, num_rows, 8)):
        last = min(first + 12, num_rows)
        rows[first:last] += directions[number % num_classes]
        turns.append(Turn(first / 10, last / 10, f"class_{number % num_classes}"))
    return rows, turns


def write_session(folder: Path, name: str, rows: np.ndarray, turns: list[Turn], **keys: Any) -> str:
    """An array and its RTTM; its manifest line."""
    np.save(folder / f"{name}.npy", rows)
    write_rttm(folder / f"{name}.rttm", {name: turns})
    line = {
        "feature_filepath": f"{name}.npy",
        "frame_shift": SHIFT,
        "rttm_filepath": f"{name}.rttm",
    }
    return json.dumps(line | keys) + "\n"


def write_sessions(folder: Path, count: int, num_rows: int = 80, num_classes: int = 3) -> Path:
    """A manifest of so many sessions."""
    manifest = folder / "features.jsonl"
    lines = [
        write_session(folder, f"f{seed}", *session(num_rows, num_classes, seed))
        for seed in range(count)
    ]
    manifest.write_text("".join(lines))
    return manifest
