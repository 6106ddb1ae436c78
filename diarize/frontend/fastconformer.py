"""FastConformer: log-mel features, 8x convolutional subsampling, Conformer layers.

Rekesh et al., "Fast Conformer with Linearly Scalable Attention", arXiv:2305.05084; layers after
Gulati et al., arXiv:2005.08100; relative positions after Dai et al., arXiv:1901.02860, section 3.3.

B batch, N samples, F feature frames, M mel bins, T frames, D model width, H heads.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from diarize.activation import project
from diarize.config import check_choice, check_least, check_shares
from diarize.dropout import Dropout
from diarize.encoder.transformer import attention_mask
from diarize.errors import ConfigError
from diarize.frames import FrameGrid
from diarize.frontend.log_mel import LogMel, LogMelConfig
from diarize.frontend.relative_attention import RelativeAttention
from diarize.graph import full_precision, is_written

SUBSAMPLING = 8
"""Feature frames per output frame."""

CONV_NORMS = ("batch_norm", "layer_norm")

SUBSAMPLING_BLOCK = 8000
"""Feature frames that are subsampled at once where no gradient is wanted: 80 seconds."""

SUBSAMPLING_NUMBERS = 1 << 25
"""Outputs of the first convolution that a CPU keeps for a gradient; of more, it computes those of
a quarter as many at a time, and again: a fiftieth of a step of `conf/base.yaml`."""


@dataclass
class FastConformerConfig:
    """Settings of `FastConformer`; the defaults are the published offline model's.

    One is not: ``mel.peak_scaling``, which a model needs that was trained with it.
    """

    mel: LogMelConfig = field(default_factory=LogMelConfig)
    """Features."""
    width: int = 512
    """Model width."""
    num_layers: int = 18
    """Conformer layers."""
    num_heads: int = 8
    """Attention heads; they divide the width."""
    subsampling_channels: int = 256
    """Channels of the subsampling convolutions."""
    expansion: int = 4
    """Inner width of the feed-forward modules over the model width."""
    conv_kernel: int = 9
    """Frames seen by the convolution module, odd."""
    conv_norm: str = "batch_norm"
    """``batch_norm`` as published, or ``layer_norm``, which does not mind small batches."""
    input_scaling: bool = True
    """Multiply the subsampled features by the square root of the width."""
    input_dropout: float = 0.1
    """After subsampling."""
    attention_dropout: float = 0.1
    """On attention weights."""
    attention_context: int | None = None
    """Frames before and after its own that a frame attends to in each layer; null is all of them,
    as published. With a bound, cost grows with the length of a window, not with its square, and
    what a layer sees is the same in windows of any length."""
    dropout: float = 0.1
    """Inside feed-forward modules and on every residual branch."""

    def __post_init__(self) -> None:
        check_least(self, width=1, num_layers=0, num_heads=1, subsampling_channels=1)
        check_least(self, expansion=1, conv_kernel=1, attention_context=0)
        check_shares(self, "input_dropout", "attention_dropout", "dropout")
        check_choice("conv_norm", self.conv_norm, CONV_NORMS)


class FastConformer(nn.Module):
    """Waveform to one embedding per 80 ms."""

    config: FastConformerConfig

    def __init__(self, config: FastConformerConfig) -> None:
        super().__init__()
        if config.width % config.num_heads or config.width % 2:
            raise ConfigError(
                f"front_end.width: is {config.width}, but it must be even and a multiple of "
                f"num_heads, {config.num_heads}. Change one of them."
            )
        if config.conv_kernel % 2 == 0:
            raise ConfigError(
                f"front_end.conv_kernel: is {config.conv_kernel}, but it must be odd to be "
                "centred on its frame. Add or take one."
            )
        self.config = config
        self.mel = LogMel(config.mel)
        self.subsampling = Subsampling(
            config.mel.num_mels, config.subsampling_channels, config.width
        )
        self.dropout = Dropout(config.input_dropout)
        self.layers = nn.ModuleList(FastConformerLayer(config) for _ in range(config.num_layers))
        self.initialize()

    @torch.no_grad()
    def initialize(self) -> None:
        """Draw weights for a training from scratch: signals keep their power, layers do little.

        With torch's defaults the subsampling loses most of the signal and each layer adds the
        mean over time, which its last norm then scales up: after six layers all frames look
        alike (variance over time 0.4 % of the power) and training stays there. So convolutions
        keep the power (He et al. 2015), and each residual branch ends near zero, which makes a
        layer nearly the identity at first (after Zhang et al. 2019, "Fixup"): 30 %.
        """
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d):
                linear = "depthwise" in name
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if linear else "relu")
            elif isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            else:
                continue
            if name.startswith("layers.") and name.endswith((".project", "attention.output")):
                nn.init.xavier_uniform_(module.weight, gain=0.1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    @property
    def grid(self) -> FrameGrid:
        """The clock of the embeddings."""
        hop = self.config.mel.hop_samples
        return FrameGrid(self.config.mel.sample_rate, hop * SUBSAMPLING, step=hop)

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
        features, num_frames = self.mel(waveform, num_samples)
        embedding, num_frames = self.subsampling(features, num_frames)
        return self.encode(embedding, num_frames), num_frames

    def encode(
        self, embedding: Tensor, num_frames: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """The layers alone, on subsampled features.

        Args:
            embedding: (B, T, D).
            num_frames: (B,), frames before padding.
            visible: (B or 1, T, T), whether the frame of a row may attend to that of a column;
                convolutions hear their neighbours all the same. Default: all.
        """
        num_steps = embedding.shape[1]
        if num_steps == 0:
            return embedding
        if self.config.input_scaling:
            embedding = embedding * math.sqrt(self.config.width)
        hidden = self.dropout(embedding)
        offsets = _offset_sinusoids(num_steps, self.config.width, embedding.device)
        valid = _valid_frames(num_frames, num_steps)
        whole = valid is None and visible is None
        mask = None if whole else attention_mask(embedding, num_frames, visible=visible)
        for layer in self.layers:
            hidden = layer(hidden, offsets, valid, mask)
        return hidden


class Subsampling(nn.Module):
    """Three convolutions of stride 2 in time and frequency, the last two separable."""

    def __init__(self, num_mels: int, channels: int, width: int) -> None:
        super().__init__()

        def strided(inputs: int, groups: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, channels, 3, stride=2, padding=1, groups=groups)

        self.first = strided(1, 1)
        self.second_depthwise = strided(channels, channels)
        self.second_pointwise = nn.Conv2d(channels, channels, 1)
        self.third_depthwise = strided(channels, channels)
        self.third_pointwise = nn.Conv2d(channels, channels, 1)
        self.output = nn.Linear(channels * -(-num_mels // SUBSAMPLING), width)

    def forward(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, F, M) to embeddings (B, T, D) with T = ceil(F / 8), and their numbers.

        Padded frames are silenced before every stride, so that padding changes nothing. Long
        features go block by block, each with a frame to either side that makes up for its edge:
        the first convolution has 40 times as many numbers as the features.
        """
        size, learning = SUBSAMPLING_BLOCK, torch.is_grad_enabled()
        if learning:
            size = self._learning_block(features)
        num_rows = features.shape[1]
        if is_written() or num_rows <= size:
            return self._subsample(features, num_frames)
        parts = []
        for start in range(0, num_rows, size):
            first = max(start - SUBSAMPLING, 0)
            last = min(start + size + SUBSAMPLING, num_rows)
            block = features[:, first:last], (num_frames - first).clamp(0, last - first)
            if learning:
                part, _ = checkpoint(
                    self._subsample, *block, use_reentrant=False, preserve_rng_state=False
                )
            else:
                part, _ = self._subsample(*block)
            edge = (start - first) // SUBSAMPLING
            parts.append(part[:, edge : edge + size // SUBSAMPLING])
        return torch.cat(parts, dim=1), -(-num_frames // SUBSAMPLING)

    def _learning_block(self, features: Tensor) -> int:
        """Feature frames that are subsampled at once for a gradient: all where they are few."""
        batch, num_rows, num_mels = features.shape
        numbers = batch * self.first.out_channels * -(-num_mels // 2)  # of two rows
        if not features.is_cpu or numbers * num_rows <= 2 * SUBSAMPLING_NUMBERS:
            return num_rows
        rows = SUBSAMPLING_NUMBERS // 2 // numbers
        return max(rows // SUBSAMPLING * SUBSAMPLING, 32 * SUBSAMPLING)

    def _subsample(self, features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        if features.shape[1] == 0:
            empty = features.new_zeros(features.shape[0], 0, self.output.out_features)
            return empty, num_frames
        hidden = _silence(features.unsqueeze(1), num_frames)  # (B, 1, F, M)
        if hidden.is_cpu:  # where convolutions run three times faster with channels last
            hidden = hidden.to(memory_format=torch.channels_last)
        # Of mixed precision on a CPU, which halves the time of the layers, these would take twice
        # as long.
        with full_precision("cpu"):
            hidden = functional.relu(self.first(hidden), inplace=True)
            num_frames = (num_frames + 1) // 2
            hidden = self.second_depthwise(_silence(hidden, num_frames))
            hidden = functional.relu(self.second_pointwise(hidden), inplace=True)
            num_frames = (num_frames + 1) // 2
            hidden = self.third_depthwise(_silence(hidden, num_frames))
            hidden = functional.relu(self.third_pointwise(hidden), inplace=True)
            num_frames = (num_frames + 1) // 2
            hidden = _silence(hidden, num_frames)
        hidden = hidden.transpose(1, 2).flatten(2)  # (B, C, T, M / 8) -> (B, T, C * M / 8)
        return self.output(hidden), num_frames


class FastConformerLayer(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, each on its norm."""

    def __init__(self, config: FastConformerConfig) -> None:
        super().__init__()
        width = config.width
        self.norm_first = nn.LayerNorm(width)
        self.feed_forward_first = FeedForward(width, width * config.expansion, config.dropout)
        self.norm_attention = nn.LayerNorm(width)
        self.attention = RelativeAttention(
            width, config.num_heads, config.attention_dropout, config.attention_context
        )
        self.norm_convolution = nn.LayerNorm(width)
        self.convolution = Convolution(width, config.conv_kernel, config.conv_norm)
        self.norm_second = nn.LayerNorm(width)
        self.feed_forward_second = FeedForward(width, width * config.expansion, config.dropout)
        self.norm_output = nn.LayerNorm(width)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        hidden: Tensor,
        offsets: Tensor,
        valid: Tensor | None,
        mask: Tensor | None,
    ) -> Tensor:
        """(B, T, D) to the same.

        Args:
            hidden: (B, T, D).
            offsets: (2T - 1, D).
            valid: (B, T), None where all are.
            mask: added to scores of attention, see `attention_mask`; None is 0.
        """
        half_step = self.dropout(self.feed_forward_first(self.norm_first(hidden)))
        hidden = torch.add(hidden, half_step, alpha=0.5)
        attended = self.attention(self.norm_attention(hidden), offsets, mask)
        hidden = hidden + self.dropout(attended)
        hidden = hidden + self.dropout(self.convolution(self.norm_convolution(hidden), valid))
        half_step = self.dropout(self.feed_forward_second(self.norm_second(hidden)))
        return self.norm_output(torch.add(hidden, half_step, alpha=0.5))


class FeedForward(nn.Module):
    """Two linear maps with a swish between."""

    def __init__(self, width: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.expand = nn.Linear(width, inner)
        self.dropout = Dropout(dropout)
        self.project = nn.Linear(inner, width)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, T, D) to the same."""
        return project(self.expand(hidden), functional.silu, self.project, self.dropout)


class Convolution(nn.Module):
    """Gated pointwise, depthwise over time, norm, swish, pointwise."""

    def __init__(self, width: int, kernel: int, norm: str) -> None:
        super().__init__()
        self.expand = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.norm = nn.BatchNorm1d(width) if norm == "batch_norm" else nn.LayerNorm(width)
        self.project = nn.Linear(width, width)

    def forward(self, hidden: Tensor, valid: Tensor | None) -> Tensor:
        """(B, T, D) to the same; see `FastConformerLayer.forward`."""
        hidden = functional.glu(self.expand(hidden))
        if valid is not None:
            hidden = hidden * valid.unsqueeze(-1)
        hidden = self.depthwise(hidden.transpose(1, 2))  # (B, D, T)
        if isinstance(self.norm, nn.BatchNorm1d):
            hidden = self.norm(hidden).transpose(1, 2)
        else:
            hidden = self.norm(hidden.transpose(1, 2))
        return project(hidden, functional.silu, self.project)


def _valid_frames(num_frames: Tensor, num_steps: int) -> Tensor | None:
    """(B, T), True before padding; None where nothing is padded, which saves every masking."""
    valid = torch.arange(num_steps, device=num_frames.device) < num_frames[:, None]
    return None if not is_written() and bool(valid.all()) else valid


def _silence(hidden: Tensor, num_frames: Tensor) -> Tensor:
    """(B, C, T, M) with zeros in padded frames."""
    valid = _valid_frames(num_frames, hidden.shape[2])
    return hidden if valid is None else hidden * valid[:, None, :, None]


def _offset_sinusoids(num_steps: int, width: int, device: torch.device) -> Tensor:
    """Sinusoids (2T - 1, D) of the offsets T - 1, ..., -(T - 1); sines and cosines alternate."""
    offsets = torch.arange(num_steps - 1, -num_steps, -1, device=device, dtype=torch.float32)
    rates = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    angles = offsets[:, None] * torch.exp(rates * -(math.log(10000.0) / width))
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
