"""Masked prediction: what a front end learns from speech that nobody has labelled.

Chiu et al. 2022, "Self-supervised Learning with Random-projection Quantizer for Speech
Recognition", arXiv:2202.01855; figures, and sessions laid over sessions, after Huang et al. 2024,
"NEST", arXiv:2408.13106, from which the public models began.

B batch, N samples, F feature frames, M mel bins, T frames, D embedding width, C labels.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.config import check_least, check_shares
from diarize.errors import ConfigError
from diarize.frontend.fastconformer import SUBSAMPLING, FastConformer
from diarize.frontend.log_mel import LogMel, LogMelConfig

NOISE = 0.1
"""Deviation of what stands in a masked span, over that of its mel bin (Chiu et al.)."""

OVERLAID_LEVELS = (-5.0, 5.0)
"""dB of a session over one that is laid over it, each heard alone (NEST)."""


@dataclass
class MaskedConfig:
    """Settings of `MaskedPrediction`; the defaults are the published ones."""

    num_labels: int = 8192
    """Labels, one of which each frame has."""
    label_dim: int = 16
    """Numbers to which the features of a frame are projected before the nearest label is found."""
    begin_share: float = 0.08
    """Frames at which a masked span begins; spans may overlap. With the published 0.01 for each
    10 ms, a third of all frames is masked."""
    span_frames: int = 5
    """Frames of a span: 0.4 s."""
    overlaid_share: float = 0.0
    """Sessions over one half of which another of the batch is laid. Labels stay those of the first
    alone, so that what is learned is whom to follow. NEST lays something over half of them."""

    def __post_init__(self) -> None:
        check_least(self, num_labels=2, label_dim=1, span_frames=1)
        check_shares(self, "begin_share", "overlaid_share")


class Predicted(NamedTuple):
    """How well labels were predicted.

    Attributes:
        loss: mean cross-entropy over masked frames, float32; 0 where none is.
        accuracy: share of them whose likeliest label is the right one.
        perplexity: as many labels, equally frequent, would be as hard to guess as those of the
            masked frames are; 1 where the quantiser has collapsed.
    """

    loss: Tensor
    accuracy: Tensor
    perplexity: Tensor


class MaskedPrediction(nn.Module):
    """Says what was heard where nothing was, by what stands around it.

    A frame's label is the nearest of C random directions to a random projection of its log-mel
    energies. Neither is trained; both are drawn from the seed and stored with a run. Energies have
    zero mean and unit deviation in each mel bin of each session: else nearly all frames would lie
    near one direction.

    Args:
        front_end: what is taught.
        config: settings.
        seed: of projection and directions.

    Raises:
        ConfigError: if the front end is none that hears masked features.
    """

    projection: Tensor
    directions: Tensor

    def __init__(self, front_end: nn.Module, config: MaskedConfig, seed: int) -> None:
        super().__init__()
        if not isinstance(front_end, FastConformer):
            raise ConfigError(
                f"masked_weight is above 0, but diarizer.front_end is {type(front_end).__name__}, "
                "and only FastConformer hears log-mel features with their context. Choose that, "
                "or set masked_weight=0."
            )
        self.config = config
        num_mels = front_end.config.mel.num_mels
        # As the session is, whatever the front end makes of it: normalised, nothing blanked.
        self.mel = LogMel(LogMelConfig(num_mels=num_mels, dither=0.0))
        self.head = nn.Linear(front_end.embedding_dim, config.num_labels)
        generator = torch.Generator().manual_seed(seed)
        size = SUBSAMPLING * num_mels, config.label_dim
        projection = torch.randn(*size, generator=generator, device="cpu")
        drawn = torch.randn(config.num_labels, size[1], generator=generator, device="cpu")
        self.register_buffer("projection", projection)
        self.register_buffer("directions", functional.normalize(drawn, dim=1))

    def embed(
        self, front_end: Any, waveform: Tensor, num_samples: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What a front end makes of sessions with masked spans.

        Args:
            front_end: a `FastConformer`.
            waveform: (B, N), -1 to 1.
            num_samples: (B,), samples before padding.

        Returns:
            Embeddings (B, T, D); numbers of frames before padding, (B,); and the label of each
            masked frame, -1 elsewhere, (B, T).
        """
        features, num_rows = front_end.mel(self._overlaid(waveform, num_samples), num_samples)
        frames = -(-features.shape[1] // SUBSAMPLING)
        masked = self._spans(-(-num_rows // SUBSAMPLING), frames)
        embedding, num_frames = front_end.subsampling(_hidden(features, num_rows, masked), num_rows)
        labels = self._labels(waveform, num_samples, masked)
        return front_end.encode(embedding, num_frames), num_frames, labels

    def forward(self, embedding: Tensor, labels: Tensor) -> Predicted:
        """Labels guessed from what was heard around them.

        Args:
            embedding: (B, T, D).
            labels: (B, T), -1 where nothing was masked.
        """
        right = labels[labels >= 0]
        if not len(right):
            # Tied to all that is trained, so that every process of several has every gradient.
            nothing = embedding.float().sum() + sum(p.sum() for p in self.head.parameters())
            return Predicted(nothing * 0.0, nothing.new_zeros(()), nothing.new_ones(()))
        logits = self.head(embedding[labels >= 0]).float()  # (K, C)
        loss = functional.cross_entropy(logits, right)
        accuracy = (logits.argmax(dim=1) == right).float().mean()
        share = torch.bincount(right, minlength=self.config.num_labels) / len(right)
        return Predicted(loss, accuracy, torch.special.entr(share).sum().exp())

    def _overlaid(self, waveform: Tensor, num_samples: Tensor) -> Tensor:
        """Some sessions with the next of the batch over one half, as loud within 5 dB."""
        batch, length = waveform.shape
        if not self.config.overlaid_share or batch < 2:
            return waveform
        drawn = torch.rand(3, batch, 1, device=waveform.device)
        first = drawn[1] * 0.5 * num_samples[:, None]
        place = torch.arange(length, device=waveform.device) - first  # (B, N)
        over = (place >= 0) & (place < 0.5 * num_samples[:, None])
        over &= drawn[0] < self.config.overlaid_share
        power = waveform.square().sum(dim=1, keepdim=True) / num_samples[:, None]
        low, high = OVERLAID_LEVELS
        level = low + (high - low) * drawn[2]
        gain = (power / power.roll(1, 0).clamp(min=1e-10)).sqrt() * 10 ** (-level / 20)
        return waveform + torch.where(over, gain * waveform.roll(1, 0), 0.0)

    def _spans(self, num_frames: Tensor, most: int) -> Tensor:
        """(B, T), whether a frame is masked."""
        span = self.config.span_frames
        drawn = torch.rand(len(num_frames), most, device=num_frames.device)
        begins = functional.pad((drawn < self.config.begin_share).float(), (span - 1, 0))
        masked = functional.max_pool1d(begins[:, None], span, 1)[:, 0] > 0
        return masked & (torch.arange(most, device=masked.device) < num_frames[:, None])

    @torch.no_grad()
    def _labels(self, waveform: Tensor, num_samples: Tensor, masked: Tensor) -> Tensor:
        """(B, T), labels of masked frames, -1 elsewhere."""
        with torch.autocast(waveform.device.type, enabled=False):
            features, _ = self.mel(waveform, num_samples)
            features = functional.pad(features, (0, 0, 0, -features.shape[1] % SUBSAMPLING))
            stacked = features.unflatten(1, (-1, SUBSAMPLING)).flatten(2)  # (B, T, 8 * M)
            # Lengths do not matter: of unit vectors, the nearest is the most alike.
            alike = stacked[masked] @ self.projection @ self.directions.T  # (K, C)
        return torch.full_like(masked, -1, dtype=torch.long).masked_scatter(masked, alike.argmax(1))


def _hidden(features: Tensor, num_rows: Tensor, masked: Tensor) -> Tensor:
    """Features (B, F, M) with noise around each mel bin's mean where frames (B, T) are masked."""
    count = num_rows.clamp(min=1)[:, None, None]
    mean = features.sum(dim=1, keepdim=True) / count  # beyond an item's frames stand zeros
    variance = features.square().sum(dim=1, keepdim=True) / count - mean.square()
    noise = mean + NOISE * variance.clamp(min=0).sqrt() * torch.randn_like(features)
    rows = masked.repeat_interleave(SUBSAMPLING, dim=1)[:, : features.shape[1]]
    return torch.where(rows[:, :, None], noise, features)
