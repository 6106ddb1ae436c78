"""Two systems that know nothing of voices, so that a DER on real conversation means something.

    python recipes/mini/trivial.py MANIFEST OUTPUT

Writes ``OUTPUT.one_speaker`` (somebody speaks throughout) and ``OUTPUT.energy`` (the same somebody,
but only where the level is within 25 dB of the loudest half second, pauses under 0.3 s bridged).
25 dB is the best of 10, 15, 20, 25 and 30 on the development sessions of shared/real.
"""

import sys
from pathlib import Path

import numpy as np

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.formats.rttm import write_rttm
from diarize.manifest import read_manifest
from diarize.turns import Turn, merge, shift

FRAME = SAMPLE_RATE // 100
"""Samples of 10 ms."""
RANGE = 25.0
"""dB below the loudest half second that still count as speech."""


def energy_turns(waveform: np.ndarray) -> list[Turn]:
    """Turns of one speaker where (sample,) is loud, seconds from its start."""
    frames = waveform[: waveform.size // FRAME * FRAME].reshape(-1, FRAME)
    power = np.convolve(np.square(frames).mean(axis=1), np.ones(5) / 5, "same")
    loudest = np.convolve(power, np.ones(50) / 50, "same").max(initial=1e-10)
    loud = np.flatnonzero(power > loudest * 10 ** (-RANGE / 10))
    return merge([Turn(i / 100, (i + 1) / 100, "speaker_0") for i in loud], gap=0.3)


def main() -> int:
    """Write both systems' RTTM for a manifest."""
    manifest, output = Path(sys.argv[1]), Path(sys.argv[2])
    for session in read_manifest(manifest):
        waveform = read_audio(session.audio, session.offset, session.duration)
        end = waveform.size / SAMPLE_RATE
        systems = {"one_speaker": [Turn(0.0, end, "speaker_0")], "energy": energy_turns(waveform)}
        for name, turns in systems.items():
            folder = output.with_name(f"{output.name}.{name}")
            folder.mkdir(parents=True, exist_ok=True)
            turns = shift(turns, session.offset)
            write_rttm(folder / f"{session.session_id}.rttm", {session.session_id: turns})
    return 0


if __name__ == "__main__":
    sys.exit(main())
