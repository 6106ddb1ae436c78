"""Build the sample conversation: 59 seconds, three synthetic voices, every turn known.

The text below is spoken line by line by Debian's flite and espeak-ng, trimmed by energy, and
mixed at times that the script fixes. The turns are therefore known by construction: a turn is a
stretch of one line in which the voice sounds, pauses of ``LONGEST_PAUSE`` inside it kept. Four
lines start before the one before them has ended, so the conversation holds four overlaps, one
of them a short answer in the middle of another's sentence.

    apt-get install flite espeak-ng
    python recipes/demo/build.py

writes ``conversation.flac``, ``conversation.rttm`` and ``manifest.jsonl`` beside this file, and
``utterances.jsonl``, the turns during which nobody else speaks: a corpus of three voices, enough to
prove that simulation and training work. The same versions of the tools (flite 2.2, espeak-ng 1.51,
soxr 1.1) write the same bytes.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr

from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, write_manifest
from diarize.turns import Segment, Turn

SAMPLE_RATE = 16000
LEVEL = 0.05
"""Root mean square of every voice while it sounds; full scale is 1."""
ROOM_TONE = 10 ** (-75 / 20)
"""Root mean square of the white noise underneath, so that pauses are not digital zeros."""
SPEECH_THRESHOLD = 10 ** (-32 / 20)
"""A 10 ms block sounds where its level is above this share of the line's loudest block."""
LONGEST_PAUSE = 0.25
"""Seconds; a longer pause inside a line ends the turn, a shorter one belongs to it."""

VOICES = {
    "anna": ["flite", "-voice", "slt"],
    "ben": ["flite", "-voice", "rms"],
    "cleo": ["espeak-ng", "-v", "en-us+Annie"],
}


class Line(NamedTuple):
    """One line of the script: who says what, and how long after the lines before it."""

    speaker: str
    gap: float
    """Seconds from the end of all lines before to the start of this one; negative overlaps."""
    text: str


SCRIPT = [
    Line("anna", 0.7, "Did anyone else hear the rain last night?"),
    Line("ben", 0.4, "Hear it? I stood in it. The last train was forty minutes late."),
    Line("cleo", 0.6, "You should have called. I drive past the station every evening."),
    Line("ben", -0.9, "I did not want to wake anybody."),
    Line("anna", 0.8, "Next time, wake us. Coffee, or tea?"),
    Line("cleo", 0.3, "Tea for me, please."),
    Line("ben", 0.25, "Coffee. A large one."),
    Line("anna", 1.4, "So, the garden. My neighbour has offered us twelve tomato plants."),
    Line("cleo", -0.7, "Twelve? Where would they all go?"),
    Line("anna", 0.35, "Along the south wall. It is dry there, and warm until the evening."),
    Line("ben", 0.5, "I can build the frames on Saturday, if someone lends me a saw."),
    Line("anna", -1.6, "Good idea."),
    Line("cleo", 0.4, "Mine is in the shed, behind the bicycles. Take the blue one."),
    Line("ben", 0.3, "Thank you. And the beans?"),
    Line("anna", -0.35, "The beans can wait until May."),
    Line("cleo", 1.1, "Then we only need water. The old barrel leaks."),
    Line("ben", 0.5, "Leave the barrel to me. I mended it once before."),
    Line("anna", 0.4, "Right. Saturday at ten, then. Bring gloves."),
    Line("cleo", 0.3, "And something to eat. Ben, will you make your soup?"),
    Line("ben", 0.6, "With beans from last year? Gladly."),
]


def main() -> None:
    """Speak, mix and write."""
    parser = argparse.ArgumentParser(description="Build the sample conversation.")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    output = parser.parse_args().output
    missing = sorted({words[0] for words in VOICES.values() if shutil.which(words[0]) is None})
    if missing:
        sys.exit(f"build.py: {' and '.join(missing)} not found. apt-get install flite espeak-ng")

    lines = [speak(line) for line in SCRIPT]
    waveform, turns = mix(lines)
    output.mkdir(parents=True, exist_ok=True)
    soundfile.write(output / "conversation.flac", waveform, SAMPLE_RATE, subtype="PCM_16")
    write_rttm(output / "conversation.rttm", {"conversation": turns})
    session = Session(
        "conversation",
        output / "conversation.flac",
        duration=len(waveform) / SAMPLE_RATE,
        rttm=output / "conversation.rttm",
        num_speakers=len(VOICES),
    )
    write_manifest(output / "manifest.jsonl", [session])
    utterances = [
        Session(
            f"{turn.speaker}-{index:02d}",
            session.audio,
            turn.start,
            round(turn.duration, 3),
            speaker=turn.speaker,
        )
        for index, turn in enumerate(turns)
        if not any(overlaps(turn, other) for other in turns)
    ]
    write_manifest(output / "utterances.jsonl", utterances)
    print(f"{output}: {len(waveform) / SAMPLE_RATE:.1f} s, {len(turns)} turns", file=sys.stderr)


def speak(line: Line) -> np.ndarray:
    """One line as float64 (sample,), trimmed to where it sounds and set to ``LEVEL``."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "line.wav"
        words = VOICES[line.speaker]
        tail = ["-o", spoken, "-t", line.text] if words[0] == "flite" else ["-w", spoken, line.text]
        subprocess.run([*words, *tail], check=True)
        waveform, sample_rate = soundfile.read(spoken)
    waveform = soxr.resample(waveform, sample_rate, SAMPLE_RATE, quality="VHQ")
    stretches = find_speech(waveform)
    first, last = (round(t * SAMPLE_RATE) for t in (stretches[0].start, stretches[-1].end))
    waveform = waveform[first:last]
    return waveform * (LEVEL / np.sqrt(np.mean(waveform**2)))


def find_speech(waveform: np.ndarray) -> list[Segment]:
    """Where a clean voice sounds: blocks of 10 ms above the threshold, short pauses joined."""
    block = SAMPLE_RATE // 100
    # The last block is filled with silence, so that every sample lies in one.
    padded = np.pad(waveform, (0, -len(waveform) % block))
    level = np.sqrt(np.mean(padded.reshape(-1, block) ** 2, axis=1))
    sounds = np.flatnonzero(level > SPEECH_THRESHOLD * level.max())
    longest = round(LONGEST_PAUSE * SAMPLE_RATE / block)
    runs = np.split(sounds, np.flatnonzero(np.diff(sounds) > longest + 1) + 1)
    length = len(waveform)
    return [
        Segment(run[0] * block / SAMPLE_RATE, min((run[-1] + 1) * block, length) / SAMPLE_RATE)
        for run in runs
    ]


def mix(lines: list[np.ndarray]) -> tuple[np.ndarray, list[Turn]]:
    """All lines at their places, over faint noise, and the turns that they make."""
    turns: list[Turn] = []
    starts: list[int] = []
    end = 0
    for line, waveform in zip(SCRIPT, lines, strict=True):
        starts.append(end + round(line.gap * SAMPLE_RATE))
        end = max(end, starts[-1] + len(waveform))
        for stretch in find_speech(waveform):
            at = starts[-1] / SAMPLE_RATE
            turns.append(Turn(at + stretch.start, at + stretch.end, line.speaker))
    mixed = np.random.default_rng(0).normal(0.0, ROOM_TONE, end + SAMPLE_RATE // 2)
    for start, waveform in zip(starts, lines, strict=True):
        mixed[start : start + len(waveform)] += waveform
    return mixed, turns


def overlaps(turn: Turn, other: Turn) -> bool:
    """Do two people speak at once?"""
    return turn.speaker != other.speaker and turn.start < other.end and other.start < turn.end


if __name__ == "__main__":
    main()
