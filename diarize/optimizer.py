"""The optimizer of a run: which weights move how fast, and the learning rate over the steps."""

import math
import re
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from diarize.config import check_choice, check_least, check_shares
from diarize.errors import ConfigError
from diarize.muon import Muon
from diarize.slots import ROWS

ALGORITHMS = ("adamw", "muon")
SCHEDULES = ("cosine", "inverse_sqrt")

LAYER = re.compile(r"diarizer\.(front_end|encoder)\.(?:.+\.)?layers\.(\d+)\.")

BETWEEN = (
    "diarizer.front_end.layer_weights",
    "diarizer.front_end.norm.",
    "diarizer.projection.",
    "diarizer.encoder.norm_input.",
)
"""Parts above the layers of the front end and below those of the encoder."""

BEGUN = ("diarizer.front_end.", "voices.")
"""Parts that may begin ahead of the others, but for those above their layers."""

ANSWERS = ("diarizer.head.output", "diarizer.encoder.heads.", "masked.", "count", "activity.")
"""Linear maps whose outputs are answers, not features of a layer above."""


@dataclass
class OptimizerConfig:
    """AdamW or Muon, and the learning rate over the steps."""

    algorithm: str = "adamw"
    """``adamw``, or ``muon`` for the matrices of hidden layers, which learn in fewer steps."""
    learning_rate: float = 1e-3
    """Peak, reached at the end of the warm-up."""
    front_end_share: float = 1.0
    """Share of it for the front end and the voices, where they begin ahead of the encoder. 0
    freezes the front end, dropout and running statistics included, and spares its backward pass."""
    layer_decay: float = 1.0
    """Rate of a layer over that of the layer above it, from the head down to the subsampling: below
    1, what a trained model knows of sounds changes less than what it makes of them."""
    new_slots_share: float = 1.0
    """Rate of the outputs of slots that the checkpoint of ``init`` did not have, over that of all
    else. Published (Ultra-Sortformer): learning_rate 1e-5 and a share of 10."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    """Decay rates of AdamW's moments."""
    weight_decay: float = 1e-3
    """Decoupled decay of matrices; biases, norms and other vectors have none."""
    warmup_steps: int = 500
    """Steps of linear rise."""
    schedule: str = "cosine"
    """"cosine" falls until the last step, "inverse_sqrt" with the root of the step."""
    lowest_share: float = 0.01
    """Share of the peak that "cosine" ends at, and below which "inverse_sqrt" never falls."""

    def __post_init__(self) -> None:
        check_least(self, learning_rate=0, front_end_share=0, weight_decay=0, warmup_steps=0)
        check_least(self, new_slots_share=1)
        check_shares(self, "layer_decay", "lowest_share")
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("schedule", self.schedule, SCHEDULES)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas is {list(self.betas)}, but AdamW has 2, each from 0 to below 1. "
                "Write [0.9, 0.98]."
            )


def make_optimizer(
    model: nn.Module, config: OptimizerConfig, max_steps: int, known_slots: int = 0
) -> tuple[Muon, LambdaLR]:
    """AdamW or Muon; matrices decay, vectors do not.

    Args:
        model: what is trained; parts are told by their names in it.
        config: settings.
        max_steps: of the run.
        known_slots: those that were learned before; the others are new.

    Returns:
        The optimizer, and the schedule that is to be told of every step.
    """
    hidden = hidden_matrices(model) if config.algorithm == "muon" else set()
    heights = layers_above(model)
    groups: dict[tuple[bool, int, bool, bool, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            height = heights[name] if config.layer_decay < 1 else 0
            slots = ROWS.match(name.removeprefix("diarizer.")) is not None
            has_new = slots and config.new_slots_share > 1
            ahead = name.startswith(BEGUN) and not name.startswith(BETWEEN)
            kind = ahead, height, parameter.ndim > 1, name in hidden, has_new
            groups.setdefault(kind, []).append(parameter)
    described: list[dict[str, Any]] = []
    for (ahead, height, matrices, orthogonal, has_new), parameters in groups.items():
        rate = config.learning_rate * (config.front_end_share if ahead else 1.0)
        group = {
            "params": parameters,
            "lr": rate * config.layer_decay**height,
            "weight_decay": config.weight_decay if matrices else 0.0,
            "orthogonal": orthogonal,
        }
        if has_new:
            group["lr"] = rate * config.new_slots_share
            group |= {"known_rows": known_slots, "known_share": 1 / config.new_slots_share}
        described.append(group)
    optimizer = Muon(described, (config.betas[0], config.betas[1]))
    return optimizer, LambdaLR(
        optimizer, lambda step: learning_rate_factor(step, config, max_steps)
    )


def layers_above(model: nn.Module) -> dict[str, int]:
    """Of each parameter's name, how many layers stand above it on the way to the head."""
    names = [name for name, _ in model.named_parameters()]
    places = {name: match for name in names if (match := LAYER.match(name))}
    count = {
        part: 1 + max((int(m[2]) for m in places.values() if m[1] == part), default=-1)
        for part in ("front_end", "encoder")
    }
    above = {"front_end": count["encoder"], "encoder": 0}
    found = {}
    for name in names:
        if match := places.get(name):
            found[name] = above[match[1]] + count[match[1]] - int(match[2])
        elif name.startswith(BETWEEN):
            found[name] = count["encoder"]
        elif name.startswith("diarizer.front_end."):  # subsampling
            found[name] = count["encoder"] + count["front_end"] + 1
        else:
            found[name] = 0
    return found


def hidden_matrices(model: nn.Module) -> set[str]:
    """Names of the weights of linear maps, but for those whose outputs are answers."""
    return {
        f"{name}.weight"
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and not name.startswith(ANSWERS)
    }


def learning_rate_factor(step: int, config: OptimizerConfig, max_steps: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then the schedule."""
    if config.schedule == "inverse_sqrt":
        # As Sortformer was trained: NeMo's InverseSquareRootAnnealing has its peak at step W.
        place = (step + 1) / (config.warmup_steps + 1)
        return place if place <= 1 else max(place**-0.5, config.lowest_share)
    warmup = max(config.warmup_steps, 1)
    if step < warmup:
        return (step + 1) / warmup
    progress = min((step - warmup) / max(max_steps - warmup, 1), 1.0)
    falling = 0.5 * (1 + math.cos(math.pi * progress))
    return config.lowest_share + (1 - config.lowest_share) * falling
