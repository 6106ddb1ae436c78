"""Every file under conf/ is what it says it is: model, training step, simulation, thresholds."""

from pathlib import Path

import pytest
import torch

from diarize.config import load_config
from diarize.data import Collate, Example
from diarize.module import DiarizationModule, TrainingConfig
from diarize.postprocess import PostprocessConfig, load_postprocess
from diarize.simulate import SimulationConfig

CONF = Path(__file__).parents[1] / "conf"
FILES = {path.relative_to(CONF).as_posix(): path for path in sorted(CONF.rglob("*.yaml"))}
THRESHOLDS = [name for name in FILES if name.startswith("postprocess/")]
SIMULATIONS = [name for name in FILES if name.startswith("simulate")]
TRAININGS = [name for name in FILES if name not in THRESHOLDS + SIMULATIONS]
MODELS = ["base.yaml", "small.yaml", "tiny.yaml", "wavlm.yaml"]
STEPS = sorted(set(TRAININGS) - set(MODELS))
"""Steps of the curriculum, which any model may take."""


def test_there_are_files_of_every_kind() -> None:
    assert len(FILES) >= 11
    assert len(THRESHOLDS) >= 4
    assert SIMULATIONS == ["simulate.yaml"]
    assert set(MODELS) <= set(TRAININGS)
    assert {"voices.yaml", "short.yaml", "long.yaml"} <= set(STEPS)


@pytest.mark.parametrize("name", FILES)
def test_a_comment_says_what_the_file_is_for(name: str) -> None:
    assert FILES[name].read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", THRESHOLDS)
def test_thresholds_load(name: str) -> None:
    assert load_postprocess(FILES[name]) != PostprocessConfig()


@pytest.mark.parametrize("name", SIMULATIONS)
def test_simulations_load(name: str) -> None:
    load_config(SimulationConfig, [FILES[name]])


def build(names: list[str]) -> DiarizationModule:
    """On the meta device, where a model of any size costs nothing."""
    config = load_config(TrainingConfig, [FILES[name] for name in names], ["data.utterances=x"])
    with torch.device("meta"):
        return DiarizationModule(config, ["ann", "ben", "cid"])


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("tiny.yaml", 0.1e6, 1e6),
        ("small.yaml", 1e6, 8e6),
        ("base.yaml", 122.5e6, 123.5e6),  # arXiv:2409.06656
        ("wavlm.yaml", 97.5e6, 98.5e6),
    ],
)
def test_models_have_the_size_they_claim(name: str, least: float, most: float) -> None:
    diarizer = build([name]).diarizer
    assert least <= sum(p.numel() for p in diarizer.parameters()) <= most


@pytest.mark.parametrize("name", STEPS)
def test_curriculum_steps_build(name: str) -> None:
    build(["base.yaml", name])


TAKEN = [*([model] for model in MODELS), *(["tiny.yaml", step] for step in STEPS)]
NARROW_ENCODER = {"encoder.width": 16, "encoder.inner": 32, "encoder.num_layers": 1}
NARROW_LAYERS = {"front_end.width": 32, "front_end.num_layers": 1}
NARROW = {
    "base.yaml": NARROW_ENCODER | NARROW_LAYERS | {"front_end.subsampling_channels": 8},
    "wavlm.yaml": NARROW_ENCODER
    | NARROW_LAYERS
    | {"front_end.num_heads": 2, "front_end.inner": 64, "front_end.channels": 16},
}
"""What makes a step of the largest models quick; all else is as their files have it."""


@pytest.mark.parametrize("names", TAKEN, ids=" ".join)
def test_models_take_a_step(names: list[str], a_session) -> None:
    paths = [FILES[name] for name in names]
    narrow = [f"diarizer.{part}={size}" for part, size in NARROW.get(names[0], {}).items()]
    config = load_config(TrainingConfig, paths, ["data.utterances=x", *narrow])
    module = DiarizationModule(config, ["ann", "ben"] if config.voice_weight else [])
    collate = Collate(module.diarizer.grid, 4, {"speaker_0": 0, "speaker_1": 1})
    loss, _, parts = module._step(collate([Example("s", *a_session(2, 4.8))]))  # two speakers
    optimizer = module.configure_optimizers()["optimizer"]
    trained = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
    loss.backward()
    gradients = {n: p.grad for n, p in module.named_parameters() if n in trained}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert sum(bool(g.any()) for g in gradients.values()) > 0.9 * len(gradients)
    optimizer.step()
    assert torch.isfinite(loss) and loss > 0 and all(value > 0 for value in parts.values())
    moved = [not torch.equal(trained[n], p) for n, p in module.named_parameters() if n in trained]
    assert sum(moved) > 0.9 * len(moved)
