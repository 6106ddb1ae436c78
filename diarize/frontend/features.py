"""Features that were computed elsewhere: one row is one frame.

The front end of sequences that are not speech, and of speech through another network.

B batch, T frames, D width of a row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diarize.config import check_choice, check_least
from diarize.errors import ConfigError
from diarize.frames import FrameGrid
from diarize.recording import Kind

STEADY = 1e-5
"""Deviation over mean up to which a number is constant, its differences being rounding."""


@dataclass
class FeaturesConfig:
    """Settings of `Features`; two have no default, for the features alone know them."""

    dim: int
    """Numbers in a row."""
    frame_shift: float
    """Seconds per row."""
    normalization: str = "none"
    """``per_feature``: zero mean and unit deviation of each number over an item, as
    `LogMelConfig` has it, and zero where it is constant; ``none``."""

    def __post_init__(self) -> None:
        check_least(self, dim=1)
        check_choice("normalization", self.normalization, ("per_feature", "none"))
        try:
            FrameGrid.of_shift(self.frame_shift)
        except ValueError as error:
            raise ConfigError(str(error)) from None


class Features(nn.Module):
    """Rows of features as embeddings, with nothing to learn; the model's projection does."""

    config: FeaturesConfig

    def __init__(self, config: FeaturesConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def hears(self) -> Kind:
        """What it is given."""
        return Kind.of_features(self.config.dim, self.config.frame_shift)

    @property
    def grid(self) -> FrameGrid:
        """The clock of the embeddings."""
        return self.hears.grid

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return self.config.dim

    def forward(self, signal: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of a batch.

        Args:
            signal: (B, T, D).
            num_samples: (B,), virtual samples before padding, ``grid.hop`` a row.

        Returns:
            Embeddings (B, T, D), zero beyond an item's frames, and the numbers of frames before
            padding, (B,).
        """
        num_frames = num_samples // self.grid.hop
        valid = torch.arange(signal.shape[1], device=signal.device) < num_frames[:, None]
        valid = valid.unsqueeze(-1)  # (B, T, 1)
        embedding = torch.where(valid, signal.float(), 0.0)
        if self.config.normalization == "per_feature":
            embedding = _normalized(embedding, valid)
        return embedding, num_frames


def _normalized(rows: Tensor, valid: Tensor) -> Tensor:
    """(B, T, D), zero beyond ``valid`` (B, T, 1): mean 0 and deviation 1 over each item's rows."""
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    mean = rows.sum(dim=1, keepdim=True) / count
    centered = torch.where(valid, rows - mean, 0.0)
    deviation = (centered.square().sum(dim=1, keepdim=True) / count).sqrt()  # (B, 1, D)
    varies = deviation > STEADY * mean.abs()
    return torch.where(varies, centered / torch.where(varies, deviation, 1.0), 0.0)
