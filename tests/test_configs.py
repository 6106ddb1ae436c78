"""Every file under conf/ is what it says it is: model, training step, simulation, thresholds."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from diarize.checkpoint import initialize, read_checkpoint, save_checkpoint
from diarize.config import load_config
from diarize.data import Collate, Example
from diarize.latency import format_latency, parse_latency
from diarize.model import Diarizer
from diarize.module import DiarizationModule, TrainingConfig
from diarize.postprocess import PostprocessConfig, load_postprocess
from diarize.simulate import SimulationConfig

CONF = Path(__file__).parents[1] / "conf"
FILES = {path.relative_to(CONF).as_posix(): path for path in sorted(CONF.rglob("*.yaml"))}
THRESHOLDS = [name for name in FILES if name.startswith("postprocess/")]
SIMULATIONS = [name for name in FILES if name.startswith("simulate")]
TRAININGS = [name for name in FILES if name not in THRESHOLDS + SIMULATIONS]
MODELS = ["base.yaml", "small.yaml", "tiny.yaml", "wavlm.yaml"]
RECIPES = {
    "sortformer_v1.yaml": ["sortformer_v1.yaml"],
    "sortformer_v2.yaml": ["sortformer_v2.yaml"],
    "nemotron3_offline.yaml": ["nemotron3_offline.yaml"],
    "nemotron3_streaming.yaml": ["nemotron3_offline.yaml", "nemotron3_streaming.yaml"],
}
"""Those of the public models, with the files that each is given after."""
STEPS = sorted(set(TRAININGS) - set(MODELS) - set(RECIPES))
"""Steps of the curriculum, which any model may take."""


def test_there_are_files_of_every_kind() -> None:
    assert len(FILES) >= 11
    assert len(THRESHOLDS) >= 4
    assert SIMULATIONS == ["simulate.yaml"]
    assert set(MODELS) <= set(TRAININGS) and set(RECIPES) <= set(TRAININGS)
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
        return DiarizationModule(config, ["ann", "ben", "cid"] if config.voice_weight else [])


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


UNUSED = 4 * 384 + 4
"""Parameters of a map that is in all of NeMo's archives and takes part in nothing."""
UPSAMPLING = 192 * 3 * 8 * 192 + 8 * 192
SILENCE = 512


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("sortformer_v1.yaml", 123_219_976 - UNUSED),
        ("sortformer_v2.yaml", 117_693_960 - UNUSED),
        ("nemotron3_offline.yaml", 99_226_504 - UPSAMPLING - SILENCE),
        ("nemotron3_streaming.yaml", 99_226_504),
    ],
)
def test_recipes_are_of_the_published_size(name: str, count: int) -> None:
    assert sum(p.numel() for p in build(RECIPES[name]).diarizer.parameters()) == count


@pytest.mark.parametrize("name", STEPS)
def test_curriculum_steps_build(name: str) -> None:
    build(["base.yaml", name])


TAKEN = [*([model] for model in MODELS), *(["tiny.yaml", step] for step in STEPS)]
NARROW_ENCODER = {"encoder.width": 16, "encoder.inner": 32, "encoder.num_layers": 1}
NARROW_LAYERS = {"front_end.width": 32, "front_end.num_layers": 1}
FAST = NARROW_ENCODER | NARROW_LAYERS | {"front_end.subsampling_channels": 8}
STACKED = NARROW_ENCODER | {"front_end.width": 32, "head_width": 24}
NARROW = {
    "base.yaml": FAST,
    "sortformer_v1.yaml": FAST,
    "sortformer_v2.yaml": FAST,
    "nemotron3_offline.yaml": STACKED,
    "wavlm.yaml": NARROW_ENCODER
    | NARROW_LAYERS
    | {"front_end.num_heads": 2, "front_end.inner": 64, "front_end.channels": 16},
}
"""What makes a step of the largest models quick; all else is as their files have it."""
LENGTHS = {"chunk": 12, "cache": 20, "update": 12}
"""Of streams, in frames, so short that a few seconds fill the cache."""


@pytest.mark.parametrize("names", [*TAKEN, *RECIPES.values()], ids=" ".join)
def test_models_take_two_steps(names: list[str], a_session: Callable) -> None:
    paths = [FILES[name] for name in names]
    narrow = [f"diarizer.{part}={size}" for part, size in NARROW.get(names[0], {}).items()]
    config = load_config(TrainingConfig, paths, ["data.utterances=x", *narrow])
    if config.rehearsal.latency is not None:
        lengths = replace(parse_latency(config.rehearsal.latency), **LENGTHS)
        config.rehearsal.latency = format_latency(lengths)
    module = DiarizationModule(config, ["ann", "ben"] if config.voice_weight else [])
    voices = {"speaker_0": 0, "speaker_1": 1}
    soft = config.data.soft_targets
    collate = Collate(module.diarizer.grid, module.diarizer.num_slots, voices, soft=soft)
    batch = collate([Example("s", *a_session(2, 4.8))])  # two speakers
    optimizer = module.configure_optimizers()["optimizer"]
    for _ in range(2):
        loss, _, parts = module._step(batch)
        trained = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}
        optimizer.zero_grad()
        loss.backward()
        gradients = {n: p.grad for n, p in module.named_parameters() if n in trained}
        assert all(g is not None and g.isfinite().all() for g in gradients.values())
        assert sum(bool(g.any()) for g in gradients.values()) > 0.9 * len(gradients)
        optimizer.step()
        assert (
            torch.isfinite(loss)
            and loss > 0
            and all(parts[n] > 0 for n in parts if n.endswith("loss"))
        )
        now = {n: p for n, p in module.named_parameters() if n in trained}
        assert sum(not torch.equal(trained[n], p) for n, p in now.items()) > 0.9 * len(now)


def test_a_recipe_begins_where_the_stage_before_has_ended(tmp_path: Path) -> None:
    """Nemotron-3's second stage: only what is new keeps its beginnings."""
    settings = ["data.utterances=x", *(f"diarizer.{k}={v}" for k, v in STACKED.items())]
    first, second = (
        load_config(TrainingConfig, [FILES[name] for name in RECIPES[recipe]], settings)
        for recipe in ("nemotron3_offline.yaml", "nemotron3_streaming.yaml")
    )
    save_checkpoint(Diarizer(first.diarizer), tmp_path / "first")
    diarizer = Diarizer(second.diarizer)
    left = initialize(diarizer, read_checkpoint(tmp_path / "first"))
    new = [f"head.upsampling.convolution.{kind}" for kind in ("bias", "weight")]
    assert sorted(left) == [*new, "silence"]
    # Each frame's answer is, to begin with, repeated.
    signal, num_samples = torch.randn(1, 16000) * 0.1, torch.tensor([16000])
    logits = diarizer.eval()(signal, num_samples)[0]
    torch.testing.assert_close(logits[:, 0:96:8], logits[:, 7:96:8])
