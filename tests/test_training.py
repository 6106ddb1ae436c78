"""A run learns, leaves a model, and tells every mistake before it begins."""

import logging
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from runs import TINY, Material, Run, stored, table

from diarize import trainer, training
from diarize.audio import read_audio
from diarize.checkpoint import load_checkpoint
from diarize.config import load_config
from diarize.errors import ConfigError, DiarizeError
from diarize.inference import Diarization, InferenceConfig, diarize_sessions
from diarize.manifest import read_manifest, reference_turns, scored_regions
from diarize.module import TrainingConfig
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.score import score_sessions
from diarize.training import train

pytestmark = pytest.mark.usefixtures("one_thread")

# ---- what a run leaves


def test_run_leaves_checkpoints_settings_and_logs(whole: Run) -> None:
    folder = whole.folder
    assert whole.result == folder / "checkpoints" / "best.ckpt"
    names = sorted(path.name for path in folder.iterdir())
    expected = ["checkpoints", "config.yaml", "environment.jsonl", "metrics.csv", "tensorboard"]
    assert names == expected
    assert list((folder / "tensorboard").glob("events.*"))
    assert load_config(TrainingConfig, [folder / "config.yaml"]).trainer.max_steps == 10
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 10


def test_validation_der_is_the_scorers(whole: Run, material: Material) -> None:
    diarizer = load_checkpoint(whole.folder / "checkpoints" / "last.ckpt")
    config = load_config(PostprocessConfig, values=diarizer.postprocess)
    assert config.onset == 0.3
    sessions = read_manifest(material.validation)
    hypotheses = {}
    for session in sessions:
        waveform = torch.from_numpy(read_audio(session.audio))[None]
        posterior, _ = diarizer.posterior(waveform, torch.tensor([waveform.shape[1]]))
        shift = diarizer.grid.frame_shift
        hypotheses[session.session_id] = to_turns(posterior[0].numpy(), shift, config)
    references = {s.session_id: reference_turns(s) for s in sessions}
    regions = {s.session_id: scored_regions(s) for s in sessions}
    expected = 100 * score_sessions(references, hypotheses, uems=regions).total.der
    assert any(hypotheses.values()), "scores nothing but misses"
    assert float(table(whole.folder)[-1]["val_der"]) == pytest.approx(expected, abs=0.01)


def test_experiment_is_a_model(whole: Run) -> None:
    diarizer = load_checkpoint(whole.folder)
    best = stored(whole.result)
    for name, tensor in diarizer.state_dict().items():
        assert torch.equal(tensor, best["state_dict"][f"diarizer.{name}"])
    assert diarizer.inference == {"window": 1.6}  # as long as its simulated sessions
    # Every default is written out, so that a checkpoint outlives a change of defaults.
    assert best["hyper_parameters"]["diarizer_config"]["front_end"]["mel"]["num_mels"] == 80


def test_recorded_sessions_are_learned_too(material: Material, tmp_path: Path) -> None:
    settings = material.settings(
        data__sessions=material.validation, data__window=1.5, trainer__max_steps=2,
        trainer__precision="bf16-mixed",
    )  # fmt: skip
    train([TINY], settings, tmp_path / "exp")
    assert math.isfinite(float(table(tmp_path / "exp")[-1]["train_loss"]))


def test_a_streaming_model_leaves_a_streaming_model(material: Material, tmp_path: Path) -> None:
    settings = material.settings(
        diarizer__front_end__mel__normalization="none",
        rehearsal__latency="'chunk=5,left=1,right=1,fifo=0,cache=16,update=5'",
        rehearsal__limited_share=0.5, trainer__max_steps=2, trainer__validate_every=2,
    )  # fmt: skip
    train([TINY], settings, tmp_path / "exp")
    diarizer = load_checkpoint(tmp_path / "exp")
    config = InferenceConfig.of(diarizer)
    posteriors = {}
    for result in diarize_sessions(diarizer, read_manifest(material.validation), config):
        assert isinstance(result, Diarization)
        posteriors[result.session_id] = result.posterior
    hypotheses = {name: to_turns(p, 0.08, config.postprocess) for name, p in posteriors.items()}
    sessions = read_manifest(material.validation)
    references = {s.session_id: reference_turns(s) for s in sessions}
    regions = {s.session_id: scored_regions(s) for s in sessions}
    der = 100 * score_sessions(references, hypotheses, uems=regions).total.der
    assert any(hypotheses.values())
    assert float(table(tmp_path / "exp")[-1]["val_der"]) == pytest.approx(der, abs=0.01)


def test_chatter_is_silenced_and_warnings_are_not(whole: Run) -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        assert logging.getLogger(name).getEffectiveLevel() == logging.WARNING


def test_voices_are_learned_first_and_start_a_run(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = {"trainer__max_steps": 2, "data__batch_size": 3}
    voices = {
        "voice_weight": 1.0,
        "diarization_weight": 0.0,
        "data__simulation__speed": "[0.9,1.1]",
    }
    train([TINY], material.settings(**few, **voices), tmp_path / "voices")
    first = stored(tmp_path / "voices" / "checkpoints" / "last.ckpt")["state_dict"]
    assert first["voices.weight"].shape == (6, 64)  # three speakers at two speeds
    assert float(table(tmp_path / "voices")[-1]["train_voice_loss"]) > 0
    assert not (tmp_path / "voices" / "checkpoints" / "best.ckpt").exists()

    start = {"init": tmp_path / "voices", "optimizer__learning_rate": 0.0, "diarizer__num_slots": 3}
    train([TINY], material.settings(**few, **start), tmp_path / "exp")
    then = stored(tmp_path / "exp" / "checkpoints" / "last.ckpt")["state_dict"]
    for name, tensor in then.items():
        if name.startswith("diarizer.front_end"):
            assert torch.equal(tensor, first[name]), name
    said = capsys.readouterr().err
    left = "init: 2 tensors not in .*voices: head.output.weight, head.output.bias"
    assert re.search(left, said) and "voices known to" not in said

    both = {"voice_weight": 0.1, "data__simulation__speed": "[1.1,1.2]"}
    train([TINY], material.settings(**few, **start, **both), tmp_path / "both")
    other = stored(tmp_path / "both" / "checkpoints" / "last.ckpt")
    known, names = other["state_dict"]["voices.weight"], other["hyper_parameters"]["voices"]
    earlier = stored(tmp_path / "voices" / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert sum(name in earlier["voices"] for name in names) == 3
    for name, weight in zip(names, known, strict=True):
        if name in earlier["voices"]:
            assert torch.equal(weight, first["voices.weight"][earlier["voices"].index(name)])
    assert re.search("init: 3 of 6 voices known to .*voices", capsys.readouterr().err)


def test_frozen_front_end_is_the_one_it_began_with(
    whole: Run, material: Material, tmp_path: Path
) -> None:
    """Also after a validation, which changes modes."""
    settings = material.settings(
        init=whole.folder,
        optimizer__front_end_share=0,
        trainer__max_steps=3,
        trainer__validate_every=1,
    )
    result = train([TINY], settings, tmp_path / "exp")
    before, after = (stored(path)["state_dict"] for path in (whole.result, result))
    for name, tensor in after.items():
        frozen = name.startswith("diarizer.front_end.")
        assert frozen == torch.equal(tensor, before[name]), name


def test_run_is_built_like_a_model(whole: Run, material: Material, tmp_path: Path) -> None:
    """Settings that are given win; the rest is the model's, not the default's."""
    settings = [s for s in material.settings(trainer__max_steps=1) if "diarizer" not in s]
    more = [f"init={whole.result}", "diarizer.num_slots=6", "diarizer.head_dropout=0.2"]
    result = train([whole.folder], [*settings, *more], tmp_path / "exp")
    known, built = load_checkpoint(whole.result).config, load_checkpoint(result).config
    assert (built.num_slots, built.head_dropout) == (6, 0.2)
    assert (known.num_slots, known.head_dropout) == (4, 0.1)
    assert (built.front_end, built.encoder) == (known.front_end, known.encoder)
    with pytest.raises(ConfigError, match=r"whole, .*best\.ckpt: are 2 models, but a run has"):
        train([whole.folder, whole.result], settings, tmp_path / "other")


# ---- mistakes


def test_experiment_is_not_overwritten(whole: Run, material: Material) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.folder.rglob("*")}
    with pytest.raises(ConfigError, match=r"whole: holds an experiment already, but --resume"):
        train([TINY], material.settings(), whole.folder)
    message = r"begun with optimizer\.learning_rate=0\.001, not 0\.5\. Resume with the same"
    with pytest.raises(ConfigError, match=message):
        changed = material.settings(optimizer__learning_rate=0.5)
        train([TINY], changed, whole.folder, resume=True)
    assert {p: p.stat().st_mtime_ns for p in whole.folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data__utterances": "null"}, r"both null, but training needs one\. Give data\.utter"),
        ({"data__utterances": "none.jsonl"}, r"none\.jsonl: cannot be read"),
        ({"data__validation": "none.jsonl"}, r"none\.jsonl: cannot be read"),
        ({"init": "nowhere"}, r"nowhere"),
        (
            {"voice_weight": 1.0, "data__utterances": "null", "data__sessions": "x.jsonl"},
            r"voice_weight is above 0, but data\.utterances is null",
        ),
        (
            {"diarization_weight": 0.0},
            r"voice_weight, masked_weight and diarization_weight are 0, but a run learns",
        ),
        ({"optimizer__algorithm": "sgd"}, r"algorithm is 'sgd', but it may be adamw or muon"),
        ({"optimizer__schedule": "linear"}, r"schedule is 'linear', but .* cosine or inverse_sqrt"),
        ({"optimizer__betas": "[0.9]"}, r"betas is \[0\.9\], but AdamW has 2"),
        ({"optimizer__learning_rate": -1.0}, r"learning_rate is -1, but it is at least 0"),
        ({"trainer__precision": "8"}, r"precision is '8', but it may be auto, 32-true, "),
        ({"trainer__strategy": "dp"}, r"strategy is 'dp', but it may be auto, ddp or fsdp"),
        (
            {"trainer__strategy": "fsdp", "trainer__precision": "16-mixed"},
            r"strategy is 'fsdp', but precision is '16-mixed', .* Choose bf16-mixed",
        ),
        ({"trainer__accumulate": 0}, r"accumulate is 0, but it is at least 1"),
        ({"trainer__max_steps": 0}, r"max_steps is 0, but it is at least 1"),
        ({"data__batch_size": 0}, r"batch_size is 0, but it is at least 1"),
        ({"data__window": 0.0}, r"window is 0, but it is at least 0\.1"),
        ({"data__recorded_share": 2.0}, r"recorded_share is 2, but a share is from 0 to 1"),
        ({"seed": -1}, r"seed is -1, but it is at least 0"),
        ({"loss__match": "best"}, r"loss\.match is 'best', but it may be agreement or bce"),
        ({"loss__sort_weight": -1.0}, r"loss\.sort_weight is -1, but it is at least 0"),
        (
            {"data__simulation__duration": 0.05},
            r"data\.simulation\.duration is 0\.05, but it is at least 0\.1",
        ),
        ({"trainer__max_step": 5}, r"max_step is not a setting of TrainerConfig\. Did you mean"),
    ],
)
def test_mistakes_are_told_before_a_folder_is_made(
    material: Material, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(DiarizeError, match=message):
        train([TINY], material.settings(**settings), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"diarizer__front_end__num_heads": 0}, r"num_heads is 0, but it is at least 1"),
        ({"diarizer__encoder__dropout": 1.5}, r"dropout is 1\.5, but a share is from 0 to 1"),
        (
            {"diarizer__encoder__positions": "learned"},
            r"positions is 'learned', but it may be none, s",
        ),
        ({"diarizer__front_end__mel__hop_samples": 0}, r"mel\.hop_samples is 0, but it is at lea"),
        ({"diarizer__front_end__mel__sample_rate": 8000}, r"mel\.sample_rate is 8000, but"),
        ({"init": "nowhere"}, r"nowhere: is no packaged model, file or folder"),
    ],
)
def test_mistakes_in_the_model_are_told_before_the_corpus_is_decoded(
    material: Material,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict,
    message: str,
) -> None:
    monkeypatch.setattr(training, "DiarizationData", pytest.fail)
    with pytest.raises(DiarizeError, match=message):
        train([TINY], material.settings(**settings), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize(("present", "noun"), [(1, "GPU"), (2, "GPUs")])
def test_more_devices_than_there_are_gpus(
    monkeypatch: pytest.MonkeyPatch, present: int, noun: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    trainer._check_devices(present)
    message = rf"trainer\.devices is 3, but this machine has {present} {noun}\. Lower it"
    with pytest.raises(ConfigError, match=message):
        trainer._check_devices(3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    trainer._check_devices(3)


def test_bfloat16_that_is_emulated_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert trainer._precision("auto") == "32-true"
    assert trainer._precision("bf16-mixed") == "bf16-mixed"


# ---- several processes


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="two processes share no GPU")
def test_the_command_starts_its_other_processes_itself(material: Material, tmp_path: Path) -> None:
    """What they learn is test_devices's matter; here, that nothing is said or written twice."""
    settings = material.settings(
        trainer__devices=2, trainer__max_steps=2, trainer__validate_every=2, trainer__log_every=1
    )
    words = [sys.executable, "-m", "diarize", "train", str(TINY), *settings, "--output", "exp"]
    path = os.pathsep.join([str(TINY.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "exp/checkpoints/best.ckpt\n"
    assert "Warning" not in done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(set(lines)) > 2
    assert len((tmp_path / "exp" / "environment.jsonl").read_text().splitlines()) == 1
    assert [row["step"] for row in table(tmp_path / "exp")] == ["1", "2"]
    assert 0 <= float(table(tmp_path / "exp")[-1]["val_der"]) < math.inf


@pytest.mark.parametrize("recompute", [False, True])
def test_freed_memory_is_kept_unless_little_is_to_be_used(
    recompute: bool, material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = []
    monkeypatch.setattr("diarize.training.keep_freed_memory", lambda: kept.append(True))
    settings = [*material.settings(), "trainer.max_steps=1", f"trainer.recompute={recompute}"]
    train([TINY], settings, tmp_path / "exp")
    assert kept == ([] if recompute else [True])
