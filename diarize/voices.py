"""Telling voices apart: an auxiliary task that teaches a front end what makes a speaker.

B batch, T frames, D embedding width.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.config import check_least, check_ramp, risen
from diarize.errors import ConfigError


@dataclass
class VoiceConfig:
    """Settings of `VoiceLoss`."""

    scale: float = 20.0
    """Inverse temperature of the logits. Published speaker embedders have 30 or so."""
    margin: float = 0.0
    """Angle, in radians, by which a voice must be nearer to its own class than to all others; 0
    learns fastest from scratch. Published speaker embedders end with 0.2."""
    margin_ramp: list[int] = field(default_factory=lambda: [0, 0])
    """Steps until which the margin is 0, and from which on it is whole; it rises evenly in between.
    From scratch, a margin asks for more than is known."""

    def __post_init__(self) -> None:
        check_least(self, margin=0)
        check_ramp("margin_ramp", self.margin_ramp)
        if self.scale <= 0:
            raise ConfigError(
                f"scale is {self.scale:g}, but logits of 0 tell nothing. Raise it; 20 is usual."
            )
        if self.margin >= math.pi / 2:
            raise ConfigError(
                f"margin is {self.margin:g}, but it is in radians, below a right angle, "
                f"{math.pi / 2:.2f}. 0.2 is usual."
            )


class VoiceLoss(nn.Module):
    """Additive angular margin softmax over training speakers.

    A voice is the mean embedding of the frames in which its speaker talks alone in one session;
    it is classified among all training speakers. The class weights serve training only and are
    thrown away after it. What all voices of a batch share cannot tell them apart, so it is taken
    away before and its mean square is added to the loss: else an embedding could be a large
    constant with its voices as a ripple on it, in which nothing built on it finds them.

    Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", eq. 3.

    Args:
        embedding_dim: D of the front end.
        num_voices: training speakers; another playing speed is another speaker.
        config: settings; scale is the equation's s, margin its m.
    """

    def __init__(self, embedding_dim: int, num_voices: int, config: VoiceConfig) -> None:
        super().__init__()
        self.config = config
        # What all voices share would otherwise fill the angle between any two of them.
        self.center = nn.BatchNorm1d(embedding_dim, affine=False)
        self.weight = nn.Parameter(torch.empty(num_voices, embedding_dim))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embedding: Tensor, voice: Tensor, step: int = 0) -> Tensor:
        """Mean cross-entropy over the voices of a batch.

        Args:
            embedding: (B, T, D).
            voice: (B, T), class of the lone speaker, -1 where none talks or several do.
            step: of the run, which decides how much of the margin there is.

        Returns:
            A scalar in float32; 0 where fewer than two voices are heard alone, since what they
            share cannot be told from what tells them apart.
        """
        margin = self.config.margin * float(risen(self.config.margin_ramp, step))
        rows, frames = torch.nonzero(voice >= 0, as_tuple=True)
        labels = rows * len(self.weight) + voice[rows, frames]
        groups, member = torch.unique(labels, return_inverse=True)
        if len(groups) < 2:
            # Tied to all that is trained, so that every process of several has every gradient.
            return (embedding.float().sum() + self.weight.sum()) * 0.0
        with torch.autocast(embedding.device.type, enabled=False):
            total = embedding.new_zeros(len(groups), embedding.shape[2], dtype=torch.float32)
            total = total.index_add(0, member, embedding[rows, frames].float())
            mean = total / torch.bincount(member)[:, None]
            voices = functional.normalize(self.center(mean), dim=-1)
            cosine = voices @ functional.normalize(self.weight.float(), dim=-1).T
            true = (groups % len(self.weight))[:, None]
            target = cosine.gather(1, true).clamp(-1 + 1e-6, 1 - 1e-6)
            shifted = torch.cos(torch.acos(target) + margin)
            shared = mean.mean(dim=0).square().mean()
            return shared + functional.cross_entropy(
                self.config.scale * cosine.scatter(1, true, shifted), true[:, 0]
            )
