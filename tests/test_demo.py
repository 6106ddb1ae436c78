"""The sample conversation: its labels mean speech, and its script still makes it."""

import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from diarize.audio import read_audio
from diarize.formats.rttm import read_rttm
from diarize.manifest import check_manifest, read_manifest, reference_turns
from diarize.turns import Turn

BLOCK = 160
"""Samples in 10 ms: the unit in which the labels were made."""
ROOM_TONE = -75.0
"""Level of the noise underneath, dB below full scale."""


@pytest.fixture(scope="module")
def demo(root: Path) -> Path:
    return root / "recipes" / "demo"


@pytest.fixture(scope="module")
def turns(demo: Path) -> list[Turn]:
    (session,) = read_manifest(demo / "manifest.jsonl")
    return reference_turns(session)


def test_manifest_has_no_fault(demo: Path) -> None:
    assert check_manifest(demo / "manifest.jsonl") == []


def test_is_a_minute_of_three_voices_below_one_mebibyte(demo: Path, turns: list[Turn]) -> None:
    audio = demo / "conversation.flac"
    assert audio.stat().st_size < 2**20
    info = soundfile.info(audio)
    assert (info.samplerate, info.channels) == (16000, 1)
    assert 55 < info.duration < 65
    assert {turn.speaker for turn in turns} == {"anna", "ben", "cleo"}


def test_holds_pauses_and_overlaps(turns: list[Turn]) -> None:
    overlaps = [
        (a, b)
        for a, b in combinations(turns, 2)
        if a.speaker != b.speaker and min(a.end, b.end) > max(a.start, b.start)
    ]
    assert len(overlaps) == 4
    ends = [max(turn.end for turn in turns[:n]) for n in range(1, len(turns))]
    pauses = [turn.start - end for turn, end in zip(turns[1:], ends, strict=True)]
    assert sum(pause > 0.5 for pause in pauses) >= 3


def test_labels_mean_speech(demo: Path, turns: list[Turn]) -> None:
    waveform = read_audio(demo / "conversation.flac")
    blocks = waveform[: len(waveform) // BLOCK * BLOCK].reshape(-1, BLOCK)
    level = 20 * np.log10(np.sqrt(np.mean(blocks**2, axis=1)) + 1e-9)
    sounds = level > ROOM_TONE + 3
    labelled = np.zeros(len(level), bool)
    for turn in turns:
        first, last = round(turn.start * 100), round(turn.end * 100)
        labelled[first:last] = True
        assert sounds[first] and sounds[last - 1], turn
        pauses = np.diff(np.flatnonzero(sounds[first:last])) - 1
        assert pauses.max() <= 25, turn
    # What follows a line is at most the faint end of its last breath.
    assert np.mean(sounds[~labelled]) < 0.05
    assert level[~labelled].max() < level[labelled].max() - 25


def said(command: str) -> str:
    """What a program says of its version; "" where it is missing."""
    if shutil.which(command) is None:
        return ""
    return subprocess.run([command, "--version"], capture_output=True, text=True).stdout


@pytest.mark.skipif(
    not (said("flite") and said("espeak-ng")), reason="flite or espeak-ng is missing"
)
@pytest.mark.slow
def test_script_makes_the_same_conversation(demo: Path, tmp_path: Path) -> None:
    build = [sys.executable, str(demo / "build.py"), "--output", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    names = ("conversation.rttm", "manifest.jsonl", "utterances.jsonl")
    stated = ("flite-2.2" in said("flite"), ": 1.51 " in said("espeak-ng"), soxr.__version__)
    if stated == (True, True, "1.1.0"):
        for name in names:
            assert (tmp_path / name).read_bytes() == (demo / name).read_bytes()
        # Samples and not bytes: how FLAC packs them is libsndfile's own affair.
        made, stored = (soundfile.read(f / "conversation.flac")[0] for f in (tmp_path, demo))
        assert np.array_equal(made, stored)
    else:
        # Another version of a voice may speak a little faster; the script and its order stay.
        made, stored = (read_rttm(f / names[0])["conversation"] for f in (tmp_path, demo))
        assert [turn.speaker for turn in made] == [turn.speaker for turn in stored]
        assert np.allclose([t.start for t in made], [t.start for t in stored], atol=1.0)
