"""Telling voices apart: an auxiliary task that teaches a front end what makes a speaker.

B batch, T frames, D embedding width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


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
        scale: inverse temperature s of the logits.
        margin: angle m added to the true class, radians; 0 learns fastest from scratch.
    """

    def __init__(
        self, embedding_dim: int, num_voices: int, scale: float = 20.0, margin: float = 0.0
    ) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        # What all voices share would otherwise fill the angle between any two of them.
        self.center = nn.BatchNorm1d(embedding_dim, affine=False)
        self.weight = nn.Parameter(torch.empty(num_voices, embedding_dim))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embedding: Tensor, voice: Tensor) -> Tensor:
        """Mean cross-entropy over the voices of a batch.

        Args:
            embedding: (B, T, D).
            voice: (B, T), class of the lone speaker, -1 where none talks or several do.

        Returns:
            A scalar in float32; 0 where fewer than two voices are heard alone, since what they
            share cannot be told from what tells them apart.
        """
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
            shifted = torch.cos(torch.acos(target) + self.margin)
            shared = mean.mean(dim=0).square().mean()
            return shared + functional.cross_entropy(
                self.scale * cosine.scatter(1, true, shifted), true[:, 0]
            )
