"""Feature stacking: eight log-mel frames side by side, and a linear map.

The front end of Nemotron-3: what is known of a frame is its own 80 ms; all context is left to the
encoder.

B batch, N samples, F feature frames, M mel bins, T frames, D embedding width.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from diarize.config import check_least
from diarize.frames import FrameGrid
from diarize.frontend.log_mel import LogMel, LogMelConfig


def _mel() -> LogMelConfig:
    return LogMelConfig(num_mels=128, normalization="none")


@dataclass
class StackingConfig:
    """Settings of `Stacking`; the defaults are the published model's."""

    mel: LogMelConfig = field(default_factory=_mel)
    """Log-mel energies."""
    width: int = 512
    """Embedding width."""
    stacked: int = 8
    """Feature frames in one frame."""

    def __post_init__(self) -> None:
        check_least(self, width=1, stacked=1)


class Stacking(nn.Module):
    """Waveform to one embedding per 80 ms."""

    config: StackingConfig

    def __init__(self, config: StackingConfig) -> None:
        super().__init__()
        self.config = config
        self.mel = LogMel(config.mel)
        self.projection = nn.Linear(config.stacked * config.mel.num_mels, config.width, bias=False)

    @property
    def grid(self) -> FrameGrid:
        """The clock of the embeddings."""
        hop = self.config.mel.hop_samples
        return FrameGrid(self.config.mel.sample_rate, hop * self.config.stacked, step=hop)

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return self.config.width

    def forward(self, waveform: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of a batch.

        Args:
            waveform: (B, N), -1 to 1.
            num_samples: (B,), samples before padding.

        Returns:
            Embeddings (B, T, D), without meaning beyond an item's frames, and the numbers of
            frames before padding, (B,).
        """
        return self.subsampling(*self.mel(waveform, num_samples))

    def subsampling(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, M) to embeddings (B, T, D) with T = ceil(F / stacked), and their numbers.

        Args:
            features: zeros beyond an item's frames.
            num_frames: (B,), feature frames before padding.
        """
        stacked = self.config.stacked
        features = functional.pad(features, (0, 0, 0, -features.shape[1] % stacked))
        rows = features.unflatten(1, (-1, stacked)).flatten(2)  # (B, T, stacked * M)
        return self.projection(rows), -(-num_frames // stacked)

    def encode(
        self, embedding: Tensor, num_frames: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """Nothing more: subsampled features (B, T, D) are the embeddings."""
        return embedding
