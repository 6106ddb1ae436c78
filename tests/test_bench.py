"""What the benchmarks measure is what they say."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize.formats.posteriors import read_posteriors
from diarize.manifest import check_manifest, read_manifest, reference_turns
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.score import score, score_sessions
from diarize.turns import merge


@pytest.fixture(scope="module")
def bench(root: Path) -> dict:
    """Names of the script."""
    return runpy.run_path(str(root / "recipes" / "bench" / "bench.py"))


def test_memory_of_a_command_is_its_own(bench: dict) -> None:
    ballast = np.ones(2**25)  # 256 MiB in this process
    light = bench["peak_memory"]([sys.executable, "-c", "pass"])
    heavy = bench["peak_memory"]([sys.executable, "-c", "x = bytearray(2**27)"])
    assert light < ballast.nbytes / 4 < 2**27 < heavy < ballast.nbytes
    with pytest.raises(SystemExit, match="failed; run it by hand"):
        bench["peak_memory"]([sys.executable, "-c", "raise SystemExit(3)"])


def test_noises_and_rooms_can_be_simulated_with(bench: dict, tmp_path: Path) -> None:
    for write, channels in (("write_noises", 1), ("write_rooms", 4)):
        manifest = bench[write](tmp_path)
        assert check_manifest(manifest) == []
        made = [soundfile.info(path) for path in tmp_path.glob("*.wav")]
        assert sum(info.channels == channels for info in made) == 5


def test_sessions_to_score_are_ten_minutes_of_a_hundred_turns(root: Path) -> None:
    drawn = runpy.run_path(str(root / "recipes" / "bench" / "scoring.py"))["drawn"]
    references, hypotheses = drawn(3)
    assert references.keys() == hypotheses.keys()
    for name, reference in references.items():
        assert len(reference) == len(merge(reference)) == 100 > len(hypotheses[name]) > 80
        assert 500 < max(turn.end for turn in reference) <= 600
    assert 0.05 < score_sessions(references, hypotheses).total.der < 0.3


def test_sessions_to_tune_on_are_those_of_a_model(root: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(root / "recipes" / "bench" / "tuning.py"))
    manifest = script["make_up"](tmp_path, 2)
    for session in read_manifest(manifest):
        reference = reference_turns(session)
        found = read_posteriors(tmp_path / f"{session.session_id}.npz")
        turns = to_turns(found.posterior, found.frame_shift, PostprocessConfig())
        assert len({turn.speaker for turn in reference}) == 4
        assert 0.1 < score(reference, turns).der < 0.4
