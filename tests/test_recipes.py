"""The scripts of recipes/mini: what they refuse, and what they write."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from scripts import load_script

from diarize.audio import SAMPLE_RATE
from diarize.formats.rttm import read_rttm
from diarize.manifest import Session, read_manifest, write_manifest

MINI = Path(__file__).parents[1] / "recipes" / "mini"


def script(name: str) -> ModuleType:
    """A script as a module."""
    return load_script(MINI / f"{name}.py")


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> int:
    """The exit status of a script."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
    status: int = script(name).main()
    return status


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy corpus."""
    assert run(monkeypatch, "toy", tmp_path / "corpus") == 0
    return tmp_path / "corpus"


def test_the_shell_can_read_the_recipe() -> None:
    subprocess.run(["bash", "-n", MINI / "run.sh"], check=True)


def test_rooms_are_split(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "prepare", corpus, tmp_path / "data") == 0
    train, test = (
        {s.audio.name for s in read_manifest(tmp_path / "data" / f"rir_{name}.jsonl")}
        for name in ("train", "test")
    )
    assert (len(train), len(test), train & test) == (4, 1, set())


@pytest.mark.parametrize(
    ("name", "message"),
    [("train", "1 speakers are in both train and test"), ("noise_train", "1 noises are in both")],
)
def test_nothing_is_in_training_and_in_test(
    name: str,
    message: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    of_test = name.replace("train", "test")
    shared = read_manifest(corpus / f"{of_test}.jsonl")[0]
    write_manifest(corpus / f"{name}.jsonl", [*read_manifest(corpus / f"{name}.jsonl"), shared])
    assert run(monkeypatch, "prepare", corpus, tmp_path / "data") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_trivial_systems_tell_times_of_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loud = np.random.default_rng(0).normal(0.0, 0.1, SAMPLE_RATE)
    quiet = np.zeros(2 * SAMPLE_RATE)
    soundfile.write(tmp_path / "a.wav", np.concatenate([quiet, quiet, loud, quiet]), SAMPLE_RATE)
    write_manifest(tmp_path / "m.jsonl", [Session("a", tmp_path / "a.wav", 3.0, 4.0)])
    assert run(monkeypatch, "trivial", tmp_path / "m.jsonl", tmp_path / "sys") == 0
    (whole,) = read_rttm(tmp_path / "sys.one_speaker" / "a.rttm")["a"]
    (energy,) = read_rttm(tmp_path / "sys.energy" / "a.rttm")["a"]
    assert (whole.start, whole.end) == (3.0, 7.0)
    assert (energy.start, energy.end) == pytest.approx((4.0, 5.0), abs=0.05)


def test_a_package_says_what_each_step_ran_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from diarize.checkpoint import load_checkpoint, save_checkpoint
    from diarize.config import load_config
    from diarize.inference import InferenceConfig
    from diarize.model import Diarizer, DiarizerConfig

    sizes = ["front_end.width=16", "front_end.num_layers=1", "front_end.num_heads=2"]
    sizes += ["front_end.subsampling_channels=4", "encoder.width=16", "encoder.inner=8"]
    sizes += ["encoder.num_layers=1", "encoder.num_heads=2"]
    diarizer = Diarizer(load_config(DiarizerConfig, overrides=sizes))
    for name, init in (("first", "null"), ("second", tmp_path / "first")):
        # A native folder and an experiment in one: package.py reads both the same way.
        folder = save_checkpoint(diarizer, tmp_path / name)
        settings = (folder / "config.yaml").read_text()
        more = f"\nseed: 3\ninit: {init}\ntrainer:\n  max_steps: 7\n"
        (folder / "config.yaml").write_text(settings + more)
        facts = ("commit", "changed_files", "machine", "accelerator", "packages")
        environment = dict.fromkeys(facts, name)
        (folder / "environment.jsonl").write_text(json.dumps(environment) + "\n")
    arguments = (tmp_path / "second", tmp_path / "model")
    assert run(monkeypatch, "package", *arguments, "windwo=70") == 1
    assert "Did you mean window?" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert run(monkeypatch, "package", *arguments, "window=70", "postprocess.onset=0.6") == 0
    packaged = InferenceConfig.of(load_checkpoint(tmp_path / "model"))
    assert (packaged.window, packaged.postprocess.onset) == (70.0, 0.6)
    card = (tmp_path / "model" / "config.yaml").read_text()
    assert card.index("commit: first") < card.index("commit: second")
    # One that needs whole recordings streams when it is given a prior.
    soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).normal(0, 0.1, 16000), 16000)
    write_manifest(tmp_path / "dev.jsonl", [Session("a", tmp_path / "a.wav")])
    prior = ("--prior-of", tmp_path / "dev.jsonl", "window=70")
    assert run(monkeypatch, "package", tmp_path / "second", tmp_path / "live", *prior) == 0
    live = load_checkpoint(tmp_path / "live")
    assert live.front_end.mel.config.streams and not diarizer.front_end.mel.config.streams
    assert live.front_end.mel.heard[0, 0] == 100 and live.inference["window"] == 70.0
    assert "prior_of: dev.jsonl" in (tmp_path / "live" / "config.yaml").read_text()
