"""`diarize calibrate`: from manifest to a rescaled model."""

import json
from pathlib import Path

import pytest
import torch
from shares import drawn
from staged import refused, stage

from diarize.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from diarize.cli import main
from diarize.cli.record import digest_of
from diarize.config import load_config
from diarize.model import Diarizer, DiarizerConfig


@pytest.fixture
def facts(tmp_path: Path) -> dict[str, object]:
    """What is said of posteriors of a small random model, which is there."""
    values = {
        "front_end": {
            "_target_": "diarize.frontend.features.Features",
            "dim": 3,
            "frame_shift": 0.08,
        },
        "encoder": {
            "_target_": "diarize.encoder.transformer.Transformer",
            "width": 8,
            "inner": 8,
            "num_layers": 1,
            "num_heads": 2,
        },
        "num_slots": 2,
    }
    diarizer = Diarizer(load_config(DiarizerConfig, values=values)).eval()
    diarizer.inference = {"window": 60.0, "presets": {"loud": "v1_callhome"}}
    folder = save_checkpoint(diarizer, tmp_path / "old", card={"licence": "mine"})
    meant = {"window": 60.0, "postprocess": {"onset": 0.6, "offset": 0.4, "min_duration_on": 0.1}}
    making = {"model": str(folder), "weights_sha256": digest_of(diarizer)}
    return making | {"inference": meant, "speech": 0.4}


def test_a_rescaled_model_is_written(
    tmp_path: Path, facts: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", *stage(tmp_path, [drawn(n, 2.0, 0.5) for n in range(5)], **facts)]
    new = tmp_path / "made" / "new"
    assert main([*command, "--bias", "-o", str(new), "--format", "json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)["rescaling"]
    assert found["temperature"] == pytest.approx(2.0, rel=0.02)  # RTTM has milliseconds
    assert f"new: the model, rescaled. To measure it: diarize calibrate {command[1]}" in told.err
    assert "presets of the model (loud) are thresholds for posteriors as they were" in told.err
    before, after = load_checkpoint(str(facts["model"])), load_checkpoint(new)
    signal, num_samples = torch.randn(1, 20, 3), torch.tensor([20 * 1280])
    logits, _ = before(signal, num_samples)
    rescaled, _ = after(signal, num_samples)
    torch.testing.assert_close(rescaled, logits / found["temperature"] + found["bias"])
    onset = torch.tensor(0.6).logit() / found["temperature"] + found["bias"]
    assert after.postprocess["onset"] == pytest.approx(float(onset.sigmoid()), abs=1e-6)
    assert after.postprocess["min_duration_on"] == 0.1 and after.inference == before.inference
    card = read_checkpoint(new).card
    assert card["licence"] == "mine" and card["calibration"]["bias"] == found["bias"]
    assert card["calibration"]["num_sessions"] == 5
    refused([*command, "-o", str(new)], capsys, "new: holds model.safetensors, but a model that is")


def test_without_an_output_it_only_reports(
    tmp_path: Path, facts: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["calibrate", *stage(tmp_path, [drawn(n, 2.0) for n in range(5)], **facts)]
    there = sorted(tmp_path.rglob("*"))
    assert main(command) == 0
    told = capsys.readouterr()
    assert "verdict: better on sessions" in told.out and told.err == ""
    assert "temperature: 2.0" in told.out and "bias" not in told.out
    assert sorted(tmp_path.rglob("*")) == there
    with pytest.raises(SystemExit):
        main([*command, "--folds", "-1"])
    with pytest.raises(SystemExit):
        main([*command, "--picture", "reliability.gif"])
    assert (
        "--picture ends in .png, .svg, .pdf, but it is reliability.gif" in capsys.readouterr().err
    )


def test_posteriors_of_windows_are_rescaled_nearly(
    tmp_path: Path, facts: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = [drawn(0, 2.0), drawn(1, 2.0, num_frames=800)]
    command = ["calibrate", *stage(tmp_path, sessions, **facts)]
    assert main([*command, "-o", str(tmp_path / "new")]) == 0
    assert "1 of 2 sessions were judged in several windows or as" in capsys.readouterr().err


def test_posteriors_of_another_model(
    tmp_path: Path, facts: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    sessions, output = [drawn(0, 2.0), drawn(1, 2.0)], ["-o", str(tmp_path / "new")]
    command = ["calibrate", *stage(tmp_path, sessions, **facts), *output]
    diarizer = load_checkpoint(str(facts["model"]))
    diarizer.head.rescale(2.0, 0.0)
    save_checkpoint(diarizer, str(facts["model"]))
    old, new = str(facts["weights_sha256"])[:12], digest_of(diarizer)[:12]
    refused(command, capsys, f"'c0': its posteriors were made by weights {old} of .*, but .* {new}")
    command = ["calibrate", *stage(tmp_path, sessions), *output]
    refused(command, capsys, "session 'c0': its posteriors do not say which model made them, but")
    assert not (tmp_path / "new").exists()


def test_a_picture_is_drawn(
    tmp_path: Path, facts: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    command = ["calibrate", *stage(tmp_path, [drawn(n, 2.0) for n in range(5)], **facts)]
    assert main([*command, "--picture", str(tmp_path / "drawn" / "reliability.svg")]) == 0
    assert (
        "calibrated, on sessions left out" in (tmp_path / "drawn" / "reliability.svg").read_text()
    )
