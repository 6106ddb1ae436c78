"""Priors of models that were trained without: what sessions sound like, and all else as before."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from diarize.checkpoint import build, load_checkpoint, read_checkpoint, save_checkpoint
from diarize.cli import main
from diarize.config import load_config
from diarize.errors import CheckpointError, ManifestError
from diarize.manifest import Session, write_manifest
from diarize.model import Diarizer, DiarizerConfig
from diarize.prior import with_prior
from diarize.streaming import StreamingDiarizer

SIZES = [
    "front_end.width=16",
    "front_end.num_layers=1",
    "front_end.num_heads=2",
    "front_end.subsampling_channels=4",
    "front_end.mel.num_mels=16",
    "encoder.width=8",
    "encoder.inner=8",
    "encoder.num_layers=1",
    "encoder.num_heads=2",
]


def make(folder: Path, *overrides: str) -> Path:
    """A model of a few thousand parameters, on disk."""
    torch.manual_seed(0)
    return save_checkpoint(
        Diarizer(load_config(DiarizerConfig, overrides=[*SIZES, *overrides])), folder
    )


@pytest.fixture
def sessions(tmp_path: Path) -> list[Session]:
    """The middle of a recording that is louder outside, and another, a minute and more."""
    rng = np.random.default_rng(0)
    loud = rng.normal(0, 0.3, 16000)
    soundfile.write(
        tmp_path / "a.wav", np.concatenate([loud, rng.normal(0, 0.01, 32000), loud]), 16000
    )
    soundfile.write(tmp_path / "b.wav", rng.normal(0, 0.1, 61 * 16000), 16000)
    return [Session("a", tmp_path / "a.wav", 1.0, 2.0), Session("b", tmp_path / "b.wav")]


def answer(diarizer: Diarizer) -> Tensor:
    waveform = torch.rand(2, 16000, generator=torch.Generator().manual_seed(1)) - 0.5
    return diarizer.posterior(waveform, torch.tensor([16000, 9000]))[0]


def test_a_prior_is_what_the_sessions_sound_like(tmp_path: Path, sessions: list[Session]) -> None:
    checkpoint = read_checkpoint(make(tmp_path / "model"))
    diarizer = build(with_prior(checkpoint, sessions))
    count, mean, variance = diarizer.front_end.mel.heard
    assert count.tolist() == [200 + 6100] * 16
    # Of white noise, mel bins are exponentials' means: their logarithms' mean goes with loudness.
    quiet = build(with_prior(checkpoint, sessions[:1])).front_end.mel.heard
    loud = build(with_prior(checkpoint, sessions[1:])).front_end.mel.heard
    torch.testing.assert_close(
        loud[1] - quiet[1], torch.full((16,), np.log(100.0)).float(), atol=0.3, rtol=0
    )
    shares = torch.tensor([200 / 6300, 6100 / 6300])
    torch.testing.assert_close(mean, shares[0] * quiet[1] + shares[1] * loud[1])
    within = shares[0] * quiet[2] + shares[1] * loud[2]
    apart = shares.prod() * (loud[1] - quiet[1]) ** 2
    torch.testing.assert_close(variance, within + apart, atol=1e-4, rtol=1e-4)


def test_whole_recordings_are_heard_as_before_and_a_prior_is_replaced(
    tmp_path: Path, sessions: list[Session]
) -> None:
    folder = make(tmp_path / "model")
    checkpoint = read_checkpoint(folder)
    diarizer = build(with_prior(checkpoint, sessions))
    assert torch.equal(answer(diarizer), answer(load_checkpoint(folder)))
    assert diarizer.front_end.mel.config.prior_seconds == 5.0
    assert checkpoint.diarizer["front_end"]["mel"]["prior_seconds"] == 0.0
    made = make(tmp_path / "other", "front_end.mel.prior_seconds=2")
    again = build(with_prior(read_checkpoint(made), sessions)).front_end.mel
    assert again.config.prior_seconds == 2.0
    assert torch.equal(again.heard, diarizer.front_end.mel.heard)


def test_convert_makes_a_model_stream(tmp_path: Path, sessions: list[Session]) -> None:
    write_manifest(tmp_path / "dev.jsonl", sessions)
    given = ["--prior-of", str(tmp_path / "dev.jsonl"), "--output", str(tmp_path / "live")]
    assert main(["convert", str(make(tmp_path / "model")), *given]) == 0
    stream = StreamingDiarizer(load_checkpoint(tmp_path / "live"))
    posterior = stream.feed(np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32))
    assert len(posterior) > 0 and np.isfinite(posterior).all()
    assert read_checkpoint(tmp_path / "live").card["prior_of"] == "dev.jsonl"
    audio, streamed = str(sessions[1].audio), ["--latency", "10s", "--output", str(tmp_path)]
    assert main(["infer", audio, "--model", str(tmp_path / "live"), *streamed]) == 0
    assert main(["infer", audio, "--model", str(tmp_path / "model"), *streamed]) == 1


def test_models_that_need_no_prior(tmp_path: Path, sessions: list[Session]) -> None:
    plain = read_checkpoint(make(tmp_path / "model", "front_end.mel.normalization=none"))
    with pytest.raises(CheckpointError, match=r"model: has mel.normalization none, but a prior is"):
        with_prior(plain, sessions)
    rows = {"_target_": "diarize.frontend.features.Features", "dim": 4, "frame_shift": 0.1}
    deaf = Diarizer(load_config(DiarizerConfig, values={"front_end": rows}, overrides=SIZES[-4:]))
    folder = save_checkpoint(deaf, tmp_path / "deaf")
    with pytest.raises(CheckpointError, match="deaf: has no log-mel energies, but a prior is"):
        with_prior(read_checkpoint(folder), sessions)


def test_sessions_without_audio_make_no_prior(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(make(tmp_path / "model"))
    with pytest.raises(CheckpointError, match="no session holds any audio. Give others"):
        with_prior(checkpoint, [])
    np.save(tmp_path / "a.npy", np.zeros((9, 4), dtype=np.float32))
    rows = Session("a", tmp_path / "a.npy", frame_shift=0.1, where="m.jsonl:1")
    with pytest.raises(ManifestError, match="m.jsonl:1: session 'a'"):
        with_prior(checkpoint, [rows])
