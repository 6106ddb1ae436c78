"""The optimizer: which weights move how fast, and the learning rate over the steps."""

import pytest
from runs import TINY

from diarize.config import load_config
from diarize.module import DiarizationModule, TrainingConfig
from diarize.optimizer import OptimizerConfig, learning_rate_factor

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
    settings = ["voice_weight=1", "count_weight=1", "optimizer.algorithm=muon", *LAYERWISE]
    module = DiarizationModule(load_config(TrainingConfig, [TINY], settings), ["ann", "ben"])
    optimizer = module.configure_optimizers()["optimizer"]
    groups = optimizer.param_groups
    turned = {id(p) for group in groups if group["orthogonal"] for p in group["params"]}
    names = {name for name, p in module.named_parameters() if id(p) in turned}
    assert "diarizer.encoder.layers.0.query.weight" in names
    assert "diarizer.front_end.layers.0.feed_forward_first.expand.weight" in names
    outputs = ["diarizer.head.output.weight", "count.weight", "voices.weight"]
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


def test_learning_rate_rises_and_falls() -> None:
    def drawn(schedule: str) -> list[float]:
        config = OptimizerConfig(warmup_steps=4, schedule=schedule)
        return [learning_rate_factor(step, config, 24) for step in range(25)]

    cosine, root = drawn("cosine"), drawn("inverse_sqrt")
    assert cosine[:5] == root[:4] + [1.0] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine[14] == pytest.approx((1 + 0.01) / 2)  # half way from the peak to the end
    assert cosine[24] == pytest.approx(0.01)
    assert root[15] == pytest.approx(0.5)  # sqrt(4 / 16)
    for rates in (cosine, root):
        assert all(late < early for early, late in zip(rates[4:], rates[5:], strict=False))
    still = OptimizerConfig(warmup_steps=0)
    assert learning_rate_factor(0, still, 10) == 1.0
    assert learning_rate_factor(99, still, 10) == pytest.approx(0.01)
