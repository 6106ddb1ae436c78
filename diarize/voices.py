"""Telling voices apart: an auxiliary task that teaches a front end what makes a speaker.

B batch, T frames, D embedding width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class VoiceLoss(nn.Module):
    """Additive angular margin softmax over training speakers, frame by frame.

    Each frame in which one speaker talks alone is classified among all training speakers;
    the class weights serve training only and are thrown away after it.

    Deng et al. 2019, "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", eq. 3.

    Args:
        embedding_dim: D of the front end.
        num_voices: training speakers; another playing speed is another speaker.
        scale: inverse temperature s of the logits.
        margin: angle m added to the true class, radians.
    """

    def __init__(
        self, embedding_dim: int, num_voices: int, scale: float = 30.0, margin: float = 0.2
    ) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        self.weight = nn.Parameter(torch.empty(num_voices, embedding_dim))
        nn.init.xavier_normal_(self.weight)

    def forward(self, embedding: Tensor, voice: Tensor) -> Tensor:
        """Mean cross-entropy over the frames of lone speakers.

        Args:
            embedding: (B, T, D).
            voice: (B, T), class of the lone speaker, -1 where none talks or several do.

        Returns:
            A scalar in float32, 0 where no frame counts.
        """
        alone = voice >= 0
        if not bool(alone.any()):
            return embedding.sum() * 0.0
        with torch.autocast(embedding.device.type, enabled=False):
            frames = functional.normalize(embedding[alone].float(), dim=-1)
            cosine = frames @ functional.normalize(self.weight.float(), dim=-1).T
            true = voice[alone]
            target = cosine.gather(1, true[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
            shifted = torch.cos(torch.acos(target) + self.margin)
            logits = self.scale * cosine.scatter(1, true[:, None], shifted)
            return functional.cross_entropy(logits, true)
