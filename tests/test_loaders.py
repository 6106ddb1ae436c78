"""What a run learns from: bad recordings are told plainly, windows are those it saw."""

import re
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import soundfile
import torch
from runs import TINY, Material, assert_same, in_another_process, kill, stored
from tones import SAMPLE_RATE, write_lines

from diarize.config import load_config
from diarize.data import Batch, write_shards
from diarize.errors import AudioError, ConfigError, ManifestError
from diarize.formats.rttm import write_rttm
from diarize.loaders import DataConfig, DiarizationData
from diarize.manifest import read_manifest
from diarize.model import Diarizer
from diarize.module import DiarizationModule, TrainingConfig
from diarize.training import train
from diarize.turns import Turn

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_recording_is_told_in_one_line(
    num_workers: int, material: Material, a_session: Callable, tmp_path: Path
) -> None:
    waveform, turns = a_session(2, 8.0)
    recording = tmp_path / "bad.flac"
    soundfile.write(recording, waveform, SAMPLE_RATE)
    recording.write_bytes(recording.read_bytes()[:-1000])  # the header is whole
    write_rttm(tmp_path / "bad.rttm", {"bad": turns})
    line = {"audio_filepath": "bad.flac", "rttm_filepath": "bad.rttm"}
    sessions = write_lines(tmp_path / "sessions.jsonl", [line])
    settings = material.settings(
        data__utterances="null", data__validation="null", data__sessions=sessions
    )
    settings = [s for s in settings if "num_workers" not in s]
    with pytest.raises(AudioError) as caught:
        train([TINY], [*settings, f"data.num_workers={num_workers}"], tmp_path / "exp")
    assert re.fullmatch(r"\S+bad\.flac: .*\. Is the file (cut off|damaged)\?", str(caught.value))


def test_recordings_are_looked_at_before_a_run_begins(material: Material, tmp_path: Path) -> None:
    line = {"audio_filepath": "gone.wav", "duration": 9.0, "rttm_filepath": "gone.rttm"}
    write_rttm(tmp_path / "gone.rttm", {"gone": []})
    sessions = write_lines(tmp_path / "sessions.jsonl", [line])
    with pytest.raises(AudioError, match=r"sessions\.jsonl:1: \S+gone\.wav: cannot be read \(No"):
        train([TINY], material.settings(data__sessions=sessions), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


def test_recommended_window_is_one_that_was_heard() -> None:
    def window(*overrides: str) -> float:
        return load_config(DataConfig, overrides=overrides).trained_window

    simulated = ["utterances=x", "simulation.duration=12"]
    assert window(*simulated) == 12.0
    assert window(*simulated, "sessions=y", "window=40") == 40.0
    assert window("sessions=y", "window=40") == 40.0
    endless = ["simulation.duration=null", "simulation.independent_share=1"]
    assert window("utterances=x", *endless, "window=40") == 40.0


def test_data_leave_the_draw_of_weights_alone(material: Material) -> None:
    """Weights are drawn before and after the data are made ready."""
    config = load_config(
        TrainingConfig, [TINY], material.settings(data__sessions=material.validation)
    )
    before = torch.get_rng_state()
    DiarizationData(config.data, config.seed, 10, tell_voices=True)
    assert torch.equal(torch.get_rng_state(), before)


# ---- recorded sessions


@pytest.fixture
def talks(a_session: Callable, tmp_path: Path) -> list[Path]:
    """Two manifests of sessions of unlike lengths: three of tones, one of noise."""
    manifests = []
    for name, lengths in (("tones", [4.0, 2.0, 1.0]), ("more", [3.0])):
        lines = []
        for number, length in enumerate(lengths):
            waveform, turns = a_session(2, length)
            place = tmp_path / f"{name}{number}"
            soundfile.write(place.with_suffix(".wav"), waveform, SAMPLE_RATE)
            write_rttm(place.with_suffix(".rttm"), {place.name: turns})
            audio, rttm = f"{place.name}.wav", f"{place.name}.rttm"
            lines.append({"audio_filepath": audio, "rttm_filepath": rttm})
        manifests.append(write_lines(tmp_path / f"{name}.jsonl", lines))
    return manifests


def drawn(
    material: Material,
    sessions: dict[Path, float],
    *more: str,
    num_workers: int = 0,
    steps: int = 8,
    first: int = 0,
    rank: int = 0,
    num_ranks: int = 1,
    accumulate: int = 1,
) -> list[Batch]:
    """Batches of a run that begins at a step, in one of its processes."""
    settings = [s.replace("data.", "") for s in material.settings() if s.startswith("data.")]
    weights = "{" + ", ".join(f"{path}: {weight}" for path, weight in sessions.items()) + "}"
    settings += [f"sessions={weights}", f"num_workers={num_workers}", *more]
    config = load_config(DataConfig, overrides=settings)
    diarizer = Diarizer(load_config(TrainingConfig, [TINY]).diarizer)
    data = DiarizationData(config, 0, steps, diarizer=diarizer)
    data.trainer = SimpleNamespace(
        global_step=first,
        global_rank=rank,
        world_size=num_ranks,
        accumulate_grad_batches=accumulate,
        lightning_module=SimpleNamespace(diarizer=diarizer),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )  # type: ignore[assignment]
    return list(data.train_dataloader())


BUCKETS = ("window=2.0", "batch_seconds=5", "buckets=2", "draw.shortest=0.5")


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(1, 2), (2, 0), (3, 1)])
def test_a_run_that_goes_on_sees_what_one_that_never_stopped_does(
    num_ranks: int, num_workers: int, material: Material, talks: list[Path]
) -> None:
    """With simulated and recorded batches, two manifests, buckets, ranks and workers."""
    sessions = {talks[0]: 2.0, talks[1]: 1.0}
    signals = []
    for rank in range(num_ranks):
        ranks = {"rank": rank, "num_ranks": num_ranks}
        whole = drawn(material, sessions, *BUCKETS, **ranks)
        tail = drawn(material, sessions, *BUCKETS, first=5, num_workers=num_workers, **ranks)
        assert len(whole) == 8 and len(tail) == 3
        for one, other in zip(whole[5:], tail, strict=True):
            assert torch.equal(one.signal, other.signal)
            assert torch.equal(one.activity, other.activity) and one.turns == other.turns
        signals += [batch.signal for batch in whole]
    # Recorded windows are drawn at hundredths of a second: the few there are may come again.
    assert len({signal.numpy().tobytes() for signal in signals}) > len(signals) * 0.7


def test_a_killed_run_on_recorded_sessions_ends_as_one_that_was_not(
    material: Material, talks: list[Path], tmp_path: Path
) -> None:
    """Killed in the midst of an epoch; what goes on has another number of workers."""
    settings = material.settings(
        data__sessions=f"{{{talks[0]}: 2, {talks[1]}: 1}}",
        data__window=2.0,
        data__batch_seconds=5,
        data__validation="null",
        trainer__max_steps=6,
    )

    def killed() -> None:
        step = DiarizationModule.training_step

        def until(module: DiarizationModule, *batch: Any) -> torch.Tensor:
            if module.trainer.global_step == 4:
                kill()
            return step(module, *batch)

        DiarizationModule.training_step = until  # type: ignore[method-assign]
        workers = [s for s in settings if "num_workers" not in s] + ["data.num_workers=1"]
        train([TINY], workers, tmp_path / "killed")

    assert in_another_process(killed) == -signal.SIGKILL
    ends = [
        stored(train([TINY], settings, tmp_path / name, resume=name == "killed"))["state_dict"]
        for name in ("killed", "whole")
    ]
    assert_same(*ends)


def test_a_run_from_shards_goes_on_too(
    material: Material, talks: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("lhotse")
    write_shards(read_manifest(talks[0]), tmp_path / "shards", 2.0, show=False)
    sessions = {tmp_path / "shards": 1.0}
    whole = drawn(material, sessions, *BUCKETS)
    tail = drawn(material, sessions, *BUCKETS, first=3, num_workers=2)
    for one, other in zip(whole[3:], tail, strict=True):
        assert torch.equal(one.signal, other.signal) and one.turns == other.turns


def test_batches_of_a_step_are_of_one_kind_on_all_ranks(
    material: Material, talks: list[Path]
) -> None:
    ranks = [drawn(material, {talks[0]: 1.0}, *BUCKETS, rank=r, num_ranks=2) for r in range(2)]
    for one, other in zip(*ranks, strict=True):
        assert len(one.turns) == len(other.turns)


def test_simulated_sessions_come_first_and_recorded_ones_by_and_by(
    material: Material, talks: list[Path]
) -> None:
    """Recorded windows last a second, simulated sessions 1.6 s."""
    ramp = ("window=1.0", "recorded_ramp=[4, 12]", "recorded_share=1")

    def recorded(**more: int) -> list[bool]:
        batches = drawn(material, {talks[0]: 1.0}, *ramp, **more)
        return [int(batch.num_samples.max()) == 16000 for batch in batches]

    share = recorded(steps=20)
    assert not any(share[:5]) and all(share[12:]) and 2 <= sum(share[4:12]) <= 5
    # A step of two batches: the share is that of the step.
    share = recorded(steps=28, accumulate=2)
    assert len(share) == 28 and not any(share[:10]) and all(share[24:])


def test_a_batch_has_so_many_seconds(material: Material, talks: list[Path]) -> None:
    batches = drawn(material, {talks[0]: 1.0}, *BUCKETS, "recorded_share=1")
    sizes = {batch.signal.shape for batch in batches}
    assert len(sizes) > 1
    assert all(rows * samples <= 5 * 16000 for rows, samples in sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("sessions=3", r"sessions is 3, but it names a manifest, or several with weights above 0"),
        ("sessions=[a, b]", r"sessions is \['a', 'b'\], but it names a manifest"),
        ("sessions={a: 0}", r"sessions is \{'a': 0\}, but it names .* weights above 0"),
        ("recorded_ramp=[4, 2]", r"recorded_ramp is \[4, 2\], but it is 2 steps, the earlier"),
        ("batch_seconds=10", r"batch_seconds is 10, but a window of 30 s counts as 30 s\. Raise"),
        ("draw.shortest=50", r"draw\.shortest is 50, but window is 30\. Lower"),
        ("buckets=0", r"buckets is 0, but it is at least 1"),
        ("draw.crowding=0", r"draw\.crowding is 0, but a weight is above 0 and at most 10"),
        ("draw.splices=2", r"draw\.splices is 2, but a share is from 0 to 1"),
    ],
)
def test_settings_that_cannot_be(settings: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(DataConfig, overrides=[settings])


def test_settings_that_do_not_go_together() -> None:
    told = r"batch_seconds is 35, but a window of 30 s counts as 39 s\. Raise batch_seconds, or"
    with pytest.raises(ConfigError, match=told):
        load_config(DataConfig, overrides=["batch_seconds=35", "quadratic_seconds=100"])
    told = r"draw\.splice_shortest is 15, but window is 20, which two stretches fill\. Lower"
    with pytest.raises(ConfigError, match=told):
        load_config(DataConfig, overrides=["window=20", "draw.splices=0.5"])


def test_a_reference_of_other_recordings_ends_a_run_before_it_begins(
    material: Material, talks: list[Path], tmp_path: Path
) -> None:
    rttm = tmp_path / "more0.rttm"
    write_rttm(rttm, {"more0": [Turn(500.0, 501.0, "late"), Turn(502.0, 503.0, "later")]})
    told = (
        r"more\.jsonl:1: session 'more0' has 2 turns in \S+more0\.rttm, the first at 500\.00 s, "
        r"but its audio lasts 3\.00 s\. Is it another recording's reference\?"
    )
    with pytest.raises(ManifestError, match=told):
        train([TINY], material.settings(data__sessions=talks[1]), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()
