"""Simulated sessions as batches: made one by one or all at once, they are the same."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runs import TINY, Material
from tones import write_corpus

from diarize.config import load_config
from diarize.data import Collate, Draw, Simulated
from diarize.frames import FrameGrid
from diarize.loaders import DiarizationData
from diarize.model import Diarizer
from diarize.module import TrainingConfig
from diarize.simulate import SimulationConfig, Simulator


def simulator(folder: Path, **changes: object) -> Simulator:
    """Sessions of one to three talkers, some of whom are not heard."""
    settings = {"num_speakers": [1.0, 1.0, 1.0], "duration": 4.0, "min_voice": 0.5}
    config = SimulationConfig(**(settings | {"sparse": 0.2, "silence": 0.4} | changes))
    return Simulator.from_manifests(config, write_corpus(folder), cache=folder / "cache", seed=3)


def assert_same(one: object, other: object, slots: int) -> None:
    for name in ("num_samples", "activity", "num_frames", "voice"):
        mixed, wanted = getattr(one, name), getattr(other, name)
        assert torch.equal(mixed.cpu(), wanted) and mixed.dtype == wanted.dtype, name
    assert one.activity.shape[2] == slots
    assert torch.allclose(one.signal.cpu(), other.signal, atol=1e-5)
    for name in ("turns", "regions", "num_speakers", "dropped_speakers", "stand_ins"):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize("num_slots", [1, 2, 5])
@pytest.mark.parametrize("hop", [1280, 200])
def test_a_batch_made_at_once_is_that_of_its_sessions(
    num_slots: int, hop: int, tmp_path: Path
) -> None:
    made = simulator(tmp_path)
    voices = {name: index for index, name in enumerate(made.voices[1:])}  # one is not trained
    source = Simulated(made)
    collate = Collate(FrameGrid(16000, hop), num_slots, voices)
    for first in (0, 12):
        draw = Draw(0, 0, first, 12)
        one, other = source.mixed(draw, collate), source.batch(draw, collate)
        assert_same(one, other, num_slots)
        assert (other.dropped_speakers > 0) == (num_slots < 3)
    assert (source.mixed(draw, Collate(FrameGrid(16000, hop), num_slots)).voice == -1).all()


def test_who_begin_together_may_change_places(tmp_path: Path) -> None:
    """Sessions heard from their midst on begin with several talkers at once."""
    source = Simulated(simulator(tmp_path, midst=1.0, independent_share=1.0, silence=0.1))
    collate, draw = Collate(FrameGrid(16000, 1280), 3), Draw(0, 0, 0, 16)
    one, other = (
        batch.activity for batch in (source.mixed(draw, collate), source.batch(draw, collate))
    )
    assert not torch.equal(one, other)
    for mixed, wanted in zip(one.numpy(), other.numpy(), strict=True):
        assert sorted(map(tuple, mixed.T)) == sorted(map(tuple, wanted.T))
        first = [int(column.argmax()) if column.any() else 99 for column in mixed.T]
        assert first == sorted(first)


def test_sessions_of_unlike_length_are_padded(tmp_path: Path) -> None:
    made = simulator(tmp_path, duration=None, independent_share=1.0, min_utterances=1,
                     max_utterances=3, sparse=0.0)  # fmt: skip
    collate = Collate(FrameGrid(16000, 1280), 3)
    draw = Draw(0, 0, 4, 8)
    one = Simulated(made).mixed(draw, collate)
    assert len(set(one.num_samples.tolist())) > 2
    assert_same(one, Simulated(made).batch(draw, collate), 3)


@pytest.mark.parametrize("in_cache", [2**16, 2**22], ids=["one by one", "together"])
def test_a_batch_sounds_as_its_sessions_do(
    in_cache: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("diarize.simulate.mixer.IN_CACHE", in_cache)
    made, collate = simulator(tmp_path), Collate(FrameGrid(16000, 1280), 3)
    batch = Simulated(made).batch(Draw(0, 0, 2, 3), collate)
    for row, number in enumerate((2, 3, 4)):
        waveform, turns = made.session(number)
        assert batch.signal[row].numpy() == pytest.approx(waveform, abs=1e-6)
        assert batch.turns[row] == turns


# ---- on a GPU


def loaded(material: Material, device: object, **more: object) -> DiarizationData:
    settings = material.settings(data__num_workers=2, **more)
    config = load_config(TrainingConfig, [TINY], settings)
    diarizer = Diarizer(config.diarizer)
    data = DiarizationData(config.data, 0, 4, tell_voices=True, diarizer=diarizer)
    data.trainer = SimpleNamespace(
        global_step=0,
        global_rank=0,
        world_size=1,
        accumulate_grad_batches=1,
        lightning_module=SimpleNamespace(diarizer=diarizer),
        strategy=SimpleNamespace(root_device=device),
    )  # type: ignore[assignment]
    return data


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_loader_hands_on_what_a_device_makes(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = loaded(material, torch.device("cpu"))
    wanted = list(here.train_dataloader())
    monkeypatch.setattr(Simulated, "fits", lambda source, device: True)
    monkeypatch.setattr(Simulated, "on", lambda source, device: source)
    data = loaded(material, SimpleNamespace(type="cuda"))
    loader = data.train_dataloader()
    draws = list(loader)
    assert loader.num_workers == 0 and all(isinstance(draw, Draw) for draw in draws)
    for draw, other in zip(draws, wanted, strict=True):
        one = data.on_before_batch_transfer(draw, 0)
        assert torch.equal(one.signal, other.signal) and one.turns == other.turns
    soft = loaded(material, SimpleNamespace(type="cuda"), data__soft_targets=True)
    assert soft.train_dataloader().num_workers == 2
    monkeypatch.setattr(Simulated, "fits", lambda source, device: False)
    assert loaded(material, SimpleNamespace(type="cuda")).train_dataloader().num_workers == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_batches_of_a_cpu(material: Material) -> None:
    batches = []
    for device in ("cpu", "cuda"):
        data = loaded(material, torch.device(device))
        batches.append([data.on_before_batch_transfer(b, 0) for b in data.train_dataloader()])
    for other, one in zip(*batches, strict=True):
        assert one.signal.device.type == "cuda" and other.signal.device.type == "cpu"
        assert_same(one, other, other.activity.shape[2])
