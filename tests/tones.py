"""Corpora of sine-wave speakers on disk, for the tests of simulation and training."""

import json
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16000
PITCHES = (110.0, 185.0, 260.0, 340.0, 430.0, 530.0)
"""Of the speakers, Hz."""


def tone(pitch: float, seconds: float, amplitude: float = 0.1) -> np.ndarray:
    """Four harmonics, (sample,) float32."""
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    wave = sum(np.sin(2 * np.pi * h * pitch * time) / h for h in range(1, 5))
    return (amplitude * wave).astype(np.float32)


def write_corpus(
    folder: Path, num_speakers: int = 3, utterances: int = 3, seconds: float = 1.0
) -> Path:
    """A manifest of utterances, all of a speaker end to end in one recording.

    Utterance ``n`` of a speaker lasts ``seconds * (1 + n / 4)``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(num_speakers):
        pieces, offset = [], 0.0
        for n in range(utterances):
            length = seconds * (1 + n / 4)
            pieces.append(tone(PITCHES[number], length))
            lines.append(
                {
                    "audio_filepath": f"speaker_{number}.wav",
                    "offset": offset,
                    "duration": length,
                    "speaker": f"speaker_{number}",
                }
            )
            offset += length
        soundfile.write(folder / f"speaker_{number}.wav", np.concatenate(pieces), SAMPLE_RATE)
    return write_lines(folder / "utterances.jsonl", lines)


def write_noise(folder: Path, seconds: float = 3.0) -> Path:
    """A manifest of one recording of white noise, without a speaker."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).normal(0.0, 0.05, round(seconds * SAMPLE_RATE))
    soundfile.write(folder / "noise.wav", noise, SAMPLE_RATE)
    return write_lines(folder / "noise.jsonl", [{"audio_filepath": "noise.wav"}])


def write_lines(path: Path, lines: list[dict]) -> Path:
    """A manifest."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
