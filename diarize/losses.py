"""Losses that teach a network both who speaks and in which order slots are filled.

Park et al., "Sortformer", arXiv:2409.06656: the sort loss asks for speakers in arrival order,
the permutation-invariant loss for the best-fitting order, and training blends the two. Which
column belongs to which slot is decided by assignment, never by listing all orders.

B batch, T frames, S speakers and as many slots.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from diarize.attention import MASKED
from diarize.config import check_choice, check_least, check_shares
from diarize.errors import ConfigError

ACTIVE = 0.5
"""Activity from which a frame counts as spoken in."""

MATCHES = ("agreement", "bce")


@dataclass
class LossConfig:
    """Settings of `diarization_loss`."""

    sort_weight: float = 0.5
    """Weight of the sort loss; the two weights are scaled to sum to 1."""
    permutation_invariant_weight: float = 0.5
    """Weight of the permutation-invariant loss."""
    match: str = "agreement"
    """What the permutation-invariant loss maximises to match columns: ``agreement``, the sum
    of activity times posterior, as published; ``bce``, the likelihood."""
    sort_tolerance_frames: int = 0
    """Speakers whose arrivals lie no farther apart count as arrived together."""
    phantom_weight: float = 0.0
    """Weight of the loss on slots that answer for a speaker who is not there, see `phantom_loss`;
    the blend of the other two has weight 1."""
    phantom_threshold: float = 0.25
    """Posterior above which a frame of such a slot costs anything."""
    phantom_temperature: float = 0.5
    """Towards 0 a slot's worst frame alone counts, towards infinity all alike."""
    layer_weights: list[float] = field(default_factory=lambda: [1.0])
    """Weights of the same loss on what layers of the encoder estimate on the way, from the first
    on, the output's being 1; the last holds for all beyond. Most encoders estimate nothing."""

    def __post_init__(self) -> None:
        check_least(self, sort_weight=0, permutation_invariant_weight=0)
        check_least(self, sort_tolerance_frames=0, phantom_weight=0)
        check_shares(self, "phantom_threshold")
        if not self.phantom_temperature > 0:
            raise ConfigError(
                f"phantom_temperature is {self.phantom_temperature:g}, but losses of frames are "
                "divided by it. Give a number above 0."
            )
        if self.sort_weight == self.permutation_invariant_weight == 0:
            raise ConfigError(
                "sort_weight is 0 and permutation_invariant_weight is 0, but training needs one. "
                "Raise one."
            )
        check_choice("match", self.match, MATCHES)
        if not self.layer_weights or min(self.layer_weights) < 0:
            raise ConfigError(
                f"layer_weights is {list(self.layer_weights)}, but it has 1 or more, none below 0. "
                "Write [0] to supervise the output alone."
            )


def diarization_loss(
    logits: Tensor, activity: Tensor, num_frames: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """The blend of both losses, and each by name (arXiv:2409.06656, eq. 8).

    Where it has a weight, the loss on phantoms is added; its targets are what either order says.

    Args:
        logits: (B, T, S), before the sigmoid.
        activity: (B, T, S), 0 to 1.
        num_frames: (B,), frames before padding.
        config: weights and matching.
    """
    return _blend(logits, *_targets(logits, activity, num_frames, config), num_frames, config)


def _targets(
    logits: Tensor, activity: Tensor, num_frames: Tensor, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """The activity in order of arrival, and in the order that fits best, (B, T, S) each."""
    sort = sort_order(logits, activity, num_frames, config.sort_tolerance_frames)
    best = best_order(logits, activity, num_frames, config.match)
    return _reordered(activity, sort), _reordered(activity, best)


def _blend(
    logits: Tensor, in_order: Tensor, best: Tensor, num_frames: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """`diarization_loss` by its targets."""
    parts = {
        "sort_loss": _cross_entropy(logits, in_order, num_frames),
        "permutation_invariant_loss": _cross_entropy(logits, best, num_frames),
    }
    total = config.sort_weight + config.permutation_invariant_weight
    loss = (
        config.sort_weight * parts["sort_loss"]
        + config.permutation_invariant_weight * parts["permutation_invariant_loss"]
    ) / total
    if config.phantom_weight:
        parts["phantom_loss"] = phantom_loss(
            logits,
            torch.maximum(in_order, best),
            num_frames,
            config.phantom_threshold,
            config.phantom_temperature,
        )
        loss = loss + config.phantom_weight * parts["phantom_loss"]
    return loss, parts


def layer_loss(
    layers: Sequence[Tensor], activity: Tensor, num_frames: Tensor, config: LossConfig
) -> Tensor:
    """`diarization_loss` of layers' own estimates, weighted and summed.

    Deep supervision, Lee et al., arXiv:1409.5185.

    Args:
        layers: logits (B, T, S) of each, at least one.
        activity: (B, T, S), 0 to 1.
        num_frames: (B,), frames before padding.
        config: weights of layers and losses, and matching.
    """
    weights, last = config.layer_weights, len(config.layer_weights) - 1
    number = len(layers)
    # Slots are matched for all layers at once: an accelerator is waited for once, not by layer.
    targets = _targets(
        torch.cat(list(layers)), activity.repeat(number, 1, 1), num_frames.repeat(number), config
    )
    of_layers = zip(layers, *(each.chunk(number) for each in targets), strict=True)
    losses = [
        weights[min(index, last)] * _blend(logits, in_order, best, num_frames, config)[0]
        for index, (logits, in_order, best) in enumerate(of_layers)
    ]
    return torch.stack(losses).sum()


def sort_loss(
    logits: Tensor, activity: Tensor, num_frames: Tensor, tolerance_frames: int = 0
) -> Tensor:
    """Binary cross-entropy to the activity in arrival order.

    Args:
        logits: (B, T, S), before the sigmoid.
        activity: (B, T, S), 0 to 1; speakers in any order.
        num_frames: (B,), frames before padding.
        tolerance_frames: see `LossConfig.sort_tolerance_frames`.

    Returns:
        Mean over valid frames and slots, a scalar.

    Raises:
        ValueError: if the shapes differ.
    """
    order = sort_order(logits, activity, num_frames, tolerance_frames)
    return _cross_entropy(logits, _reordered(activity, order), num_frames)


def permutation_invariant_loss(
    logits: Tensor, activity: Tensor, num_frames: Tensor, match: str = "agreement"
) -> Tensor:
    """Binary cross-entropy to the speaker order that fits best.

    Args:
        logits: (B, T, S), before the sigmoid.
        activity: (B, T, S), 0 to 1; speakers in any order.
        num_frames: (B,), frames before padding.
        match: see `LossConfig.match`.

    Returns:
        Mean over valid frames and slots, a scalar.

    Raises:
        ValueError: if the shapes differ.
        ConfigError: if ``match`` is unknown.
    """
    order = best_order(logits, activity, num_frames, match)
    return _cross_entropy(logits, _reordered(activity, order), num_frames)


def attention_loss(scores: Tensor, activity: Tensor, num_frames: Tensor) -> Tensor:
    """How far attention is from looking evenly at all that a frame's own speakers say alone.

    Kullback-Leibler divergence of the attention from even weights on the frames in which a lone
    speaker talks who also talks in the attending frame; only frames of lone speakers are looked
    at. A head that learns this compares voices, all over the session (after Jeoung et al.,
    arXiv:2303.01192, who teach heads where speech and overlap are).

    Args:
        scores: (B, H, T, T), of row attending to column, before the softmax.
        activity: (B, T, S), 0 to 1.
        num_frames: (B,), frames before padding.

    Returns:
        Mean over heads and the frames in which such speakers talk, a scalar; 0 where none does.
    """
    with torch.autocast(scores.device.type, enabled=False):
        active = ((activity >= ACTIVE) & _valid(activity, num_frames)).float()
        alone = active.sum(dim=2) == 1  # (B, T)
        own = active @ (active * alone[:, :, None]).transpose(1, 2) > 0  # (B, T, T)
        size = own.sum(dim=2).float()
        weights = scores.float().masked_fill(~alone[:, None, None, :], MASKED).log_softmax(dim=3)
        surprise = torch.where(own[:, None], -weights, 0.0).sum(dim=3)  # (B, H, T)
        size = size[:, None]
        divergence = surprise / size.clamp(min=1) - size.clamp(min=1).log()
        talking = (size > 0).float()
        return (divergence * talking).sum() / (talking.sum() * scores.shape[1]).clamp(min=1)


def count_loss(logits: Tensor, activity: Tensor, num_frames: Tensor) -> Tensor:
    """Cross-entropy of telling frames of silence, of one speaker and of several apart.

    Args:
        logits: (B, T, 3), before the softmax.
        activity: (B, T, S), 0 to 1.
        num_frames: (B,), frames before padding.

    Returns:
        Mean over valid frames, a scalar; 0 where there are none.
    """
    with torch.autocast(logits.device.type, enabled=False):
        count = (activity > ACTIVE).sum(dim=2).clamp(max=2)
        valid = _valid(activity, num_frames).squeeze(2)
        entropy = functional.cross_entropy(logits.float().transpose(1, 2), count, reduction="none")
        return torch.where(valid, entropy, 0.0).sum() / valid.sum().clamp(min=1)


def phantom_loss(
    logits: Tensor, target: Tensor, num_frames: Tensor, threshold: float, temperature: float
) -> Tensor:
    """What slots cost that answer for a speaker who is not there, mostly by their worst frames.

    Of a slot whose target is silent all along, the frames with a posterior above a threshold have
    binary cross-entropies e, n of them; it costs ``temperature * (logsumexp(e / temperature) -
    ln n)``, and where there are none, nothing. Which frames those are has no gradient.

    Args:
        logits: (B, T, S), before the sigmoid.
        target: (B, T, S), 0 to 1, columns in the order of the slots.
        num_frames: (B,), frames before padding.
        threshold: see `LossConfig.phantom_threshold`.
        temperature: see `LossConfig.phantom_temperature`.

    Returns:
        Mean over items and slots, a scalar.
    """
    with torch.autocast(logits.device.type, enabled=False):
        valid = _valid(target, num_frames)
        logits = torch.where(valid, logits.float(), 0.0)
        silent = ~((target > ACTIVE) & valid).any(dim=1, keepdim=True)
        chosen = valid & silent & (logits.detach().sigmoid() > threshold)  # (B, T, S)
        count = chosen.sum(dim=1)
        # Not -inf: where nothing is chosen, its logsumexp would have a gradient that is no number.
        scaled = torch.where(chosen, functional.softplus(logits) / temperature, MASKED)
        cost = temperature * (scaled.logsumexp(dim=1) - count.clamp(min=1).log())
        return torch.where(count > 0, cost, 0.0).mean()


@torch.no_grad()
def sort_order(
    logits: Tensor, activity: Tensor, num_frames: Tensor, tolerance_frames: int = 0
) -> Tensor:
    """The speaker of each slot when speakers stand in arrival order, (B, S).

    A speaker arrives in the first frame whose activity is at least 0.5; who never does comes
    last. The n-th slot may go to anyone who arrives together with the n-th, as silent speakers
    do with one another; of the orders that this leaves, the one that agrees most with the
    posterior is taken.
    """
    active = (activity >= ACTIVE) & _valid(activity, num_frames)
    never = num_frames.to(activity.device)[:, None]
    arrival = torch.where(active.any(1), active.int().argmax(1), never)  # (B, S)
    apart = (arrival[:, :, None] - arrival.sort(dim=1).values[:, None, :]).abs()
    gains = _gains(logits, activity, num_frames, "agreement")
    return _assign(torch.where(apart <= tolerance_frames, gains, -math.inf))


@torch.no_grad()
def best_order(
    logits: Tensor, activity: Tensor, num_frames: Tensor, match: str = "agreement"
) -> Tensor:
    """The speaker of each slot in the order that fits the logits best, (B, S)."""
    return _assign(_gains(logits, activity, num_frames, match))


def _gains(logits: Tensor, activity: Tensor, num_frames: Tensor, match: str) -> Tensor:
    """What giving slot k to speaker s gains, (B, speaker, slot).

    With ``bce`` it is the sum of activity times logit: the cross-entropy of a column is
    sum(softplus(logit)) less that, and the first term does not depend on the speaker. With
    ``agreement``, as published, columns that are never more than half active gain nothing: soft
    ones would else take a slot from speakers who are there.
    """
    if logits.shape != activity.shape:
        raise ValueError(
            f"losses: logits have shape {tuple(logits.shape)}, but activity has "
            f"{tuple(activity.shape)}. Give as many frames and speakers as slots."
        )
    check_choice("match", match, MATCHES)
    with torch.autocast(logits.device.type, enabled=False):
        fit = logits.float().sigmoid() if match == "agreement" else logits.float()
        valid = _valid(activity, num_frames)
        fit = torch.where(valid, fit, 0.0)
        # What is no number gains nothing: the loss, not this, tells of divergence.
        gains = (activity.float().transpose(1, 2) @ fit).nan_to_num()
        if match == "agreement":
            heard = ((activity > ACTIVE) & valid).any(dim=1)
            gains = torch.where(heard[:, :, None], gains, 0.0)
        return gains


def _assign(gains: Tensor) -> Tensor:
    """The row of each column in the assignment with the largest sum, (B, S) of (B, S, S)."""
    orders = np.empty(gains.shape[:2], dtype=np.int64)
    for order, gain in zip(orders, gains.cpu().numpy(), strict=True):
        rows, columns = linear_sum_assignment(gain, maximize=True)
        order[columns] = rows
    return torch.as_tensor(orders, device=gains.device)


def _reordered(activity: Tensor, order: Tensor) -> Tensor:
    """(B, T, S) with columns taken in ``order`` (B, S)."""
    return activity.gather(2, order[:, None, :].expand_as(activity))


def _valid(activity: Tensor, num_frames: Tensor) -> Tensor:
    """(B, T, 1), True before padding."""
    frames = torch.arange(activity.shape[1], device=activity.device)
    return (frames < num_frames.to(activity.device)[:, None]).unsqueeze(-1)


def _cross_entropy(logits: Tensor, target: Tensor, num_frames: Tensor) -> Tensor:
    """Mean over the valid frames of all items and over slots; 0 where there are none."""
    with torch.autocast(logits.device.type, enabled=False):
        valid = _valid(target, num_frames)
        entropy = functional.binary_cross_entropy_with_logits(
            torch.where(valid, logits.float(), 0.0), target.float(), reduction="none"
        )
        total = torch.where(valid, entropy, 0.0).sum()
        return total / (valid.sum() * logits.shape[2]).clamp(min=1)
