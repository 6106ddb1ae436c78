"""Set Transformer encoder: frames exchange what they know through a few inducing points.

Lee et al., "Set Transformer", arXiv:1810.00825, section 3.1: each layer is an induced set attention
block, ISAB(X) = MAB(X, MAB(I, X)), where I are learned points and MAB(X, Y) is a Transformer layer
in which X attends to Y. Cost grows with frames times points, not with frames squared.

B batch, T frames, P points, W model width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diarize.config import check_least
from diarize.dropout import Dropout
from diarize.encoder.transformer import (
    EVERY_FRAME,
    TransformerConfig,
    TransformerLayer,
    attention_mask,
    check_width,
    sinusoids,
)
from diarize.errors import ConfigError


@dataclass
class SetTransformerConfig(TransformerConfig):
    """Settings of `SetTransformer`: a Transformer's, each of whose layers counts for two."""

    num_layers: int = 9
    """Layers, each of them two attention blocks: half as many as of a Transformer of one size."""
    num_points: int = 32
    """Inducing points of a layer: how much of a session it can tell at once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_least(self, num_points=1)
        if self.causal or self.positions == "rotary":
            raise ConfigError(
                f"causal is {self.causal} and positions is {self.positions!r}, but points stand "
                "for the whole session at once and have no place in it. Set causal=false and "
                "positions to none or sinusoidal."
            )


class SetTransformer(nn.Module):
    """Frames that attend to points which have attended to all of them."""

    config: SetTransformerConfig

    def __init__(self, config: SetTransformerConfig) -> None:
        super().__init__()
        check_width(config)
        self.config = config
        self.dropout = Dropout(config.input_dropout)
        self.norm_input = nn.LayerNorm(config.width) if config.input_norm else nn.Identity()
        self.layers = nn.ModuleList(InducedLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width) if config.pre_norm else nn.Identity()

    @property
    def width(self) -> int:
        """Width of input and output."""
        return self.config.width

    def forward(self, embedding: Tensor, num_frames: Tensor, wanted: slice = EVERY_FRAME) -> Tensor:
        """Embeddings that know the session, see `Transformer.forward`."""
        mask = attention_mask(embedding, num_frames)
        hidden = self.norm_input(self.dropout(embedding))
        if self.config.positions == "sinusoidal":
            hidden = hidden + sinusoids(hidden)
        for layer in self.layers:
            hidden = layer(hidden, mask)
        normalised: Tensor = self.norm(hidden[:, wanted])
        return normalised


class InducedLayer(nn.Module):
    """ISAB: points attend to the frames, then the frames to the points."""

    def __init__(self, config: SetTransformerConfig) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.empty(config.num_points, config.width))
        nn.init.xavier_uniform_(self.points)
        self.gathering = TransformerLayer(config)
        self.telling = TransformerLayer(config)

    def forward(self, hidden: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, W) to the same; ``mask`` hides padded frames, see `attention_mask`."""
        points = self.points.expand(len(hidden), -1, -1)
        told: Tensor = self.telling(
            hidden, None, source=self.gathering(points, mask, source=hidden)
        )
        return told
