"""Features from a manifest to a score, through the command line; and every mistake on the way."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from rows import CONFIG, session, write_session, write_sessions
from runs import Material, stored, table

from diarize.checkpoint import load_checkpoint
from diarize.cli import main
from diarize.formats.rttm import read_rttm
from diarize.recording import Kind

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Settings, a manifest of eight sessions of 8 s, one of a long session, one of audio."""
    folder = tmp_path_factory.mktemp("sequences")
    (folder / "conf.yaml").write_text(CONFIG)
    write_sessions(folder, 8)
    (folder / "long.jsonl").write_text(write_session(folder, "long", *session(300, 3, seed=999)))
    line = {"audio_filepath": str(Path(__file__).parents[1] / "manifests" / "toy.opus")}
    line["rttm_filepath"] = line["audio_filepath"].replace("opus", "rttm")
    (folder / "audio.jsonl").write_text(json.dumps(line) + "\n")
    return folder


@pytest.fixture(autouse=True)
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.fixture(scope="module")
def experiment(folder: Path, one_thread: None) -> Path:
    settings = ["data.sessions=features.jsonl", "data.validation=features.jsonl"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["train", "conf.yaml", *settings, "--output", "exp"]) == 0
    return folder / "exp"


def told(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """What a command that fails says: one line."""
    assert main([*arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_features_are_learned(experiment: Path) -> None:
    rows = table(experiment)
    assert [row["val_der"] for row in rows if row["val_der"]]
    assert all(np.isfinite(float(row["train_loss"])) for row in rows if row["train_loss"])
    model = load_checkpoint(experiment)
    assert model.hears == Kind.of_features(8, 0.1) and model.inference == {"window": 4.0}
    config = stored(experiment / "checkpoints" / "best.ckpt")["hyper_parameters"]["diarizer_config"]
    assert config["front_end"]["normalization"] == "none"


def test_a_run_on_features_can_be_resumed(experiment: Path, folder: Path) -> None:
    settings = ["data.sessions=features.jsonl", "data.validation=features.jsonl"]
    assert main(["train", "conf.yaml", *settings, "--output", "exp", "--resume"]) == 0


def test_features_are_diarized_and_scored(
    experiment: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    flags = ["--onset", "0.1", "--offset", "0.1", "--format", "rttm,json", "--picture", "sys"]
    manifest = ["--manifest", "features.jsonl", "--model", "exp"]
    assert main(["infer", *manifest, *flags, "--output", "sys", "--posteriors", "sys"]) == 0
    assert "8 of 8 sessions did not fit one window of 4 s" in capsys.readouterr().err
    stored = np.load(folder / "sys" / "f3.npz")
    assert stored["posterior"].shape[0] == 80 and stored["frame_shift"] == 0.1
    assert json.loads((folder / "sys" / "f3.json").read_text())["duration"] == 8.0
    turns = read_rttm(folder / "sys" / "f3.rttm")["f3"]
    assert turns and all(0 <= turn.start < turn.end <= 8.0 for turn in turns)
    assert (folder / "sys" / "f3.png").read_bytes().startswith(b"\x89PNG")
    assert main(["score", "features.jsonl", "sys", "--format", "json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["results"]
    assert found["total"]["scored"] == pytest.approx(8 * 11.4, abs=2)


def test_what_was_learned_tells_classes_apart_that_it_never_met(
    folder: Path, capsys: pytest.CaptureFixture
) -> None:
    (folder / "more").mkdir()
    write_sessions(folder / "more", 60, 40)
    settings = ["data.sessions=more/features.jsonl", "trainer.max_steps=150", "data.batch_size=16"]
    settings += ["optimizer.learning_rate=0.003", "trainer.validate_every=150"]
    assert main(["train", "conf.yaml", *settings, "--output", "longer"]) == 0
    infer = ["infer", "--manifest", "long.jsonl", "--model", "longer"]
    for more in (["--window", "30"], []):  # at once, and in windows that are stitched
        assert main([*infer, *more, "--output", "out"]) == 0
        capsys.readouterr()
        assert main(["score", "long.jsonl", "out", "--format", "json"]) == 0
        assert json.loads(capsys.readouterr().out)["results"][0]["total"]["der"] < 40


def test_check_knows_features(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "features.jsonl"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            ["data.utterances=u.jsonl"],
            "data.utterances is u.jsonl, but the model hears features of 8 numbers every 0.1 s, "
            "and what is simulated is audio. Leave it out, and give data.sessions=MANIFEST.",
        ),
        (
            ["data.sessions=features.jsonl", "data.rir=r.jsonl"],
            "data.rir is r.jsonl, but the model hears features of 8 numbers every 0.1 s, and",
        ),
        (
            ["data.sessions=features.jsonl", "voice_weight=0.1"],
            "voice_weight is above 0, but the model hears features of 8 numbers every 0.1 s, and ",
        ),
        (
            ["data.sessions=features.jsonl", "diarizer.front_end.dim=9"],
            "features.jsonl:1: session 'f0' is features of 8 numbers every 0.1 s, but the model "
            "hears features of 9 numbers every 0.1 s. Give it sessions that it hears, or take a "
            "model (in training, diarizer.front_end) that hears these.",
        ),
        (
            ["data.sessions=features.jsonl", "data.validation=audio.jsonl"],
            "audio.jsonl:1: session 'toy' is audio, but the model hears features of 8 numbers",
        ),
        (
            ["data.sessions=features.jsonl", "diarizer.num_slots=2"],
            "session 'f0' has 3 classes between 0.00 s and 4.00 s, but the model has 2 slots. "
            "Raise diarizer.num_slots, or lower data.window (in validation, data.valid",
        ),
        (
            ["data.sessions=features.jsonl", "data.window=0.4", "diarizer.num_slots=2"]
            + ["data.validation=features.jsonl"],
            "session 'f0' has 3 classes between 0.00 s and 8.00 s, but the model has 2 slots. Ra",
        ),
        (
            ["data.sessions=features.jsonl", "diarizer.front_end.frame_shift=null"],
            "frame_shift",
        ),
    ],
)
def test_runs_that_cannot_be(
    settings: list[str], line: str, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert line in told(capsys, "train", "conf.yaml", *settings, "--output", "none")
    assert not (folder / "none").exists()


def test_a_model_of_audio_learns_no_features(
    material: Material, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    tiny = str(Path(__file__).parents[1] / "conf" / "tiny.yaml")
    line = told(capsys, "train", tiny, "data.sessions=features.jsonl", "--output", "none")
    assert "session 'f0' is features of 8 numbers every 0.1 s, but the model hears audio." in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["infer", "f0.npy"],
            "infer: f0.npy: is an array by its name, but audio is expected here. Features are "
            "named in a manifest, by 'feature_filepath' and 'frame_shift'.",
        ),
        (
            ["infer", "--manifest", "long.jsonl"],
            "long.jsonl:1: session 'long' is features of 8 numbers every 0.1 s, but the model "
            "hears audio.",
        ),
        (
            ["infer", "--manifest", "audio.jsonl", "--model", "exp"],
            "audio.jsonl:1: session 'toy' is audio, but the model hears features of 8 numbers",
        ),
        (
            ["infer", "--manifest", "long.jsonl", "--model", "exp", "--latency", "1.04s"],
            "the model hears features of 8 numbers every 0.1 s, but a stream is audio. Judge",
        ),
        (
            ["infer", "--manifest", "long.jsonl", "--model", "exp", "--channel", "0"],
            "long.npy: channel 0 is asked for, but features have none. Leave it out.",
        ),
        (
            ["stream", str(Path(__file__).parents[1] / "manifests/toy.opus"), "--model", "exp"],
            "the model hears features of 8 numbers every 0.1 s, but a stream is audio. Judge",
        ),
        (["stream", "f0.npy", "--model", "exp"], "f0.npy: is an array by its name, but audio is"),
        (["manifest", "f0.npy"], "f0.npy: is an array by its name, but audio is expected here."),
        (
            ["simulate", "features.jsonl", "--num-sessions", "1", "--output", "simulated"],
            "features.jsonl:1: has 'feature_filepath', but what is simulated is mixed from audio.",
        ),
    ],
)
def test_what_features_are_not_for(
    arguments: list[str], line: str, experiment: Path, capsys: pytest.CaptureFixture
) -> None:
    assert line in told(capsys, *arguments)


def test_a_bad_row_is_told_with_its_time(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    rows, turns = session(80)
    rows[37, 3] = np.inf
    (tmp_path / "bad.jsonl").write_text(write_session(tmp_path, "bad", rows, turns))
    bad = str(tmp_path / "bad.jsonl")
    expected = "bad.npy: row 37 (3.70 s) holds inf, but features are finite numbers in float32."
    assert expected in told(capsys, "infer", "--manifest", bad, "--model", "exp")
    settings = [f"data.sessions={bad}", "data.window=8"]
    assert expected in told(capsys, "train", "conf.yaml", *settings, "--output", "stopped")
    assert main(["check", bad]) == 1
    assert re.search(r"bad\.jsonl:1: \S+bad\.npy: row 37", capsys.readouterr().out)
