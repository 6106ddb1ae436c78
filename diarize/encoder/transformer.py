"""Transformer encoder over frames: post- or pre-norm, without or with absolute positions.

Vaswani et al., arXiv:1706.03762; rotary positions after Su et al., arXiv:2104.09864.

B batch, T frames, W model width, H heads.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.activation import project
from diarize.attention import MASKED, attend
from diarize.config import check_choice, check_least, check_shares
from diarize.dropout import Dropout
from diarize.errors import ConfigError
from diarize.graph import is_written

EVERY_FRAME = slice(None)

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
}
_POSITIONS = ("none", "sinusoidal", "rotary")


@dataclass
class TransformerConfig:
    """Settings of `Transformer`; the defaults are the published models'."""

    width: int = 192
    """Model width."""
    inner: int = 768
    """Inner width of the feed-forward part."""
    num_layers: int = 18
    """Layers."""
    num_heads: int = 8
    """Attention heads; they divide the width."""
    pre_norm: bool = False
    """Normalise before each part and once at the end, instead of after each part."""
    input_norm: bool = False
    """Normalise the input."""
    attention_bias: bool = True
    """Biases of queries, keys and values."""
    positions: str = "none"
    """``none`` (the front end knows them), ``sinusoidal`` added to the input, ``rotary``."""
    activation: str = "relu"
    """``relu`` or ``gelu``."""
    causal: bool = False
    """Frames attend to themselves and to earlier ones alone."""
    input_dropout: float = 0.0
    """On the input, before its norm."""
    attention_dropout: float = 0.5
    """On attention weights."""
    inner_dropout: float = 0.0
    """Between the two maps of the feed-forward part."""
    dropout: float = 0.5
    """On the output of each part."""

    def __post_init__(self) -> None:
        check_least(self, width=1, inner=1, num_layers=0, num_heads=1)
        check_shares(self, "input_dropout", "attention_dropout", "inner_dropout", "dropout")
        check_choice("positions", self.positions, _POSITIONS)
        check_choice("activation", self.activation, list(_ACTIVATIONS))


class Transformer(nn.Module):
    """Frames that attend to one another."""

    config: TransformerConfig

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        check_width(config)
        self.config = config
        self.dropout = Dropout(config.input_dropout)
        self.norm_input = nn.LayerNorm(config.width) if config.input_norm else nn.Identity()
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.width) if config.pre_norm else nn.Identity()

    @property
    def width(self) -> int:
        """Width of input and output."""
        return self.config.width

    def forward(
        self,
        embedding: Tensor,
        num_frames: Tensor,
        wanted: slice = EVERY_FRAME,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Embeddings that know their neighbours.

        Args:
            embedding: (B, T, W).
            num_frames: (B,), frames before padding; later frames are attended by none.
            wanted: frames that are asked for; the last layer spares itself the others.
            visible: (B or 1, T, T), whether the frame of a row may attend to that of a column;
                default: to all.

        Returns:
            (B, wanted, W), without meaning beyond an item's frames.
        """
        mask = attention_mask(embedding, num_frames, self.config.causal, visible)
        hidden, rotation = self._place(embedding)
        for layer in self.layers[:-1]:
            hidden = layer(hidden, mask, rotation)
        for layer in self.layers[-1:]:
            hidden = layer(hidden, mask, rotation, wanted=wanted)
        return self.norm(hidden if len(self.layers) else hidden[:, wanted])

    def first_scores(self, embedding: Tensor) -> Tensor:
        """What the first layer's attention is drawn from, (B, H, T, T), padding included.

        Args:
            embedding: (B, T, W).
        """
        layer = cast(TransformerLayer, self.layers[0])
        hidden, rotation = self._place(embedding)
        hidden = layer.norm_attention(hidden) if self.config.pre_norm else hidden
        query, key = layer.compare(hidden, hidden, rotation)
        return query @ key.transpose(2, 3) * query.shape[3] ** -0.5

    def _place(self, embedding: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        """Input of the first layer, (B, T, W), and the rotation of every layer, if there is one."""
        embedding = self.norm_input(self.dropout(embedding))
        if self.config.positions == "sinusoidal":
            return embedding + sinusoids(embedding), None
        if self.config.positions == "rotary":
            heads = self.width // self.config.num_heads
            angles = _angles(embedding.shape[1], heads, embedding.device)
            return embedding, _rotation(angles)
        return embedding, None


def check_width(config: TransformerConfig) -> None:
    """See that the width can be shared among heads, and its channels paired for positions.

    Raises:
        ConfigError: if not.
    """
    if config.width % config.num_heads:
        raise ConfigError(
            f"encoder.width: is {config.width}, but it must be a multiple of num_heads, "
            f"{config.num_heads}. Change one of them."
        )
    rotated = config.width // config.num_heads if config.positions == "rotary" else 2
    if config.positions != "none" and (config.width % 2 or rotated % 2):
        raise ConfigError(
            f"encoder.positions: is {config.positions!r}, but {config.width} / "
            f"{config.num_heads} channels per head cannot be paired. Choose an even number."
        )


def attention_mask(
    embedding: Tensor, num_frames: Tensor, causal: bool = False, visible: Tensor | None = None
) -> Tensor | None:
    """What is added to the scores of attention; None where every frame attends to every other.

    Args:
        embedding: (B, T, W).
        num_frames: (B,), frames before padding; later ones are attended by none.
        causal: no frame attends to a later one.
        visible: (B or 1, T, T), whether the frame of a row may attend to that of a column.

    Returns:
        (B, 1, 1, T), or (B, 1, T, T) where rows differ.
    """
    frames = torch.arange(embedding.shape[1], device=embedding.device)
    seen = (frames < num_frames[:, None])[:, None, None, :]
    if causal:
        seen = seen & (frames <= frames[:, None])
    if visible is not None:
        seen = seen & visible[:, None]
    whole = not is_written() and bool(seen.all())
    return None if whole else torch.where(seen, 0.0, MASKED)


def sinusoids(embedding: Tensor) -> Tensor:
    """Positions of the frames of (B, T, W), sines and cosines in turn, (T, W)."""
    angles = _angles(embedding.shape[1], embedding.shape[2], embedding.device)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)


class TransformerLayer(nn.Module):
    """Attention of the frames to one another, or to a source, then a feed-forward part."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.query = nn.Linear(width, width, bias=config.attention_bias)
        self.key = nn.Linear(width, width, bias=config.attention_bias)
        self.value = nn.Linear(width, width, bias=config.attention_bias)
        self.output = nn.Linear(width, width)
        self.norm_attention = nn.LayerNorm(width)
        self.expand = nn.Linear(width, config.inner)
        self.project = nn.Linear(config.inner, width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.inner_dropout = Dropout(config.inner_dropout)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        hidden: Tensor,
        mask: Tensor | None,
        rotation: tuple[Tensor, Tensor] | None = None,
        source: Tensor | None = None,
        wanted: slice = EVERY_FRAME,
    ) -> Tensor:
        """(B, T, W) to (B, wanted, W).

        Args:
            hidden: (B, T, W).
            mask: added to the scores, see `attention_mask`; None where all are attended to.
            rotation: see `_rotation`; None without rotary positions.
            source: (B, U, W), what is attended to; None is ``hidden`` itself.
            wanted: frames that attend.
        """
        if mask is not None and mask.shape[2] > 1:
            mask = mask[:, :, wanted]
        if self.config.pre_norm:
            asking = self.norm_attention(hidden)
            answering = asking if source is None else self.norm_attention(source)
            attended = self._attend(asking, answering, mask, rotation, wanted)
            hidden = hidden[:, wanted] + attended
            return hidden + self._feed_forward(self.norm_feed_forward(hidden))
        answering = hidden if source is None else source
        attended = self._attend(hidden, answering, mask, rotation, wanted)
        hidden = self.norm_attention(hidden[:, wanted] + attended)
        return self.norm_feed_forward(hidden + self._feed_forward(hidden))

    def compare(
        self,
        hidden: Tensor,
        source: Tensor,
        rotation: tuple[Tensor, Tensor] | None = None,
        wanted: slice = EVERY_FRAME,
    ) -> tuple[Tensor, Tensor]:
        """Queries (B, H, wanted, W / H) and keys (B, H, U, W / H) of every head; see `forward`."""
        heads = (self.config.num_heads, -1)
        query = self.query(hidden[:, wanted]).unflatten(-1, heads).transpose(1, 2)
        key = self.key(source).unflatten(-1, heads).transpose(1, 2)
        if rotation is not None:
            cosine, sine = rotation
            query, key = _rotate(query, cosine[wanted], sine[wanted]), _rotate(key, cosine, sine)
        return query, key

    def _attend(
        self,
        hidden: Tensor,
        source: Tensor,
        mask: Tensor | None,
        rotation: tuple[Tensor, Tensor] | None,
        wanted: slice,
    ) -> Tensor:
        query, key = self.compare(hidden, source, rotation, wanted)
        value = self.value(source).unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)
        dropout = self.config.attention_dropout if self.training else 0.0
        if hidden.is_cpu and 0 < dropout < 1:
            attended = attend(query, key, value, mask, dropout)
        else:
            mask = None if mask is None else mask.to(query.dtype)
            attended = functional.scaled_dot_product_attention(query, key, value, mask, dropout)
        return self.dropout(self.output(attended.transpose(1, 2).flatten(2)))

    def _feed_forward(self, hidden: Tensor) -> Tensor:
        activation = _ACTIVATIONS[self.config.activation]
        inner = self.expand(hidden)
        return self.dropout(project(inner, activation, self.project, self.inner_dropout))


def _angles(num_steps: int, width: int, device: torch.device) -> Tensor:
    """Angles (T, width / 2): position times a rate that falls from 1 to 1 / 10000."""
    positions = torch.arange(num_steps, device=device, dtype=torch.float32)
    rates = torch.arange(0, width, 2, device=device, dtype=torch.float32)
    return positions[:, None] * torch.exp(rates * -(math.log(10000.0) / width))


def _rotation(angles: Tensor) -> tuple[Tensor, Tensor]:
    """Of angles (T, half), the cosine and signed sine of every channel, (T, 2 half) each."""
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([cosine, cosine], dim=-1), torch.cat([-sine, sine], dim=-1)


def _rotate(heads: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Channel pairs (c, c + half) turned by their frame's angle (arXiv:2104.09864, eq. 34)."""
    others = heads.roll(heads.shape[-1] // 2, dims=-1)
    return torch.addcmul(heads * cosine, others, sine).to(heads.dtype)
