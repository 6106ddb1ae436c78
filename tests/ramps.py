"""Recordings whose samples tell their time, and arrays whose rows tell their number."""

from pathlib import Path

import numpy as np
import soundfile

from diarize.data import Example
from diarize.formats.rttm import write_rttm
from diarize.frames import FrameGrid
from diarize.manifest import Session
from diarize.recording import Kind
from diarize.turns import Turn

CLOCK = FrameGrid.of_shift(0.1)
HEARS = Kind.of_features(2, 0.1)
TURNS = [Turn(1.0, 3.5, "ann"), Turn(5.0, 9.0, "bob"), Turn(8.5, 13.0, "ann")]


def write_ramp(folder: Path, name: str = "a", lasts: int = 14) -> Session:
    """Ten seconds from second 2 of a recording whose samples tell their time."""
    ramp = np.arange(lasts * 16000) / (14 * 16000)
    soundfile.write(folder / f"{name}.flac", ramp, 16000, "PCM_24")
    write_rttm(folder / f"{name}.rttm", {name: TURNS})
    audio, rttm = folder / f"{name}.flac", folder / f"{name}.rttm"
    return Session(name, audio, 2.0, 10.0, rttm=rttm, where="m:1")


def write_rows(folder: Path) -> Session:
    """Ten seconds from second 2 of rows that tell their number, ten a second."""
    np.save(folder / "f.npy", np.arange(140, dtype=np.float64)[:, None] * [1, -1])
    write_rttm(folder / "f.rttm", {"f": TURNS})
    place, rttm = folder / "f.npy", folder / "f.rttm"
    return Session("f", place, 2.0, 10.0, rttm=rttm, where="m:1", frame_shift=0.1)


def seconds(waveform: np.ndarray) -> tuple[float, float]:
    """Where in the recording a waveform begins and ends."""
    return round(float(waveform[0]) * 14, 3), round(float(waveform[-1]) * 14, 3)


def span(example: Example) -> tuple[int, int]:
    """First row of an example, and one past the last."""
    assert np.array_equal(example.signal[:, 0], -example.signal[:, 1])
    return int(example.signal[0, 0]), int(example.signal[-1, 0]) + 1
