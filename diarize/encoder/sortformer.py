"""SortFormer as first described: a Transformer that sorts speakers by arrival in every layer.

After a layer, speakers are estimated from the hidden states, put in order of arrival, and given
back as a *permutation encoding*, so that the layers above know who is who:

    p = sigmoid(head(h))              estimates, (B, T, S)
    q = p, columns by arrival         first frame above 0.5; who never is comes last
    E(q) = gate * normalised(q Γ)     Γ (S, W), a row for each place in the order
    the next layer hears h + E(q)

T. Park, "SortFormer: Permutation Encoding for Transformer", a draft without formulas; these are
ours. The published Sortformer (arXiv:2409.06656) kept the order of arrival, at the output alone.

**Live use.** In a stream, layers hear speaker cache, queue and chunk together, and sort what they
hear; the cache stands in front, in order of arrival, so slots keep their speakers. Where frames may
not see later ones at all (``causal``), the order at a frame is that of those who came until then: a
later arrival never changes the places of earlier ones, so nothing else is needed.

B batch, T frames, W model width, S slots.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from diarize.config import check_choice, check_least
from diarize.encoder.transformer import (
    EVERY_FRAME,
    Transformer,
    TransformerConfig,
    attention_mask,
)
from diarize.errors import ConfigError
from diarize.graph import full_precision

FLOOR = 0.1
"""Added to the root mean square that encodings are divided by, so that silence, which is encoded
as nearly nothing, stays nearly nothing."""


@dataclass
class SortFormerConfig(TransformerConfig):
    """Settings of `SortFormer`, beside those of the Transformer that it is without them."""

    encoding: str = "sinusoidal"
    """Γ: ``sinusoidal`` rows sin(2π k z / width), k from 1 (row 0 would be zero: the first speaker
    would look like silence), known from the first step on; ``learned``, begun at random; ``none``
    gives nothing back, which tells what the supervision of layers does by itself."""
    heads: str = "each"
    """``each``: every layer has its own, as early layers say it in other terms than late ones;
    ``shared``: one for all, which asks layers to keep to one set of terms."""
    estimate_every: int = 1
    """Estimates after every n-th layer; never after the last, whose estimate is the output."""
    estimate_layers: list[int] = field(default_factory=list)
    """The very layers to estimate after, from 1, in place of every n-th: the first ones may know
    too little yet."""
    gate: float = 0.0
    """Where each layer's gate begins. At 0 the network begins as the plain Transformer and opens
    its gates as estimates grow useful; the gates learn, one number each."""
    temperature: float = 1.0
    """Divides the logits that are encoded: below 1, encodings are nearly of 0 and 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("encoding", self.encoding, ("sinusoidal", "learned", "none"))
        check_choice("heads", self.heads, ("each", "shared"))
        check_least(self, num_layers=2, estimate_every=1)
        if not self.temperature > 0:
            raise ConfigError(
                f"temperature is {self.temperature:g}, but logits are divided by it. "
                "Give a number above 0."
            )
        wrong = [n for n in self.estimate_layers if not 1 <= n < self.num_layers]
        if wrong or len(set(self.estimate_layers)) < len(self.estimate_layers):
            raise ConfigError(
                f"estimate_layers is {list(self.estimate_layers)}, but with num_layers "
                f"{self.num_layers} each is one of 1 to {self.num_layers - 1}, once: what the last "
                "layer says is the output. Correct it."
            )

    @property
    def estimating(self) -> list[int]:
        """Layers, from 1, after which speakers are estimated."""
        every = range(self.estimate_every, self.num_layers, self.estimate_every)
        return sorted(self.estimate_layers) or list(every)


class SortFormer(Transformer):
    """Frames that attend to one another, and know who is who.

    Args:
        config: settings.
        num_slots: speakers that are estimated.

    Raises:
        ConfigError: if no layer would estimate.
    """

    config: SortFormerConfig

    def __init__(self, config: SortFormerConfig, num_slots: int) -> None:
        super().__init__(config)
        numbers = config.estimating
        if not numbers:
            raise ConfigError(
                f"encoder.estimate_every: is {config.estimate_every}, but with num_layers "
                f"{config.num_layers} no layer before the last is reached. Lower it."
            )
        self._estimating = frozenset(numbers)
        many = len(numbers) if config.heads == "each" else 1
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(config.width) if config.pre_norm else nn.Identity(),
                nn.Linear(config.width, num_slots),
            )
            for _ in range(many)
        )
        gates = torch.full((len(numbers),), float(config.gate))
        self.gates = nn.Parameter(gates) if config.encoding != "none" else None
        learned = config.encoding == "learned"
        self.places = nn.Parameter(torch.randn(num_slots, config.width)) if learned else None

    def forward(
        self,
        embedding: Tensor,
        num_frames: Tensor,
        wanted: slice = EVERY_FRAME,
        visible: Tensor | None = None,
    ) -> Tensor:
        """Embeddings that know their neighbours, see `Transformer.forward`."""
        return self.estimate(embedding, num_frames, wanted, visible)[0]

    def estimate(
        self,
        embedding: Tensor,
        num_frames: Tensor,
        wanted: slice = EVERY_FRAME,
        visible: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The same, and the logits of the layers that estimate on the way.

        Args:
            embedding: (B, T, W).
            num_frames: (B,), frames before padding.
            wanted: frames that are asked for.
            visible: (B or 1, T, T), whether the frame of a row may attend to that of a column.

        Returns:
            (B, wanted, W), and for each estimating layer (B, T, S), as its head gives them: of all
            frames, not sorted.
        """
        mask = attention_mask(embedding, num_frames, self.config.causal, visible)
        hidden, rotation = self._place(embedding)
        estimates: list[Tensor] = []
        for number, layer in enumerate(self.layers, start=1):
            last = number == len(self.layers)
            hidden = layer(hidden, mask, rotation, wanted=wanted if last else EVERY_FRAME)
            if number in self._estimating:
                head = self.heads[len(estimates) if len(self.heads) > 1 else 0]
                logits = head(hidden)
                if self.gates is not None:
                    # A post-norm layer ends in its norm; a pre-norm one normalises what it hears.
                    gate = self.gates[len(estimates)]
                    hidden = hidden + gate * self.encode(logits, num_frames)
                estimates.append(logits)
        return self.norm(hidden), estimates

    def encode(self, logits: Tensor, num_frames: Tensor) -> Tensor:
        """The permutation encoding (B, T, W) of estimates (B, T, S), gate aside."""
        ordered = by_arrival(logits, num_frames, self.config.causal)
        learned = self.places
        with full_precision(logits.device.type):
            if learned is None:
                places = sinusoidal_places(logits.shape[2], self.width, logits.device)
            else:
                places = learned.float()
            encoded = (ordered.float() / self.config.temperature).sigmoid() @ places
            # A norm has a gradient where nothing is estimated, of 0; a root has none.
            size = torch.linalg.vector_norm(encoded, dim=2, keepdim=True) / self.width**0.5
            return (encoded / (size + FLOOR)).to(logits.dtype)


def by_arrival(logits: Tensor, num_frames: Tensor, causal: bool = False) -> Tensor:
    """Columns in the order in which they are first above a probability of 0.5.

    Gradients go to the values; the order has none.

    Args:
        logits: (B, T, S), before the sigmoid.
        num_frames: (B,), frames before padding.
        causal: order the columns of each frame by what was seen until then.

    Returns:
        (B, T, S). Of columns that arrive together or never, the lower stands first; those that
        never do stand last.
    """
    frames = torch.arange(logits.shape[1], device=logits.device)
    active = (logits > 0) & (frames < num_frames[:, None])[:, :, None]
    arrived = active.cumsum(dim=1, dtype=torch.int64) > 0
    arrival = (~arrived).sum(dim=1)[:, None, :]  # (B, 1, S), as many as there are frames for never
    if causal:
        arrival = torch.where(arrived, arrival, len(frames))  # (B, T, S)
    num_slots = logits.shape[2]
    places = arrival * num_slots + torch.arange(num_slots, device=logits.device)  # no two alike
    order = places.sort(dim=2).indices
    return logits.gather(2, order.expand_as(logits))


def sinusoidal_places(num_slots: int, width: int, device: torch.device | None = None) -> Tensor:
    """Γ of `SortFormerConfig.encoding`: (S, W), rows sin(2π k z / W) for k = 1 to S.

    The speaker kernel of Park et al., arXiv:2409.06656, section 3.3. Rows are orthogonal where
    twice as many slots are less than the width.
    """
    slots = torch.arange(1, num_slots + 1, device=device)
    turns = slots[:, None] * torch.arange(width, device=device) / width
    return torch.sin(2 * torch.pi * turns)
