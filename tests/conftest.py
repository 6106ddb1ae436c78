"""What many tests share: a fixed seed, a session whose turns are known, the folder of references.

Nothing here imports torch, so that the tests of the torch-free modules stay quick.
"""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from diarize.turns import Turn, in_order

if TYPE_CHECKING:
    from mixing import Make
    from runs import Material, Run

    from diarize.corpus import Corpus

ROOT = Path(__file__).parents[1]
SAMPLE_RATE = 16000
PITCHES = (110.0, 185.0, 260.0, 340.0)
"""Fundamental frequencies of the sine-wave speakers, Hz: far apart, as voices rarely are."""


@pytest.fixture(autouse=True)
def seed() -> int:
    """Every test starts from the same random state."""
    random.seed(0)
    np.random.seed(0)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
    return 0


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of speech, real conversations and reference outputs beside the repository.

    Not part of the project: ``DIARIZE_SHARED`` names it elsewhere, and what needs it is skipped
    without it.
    """
    folder = Path(os.environ.get("DIARIZE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there; DIARIZE_SHARED names the folder of reference data")
    return folder


@pytest.fixture(scope="session")
def a_session():
    """A function: ``a_session(num_speakers=2, duration=8.0)`` -> (waveform, turns).

    The waveform is float32 (sample,) at 16 kHz. Speakers are tones of four harmonics, each with a
    pitch of its own; they speak in turn for 1.6 s with pauses of 0.4 s, and every third turn
    starts 0.8 s before the one before it ends. Times lie on the grid of 80 ms frames.
    """
    return _a_session


def _a_session(num_speakers: int = 2, duration: float = 8.0) -> tuple[np.ndarray, list[Turn]]:
    time = np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE
    waveform = np.zeros_like(time)
    turns = []
    start, number = 0.4, 0
    while start < duration:
        end = min(start + 1.6, duration)
        speaker = number % num_speakers
        turns.append(Turn(round(start, 2), round(end, 2), f"speaker_{speaker}"))
        span = (time >= start) & (time < end)
        for harmonic in range(1, 5):
            tone = np.sin(2 * np.pi * harmonic * PITCHES[speaker] * time[span])
            waveform[span] += 0.1 / harmonic * tone
        number += 1
        start = end - 0.8 if number % 3 == 2 else end + 0.4
    return waveform.astype(np.float32), in_order(turns)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order; and processes that are forked have no threads to miss."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def speech(tmp_path_factory: pytest.TempPathFactory) -> "Corpus":
    """Four tones, each with utterances of 0.4, 0.5 and 0.6 s."""
    from tones import write_corpus

    from diarize.corpus import Corpus

    folder = tmp_path_factory.mktemp("speech")
    return Corpus.from_manifest(write_corpus(folder, 4, 3, 0.4), folder / "cache")


@pytest.fixture(scope="session")
def noise(tmp_path_factory: pytest.TempPathFactory) -> "Corpus":
    """Three seconds of white noise."""
    from tones import write_noise

    from diarize.corpus import Corpus

    folder = tmp_path_factory.mktemp("noise")
    return Corpus.from_manifest(write_noise(folder), folder / "cache", spoken=False)


@pytest.fixture
def simulator(speech: "Corpus") -> "Make":
    """``simulator(seed=0, noises=None, rooms=None, **settings)``."""
    from diarize.simulate import SimulationConfig, Simulator

    def make(seed: int = 0, noises: "Corpus | None" = None, rooms=None, **settings) -> Simulator:
        config = SimulationConfig(**({"min_voice": 0.5} | settings))
        return Simulator(config, speech, noises, rooms, seed)

    return make


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Material]":
    """What small runs learn from; decoded once for all of them."""
    from runs import Material
    from tones import write_corpus

    from diarize.simulate import SimulationConfig, Simulator, write_sessions

    folder = tmp_path_factory.mktemp("material")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        utterances = write_corpus(folder, 3, 3, 0.4)
        config = SimulationConfig(duration=2.4, min_voice=0.5, silence=0.2, pause=0.1)
        simulator = Simulator.from_manifests(config, utterances, seed=5)
        yield Material(utterances, write_sessions(simulator, 3, folder / "dev", show=False))


@pytest.fixture(scope="session")
def whole(material: "Material", tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A run that nobody interrupted, and what it said."""
    import torch
    from runs import TINY, Run

    from diarize.training import train

    folder = tmp_path_factory.mktemp("exp") / "whole"
    log = folder.with_suffix(".log")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with log.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        result = train([TINY], material.settings(), folder)
    torch.set_num_threads(threads)
    return Run(folder, result, log.read_text().splitlines())
