"""The optimizer: which weights move how fast, and the learning rate over the steps."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import TINY

from diarize.config import load_config
from diarize.data import Collate, Example
from diarize.errors import ConfigError
from diarize.module import DiarizationModule, TrainingConfig
from diarize.optimizer import OptimizerConfig, layers_above, learning_rate_factor

LAYERWISE = [
    "diarizer.encoder._target_=diarize.encoder.sortformer.SortFormer",
    "diarizer.encoder.num_layers=3",
]


def test_matrices_decay_and_vectors_do_not() -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY]))
    groups = module.configure_optimizers()["optimizer"].param_groups
    for group in groups:
        vectors = {p.ndim == 1 for p in group["params"]}
        assert len(vectors) == 1  # not of both kinds
        assert group["weight_decay"] == (0.0 if vectors.pop() else 1e-3)
    assert sum(len(g["params"]) for g in groups) == len(list(module.parameters()))


def test_muon_takes_the_matrices_of_hidden_layers() -> None:
    settings = ["voice_weight=1", "count_weight=1", "masked_weight=1", *LAYERWISE]
    settings += ["masked.num_labels=8", "optimizer.algorithm=muon"]
    module = DiarizationModule(load_config(TrainingConfig, [TINY], settings), ["ann", "ben"])
    optimizer = module.configure_optimizers()["optimizer"]
    groups = optimizer.param_groups
    turned = {id(p) for group in groups if group["orthogonal"] for p in group["params"]}
    names = {name for name, p in module.named_parameters() if id(p) in turned}
    assert "diarizer.encoder.layers.0.query.weight" in names
    assert "diarizer.front_end.layers.0.feed_forward_first.expand.weight" in names
    outputs = ["diarizer.head.output.weight", "count.weight", "voices.weight", "masked.head.weight"]
    outputs += [f"diarizer.encoder.heads.{n}.1.weight" for n in range(2)]
    assert set(outputs) < {name for name, _ in module.named_parameters()}
    assert not names & set(outputs) and all(name.endswith(".weight") for name in names)
    assert {p.ndim for p in module.parameters() if id(p) in turned} == {2}
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))


def test_what_began_before_moves_more_slowly() -> None:
    settings = ["voice_weight=1", "count_weight=1", "optimizer.front_end_share=0.25"]
    config = load_config(TrainingConfig, [TINY], [*settings, "optimizer.learning_rate=0.008"])
    module = DiarizationModule(config, ["ann", "ben"])
    parts = module.configure_optimizers()
    rates = {id(p): g["initial_lr"] for g in parts["optimizer"].param_groups for p in g["params"]}
    for name, parameter in module.named_parameters():
        ahead = name.startswith(("diarizer.front_end.", "voices."))
        assert rates[id(parameter)] == (0.002 if ahead else 0.008), name


def test_the_mean_of_layers_moves_as_fast_as_the_encoder() -> None:
    sizes = {"width": 32, "num_layers": 2, "num_heads": 2, "inner": 32, "channels": 8}
    settings = ["diarizer.front_end._target_=diarize.frontend.ssl.Ssl"]
    settings += [f"diarizer.front_end.{name}={size}" for name, size in sizes.items()]
    settings += ["optimizer.front_end_share=0.02", "optimizer.learning_rate=1"]
    config = load_config(TrainingConfig, [], settings)
    module = DiarizationModule(config)
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    front_end = module.diarizer.front_end
    assert rates[id(front_end.layer_weights)] == rates[id(front_end.norm.weight)] == 1.0
    assert {rates[id(parameter)] for parameter in front_end.model.parameters()} == {0.02}


def test_learning_rate_rises_and_falls() -> None:
    def drawn(schedule: str) -> list[float]:
        config = OptimizerConfig(warmup_steps=4, schedule=schedule)
        return [learning_rate_factor(step, config, 24) for step in range(25)]

    cosine, root = drawn("cosine"), drawn("inverse_sqrt")
    assert cosine[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert root[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert cosine[14] == pytest.approx((1 + 0.01) / 2)  # half way from the peak to the end
    assert cosine[24] == pytest.approx(0.01)
    assert root[19] == pytest.approx(0.5)  # sqrt(5 / 20)
    for rates in (cosine, root):
        assert all(late < early for early, late in zip(rates[4:], rates[5:], strict=False))
    still = OptimizerConfig(warmup_steps=0)
    assert learning_rate_factor(0, still, 10) == 1.0
    assert learning_rate_factor(99, still, 10) == pytest.approx(0.01)
    high = OptimizerConfig(warmup_steps=0, lowest_share=0.25)
    assert learning_rate_factor(99, high, 10) == pytest.approx(0.25)
    low = replace(high, schedule="inverse_sqrt")
    assert [learning_rate_factor(step, low, 10) for step in (3, 15, 99)] == [0.5, 0.25, 0.25]


# Peak, warm-up and lowest rate that NVIDIA NeMo publishes with each recipe.
PUBLISHED = {
    "sortformer_v1": (1e-4, 2500, 1e-6),
    "sortformer_v2": (1e-4, 500, 1e-6),
    "nemotron3_streaming": (1e-4, 2000, 1e-6),
}


@pytest.mark.parametrize("recipe", PUBLISHED)
@pytest.mark.parametrize("step", [0, 7, 499, 500, 501, 2499, 2500, 19_999, 10**8])
def test_rates_of_recipes_with_an_inverse_root_are_the_published(
    root: Path, recipe: str, step: int
) -> None:
    peak, warmup, lowest = PUBLISHED[recipe]
    config = load_config(TrainingConfig, [root / "conf" / f"{recipe}.yaml"]).optimizer
    published = peak * (step + 1) / (warmup + 1)
    if step > warmup:
        published = max(peak / math.sqrt((step + 1) / (warmup + 1)), lowest)
    assert config.learning_rate * learning_rate_factor(step, config, 10**8) == pytest.approx(
        published, rel=1e-9
    )


@pytest.mark.parametrize("step", [2500, 2501, 11_250, 20_000])
def test_rates_of_nemotron_offline_are_the_published(root: Path, step: int) -> None:
    config = load_config(TrainingConfig, [root / "conf" / "nemotron3_offline.yaml"]).optimizer
    falling = 0.5 * (1 + math.cos(math.pi * (step - 2500) / (20_000 - 2500)))
    rate = config.learning_rate * learning_rate_factor(step, config, 20_000)
    assert rate == pytest.approx((4e-4 - 1e-6) * falling + 1e-6, rel=1e-9)


def rates(*settings: str) -> dict[str, float]:
    """Of each parameter."""
    module = DiarizationModule(load_config(TrainingConfig, [TINY], [*settings]))
    groups = module.configure_optimizers()["optimizer"].param_groups
    found = {id(p): group["initial_lr"] for group in groups for p in group["params"]}
    return {name: found[id(p)] for name, p in module.named_parameters() if id(p) in found}


def test_lower_layers_move_more_slowly() -> None:
    found = rates("optimizer.layer_decay=0.5", "optimizer.learning_rate=1.0", *LAYERWISE)
    drawn = {
        "head.output.weight": 1,
        "head.hidden.bias": 1,
        "encoder.norm.weight": 1,
        "encoder.heads.1.1.weight": 1,
        "encoder.layers.2.query.weight": 1 / 2,
        "encoder.layers.1.query.bias": 1 / 4,
        "encoder.layers.0.norm_attention.weight": 1 / 8,
        "front_end.layers.1.attention.query.weight": 1 / 16,
        "front_end.layers.0.norm_first.weight": 1 / 32,
        "front_end.subsampling.first.weight": 1 / 64,
    }
    assert {name: found[f"diarizer.{name}"] for name in drawn} == drawn
    assert set(found.values()) == set(drawn.values())


def test_layers_of_published_front_ends_are_counted() -> None:
    wavlm = {"_target_": "diarize.frontend.ssl.Ssl", "width": 16, "num_layers": 3, "num_heads": 2}
    wavlm |= {"inner": 32, "channels": 8}
    more = [f"diarizer.front_end.{name}={value}" for name, value in wavlm.items()]
    base = ["diarizer.encoder.width=64", "diarizer.encoder.num_layers=1"]
    config = load_config(TrainingConfig, overrides=[*base, *more, "optimizer.layer_decay=0.5"])
    with torch.device("meta"):
        module = DiarizationModule(config)
    heights = layers_above(module)
    inside = "diarizer.front_end.model.encoder.transformer.layers"
    found = [heights[f"{inside}.{n}.layer_norm.weight"] for n in (2, 1, 0)]
    assert found == [2, 3, 4]
    assert heights["diarizer.front_end.layer_weights"] == 1
    assert heights["diarizer.front_end.model.feature_extractor.conv_layers.0.conv.weight"] == 5


def test_frozen_front_end_stays_as_it_is(a_session: Callable) -> None:
    settings = ["optimizer.front_end_share=0", "diarizer.front_end.conv_norm=batch_norm"]
    settings += ["diarizer.front_end.dropout=0.5", "diarizer.front_end.mel.dither=0.1"]
    module = DiarizationModule(load_config(TrainingConfig, [TINY], settings))
    assert module.training and not module.diarizer.front_end.training
    module.eval()
    module.train()
    batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(2, 3.2))])
    before = {n: t.clone() for n, t in module.diarizer.front_end.state_dict().items()}
    embedding, *_ = module._embed(batch)
    assert not embedding.requires_grad  # no way back is kept, which is what costs
    assert torch.equal(embedding, module._embed(batch)[0])
    optimizer = module.configure_optimizers()["optimizer"]
    module._step(batch)[0].backward()
    optimizer.step()
    for name, tensor in module.diarizer.front_end.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is not None for p in module.diarizer.head.parameters())


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("voice_weight=0.1", "voice_weight is above 0"),
        ("count_weight=0.1", "count_weight is above 0"),
    ],
)
def test_frozen_front_end_is_not_taught(setting: str, reason: str) -> None:
    settings = ["optimizer.front_end_share=0", setting]
    with pytest.raises(ConfigError, match=f"front_end_share is 0, but {reason}, for the front"):
        load_config(TrainingConfig, [TINY], settings)


def test_new_slots_have_a_rate_of_their_own() -> None:
    config = load_config(TrainingConfig, [TINY], ["optimizer.new_slots_share=10", *LAYERWISE])
    module = DiarizationModule(config)
    module.known_slots = 3
    groups = module.configure_optimizers()["optimizer"].param_groups
    names = {id(p): name.removeprefix("diarizer.") for name, p in module.named_parameters()}
    apart = [group for group in groups if "known_rows" in group]
    assert {names[id(p)] for group in apart for p in group["params"]} == {
        "head.output.weight",
        "head.output.bias",
        *(f"encoder.heads.{n}.1.{part}" for n in (0, 1) for part in ("weight", "bias")),
    }
    for group in apart:
        assert (group["known_rows"], group["known_share"]) == (3, 0.1)
        assert group["initial_lr"] == pytest.approx(1e-2)
    with pytest.raises(
        ConfigError, match=r"new_slots_share is 10, but trainer\.strategy is 'fsdp'"
    ):
        settings = ["optimizer.new_slots_share=10", "trainer.strategy=fsdp"]
        load_config(TrainingConfig, [TINY], settings)
