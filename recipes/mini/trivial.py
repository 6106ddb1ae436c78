"""Two systems that know nothing of voices, so that a DER on real conversation means something.

``one_speaker``: somebody speaks throughout. ``energy``: the same somebody, but only where the
level is within 30 dB of the loudest half second, pauses under 0.3 s bridged.
"""

import sys
from pathlib import Path

import numpy as np

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.formats.rttm import write_rttm
from diarize.manifest import read_manifest
from diarize.turns import Turn, merge

FRAME = SAMPLE_RATE // 100
"""Samples of 10 ms."""


def energy_turns(waveform: np.ndarray) -> list[Turn]:
    """Turns of one speaker where (sample,) is loud, seconds from its start."""
    frames = waveform[: waveform.size // FRAME * FRAME].reshape(-1, FRAME)
    power = np.convolve(np.square(frames).mean(axis=1), np.ones(5) / 5, "same")
    loudest = np.convolve(power, np.ones(50) / 50, "same").max(initial=1e-10)
    loud = np.flatnonzero(power > loudest * 1e-3)
    return merge([Turn(i / 100, (i + 1) / 100, "speaker_0") for i in loud], gap=0.3)


def main() -> int:
    """Write both systems' RTTM for a manifest, beside the model's."""
    manifest, output = Path(sys.argv[1]), Path(sys.argv[2])
    for session in read_manifest(manifest):
        waveform = read_audio(session.audio, session.offset, session.duration)
        end = waveform.size / SAMPLE_RATE
        systems = {"one_speaker": [Turn(0.0, end, "speaker_0")], "energy": energy_turns(waveform)}
        for name, turns in systems.items():
            folder = output / f"real_{manifest.stem}.{name}"
            folder.mkdir(parents=True, exist_ok=True)
            write_rttm(folder / f"{session.session_id}.rttm", {session.session_id: turns})
    return 0


if __name__ == "__main__":
    sys.exit(main())
