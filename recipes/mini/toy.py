"""A corpus of buzzing voices in the layout of the mini corpus, to see the recipe's way in minutes.

    python recipes/mini/toy.py FOLDER

Voices are harmonic tones of different pitch: six to train on, four each for development and the
two tests.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile

from diarize.audio import SAMPLE_RATE
from diarize.manifest import Session, write_manifest

SPEAKERS = {"train": 6, "dev": 4, "test": 4, "test_other": 4}
UTTERANCES = 4
SECONDS = 1.5


def main() -> int:
    """Write utterances, noises and rooms."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for split, (name, count) in enumerate(SPEAKERS.items()):
        sessions = []
        for number in range(count):
            speaker, pitch = f"{name}_{number}", 90.0 + 40.0 * number + 13.0 * split
            for index in range(UTTERANCES):
                path = folder / f"{speaker}_{index}.wav"
                soundfile.write(path, voice(pitch, rng), SAMPLE_RATE)
                sessions.append(Session(path.stem, path, duration=SECONDS, speaker=speaker))
        write_manifest(folder / f"{name}.jsonl", sessions)
    for name in ("noise_train", "noise_test"):
        noises = [Session(f"{name}_{n}", folder / f"{name}_{n}.wav") for n in range(3)]
        for noise in noises:
            soundfile.write(noise.audio, rng.normal(0.0, 0.05, 5 * SAMPLE_RATE), SAMPLE_RATE)
        write_manifest(folder / f"{name}.jsonl", noises)
    rooms = []
    for number in range(5):
        path = folder / f"room_{number}.wav"
        soundfile.write(path, room(rng), SAMPLE_RATE)
        rooms.append(Session(path.stem, path))
    write_manifest(folder / "rir.jsonl", rooms)
    return 0


def voice(pitch: float, rng: np.random.Generator) -> np.ndarray:
    """A tone whose loudness goes up and down like syllables, (sample,)."""
    time = np.arange(round(SECONDS * SAMPLE_RATE)) / SAMPLE_RATE
    harmonics = sum(np.sin(2 * np.pi * h * pitch * time) / h for h in range(1, 8))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(3.0, 5.0) * time)
    return 0.1 * harmonics * syllables


def room(rng: np.random.Generator) -> np.ndarray:
    """Decaying noise after a first peak, (sample, position)."""
    time = np.arange(SAMPLE_RATE // 5)[:, None] / SAMPLE_RATE
    response = 0.05 * rng.normal(size=(time.size, 4)) * np.exp(-time / 0.03)
    response[0] = 1.0
    return response


if __name__ == "__main__":
    sys.exit(main())
