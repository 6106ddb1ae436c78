"""What the tests of benchmark recipes share: small corpora in the layout of the large ones."""

import io
import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
from scripts import load_script

from diarize.benchmark import prepare
from diarize.formats.rttm import read_rttm
from diarize.formats.uem import read_uem
from diarize.manifest import Session, read_manifest

RECIPES = Path(__file__).parents[1] / "recipes"


def write_noise(path: Path, seconds: float, rate: int = 16000, channels: int = 1) -> Path:
    """A recording of faint noise, with its folder; the ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_noise(path.suffix, seconds, rate, channels))
    return path


@lru_cache
def _noise(suffix: str, seconds: float, rate: int, channels: int) -> bytes:
    container = {".sph": "NIST"}.get(suffix.lower(), suffix[1:].upper())
    noise = np.random.default_rng(0).normal(0.0, 0.01, (round(seconds * rate), channels))
    content = io.BytesIO()
    soundfile.write(content, noise, rate, format=container, subtype="PCM_16")
    return content.getvalue()


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    """A text file, with its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding=encoding)
    return path


def run(recipe: str, corpus: Path, output: Path, *options: str) -> int:
    """The exit status of a recipe's ``prepare.py``."""
    script = load_script(RECIPES / recipe / "prepare.py")
    return prepare(script.BENCHMARK, script.read, [str(corpus), str(output), *options])


def prepared(recipe: str, corpus: Path, output: Path, *options: str) -> list[Session]:
    """The sessions that a recipe's ``prepare.py`` lists."""
    assert run(recipe, corpus, output, *options) == 0
    (manifest,) = output.glob("*.jsonl")
    return read_manifest(manifest)


def truth(session: Session) -> list[tuple[float, float, str]]:
    """Turns of a session as they were written: start, end, speaker."""
    assert session.rttm is not None
    turns = read_rttm(session.rttm).get(session.session_id, [])
    return [(turn.start, turn.end, turn.speaker) for turn in turns]


def regions(session: Session) -> list[tuple[float, float]]:
    """What is scored of a session as it was written."""
    assert session.uem is not None
    return [(region.start, region.end) for region in read_uem(session.uem)[session.session_id]]


def run_recipe(recipe: str, *options: str) -> subprocess.CompletedProcess:
    """What ``run.sh`` says, by the interpreter that runs the tests."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(RECIPES.parent)}
    command = ["bash", str(RECIPES / recipe / "run.sh"), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True)
