"""Self-attention of FastConformer's layers, which also scores how far apart two frames lie.

Dai et al., arXiv:1901.02860, section 3.3.

B batch, T frames, D model width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.attention import Distances, attend, blocks, shift_rows
from diarize.local_attention import attend_nearby

QUERY_BLOCK = 128
"""Frames whose scores a CPU holds at once: few enough for its cache, and a row needs only the
offsets of its own block."""


class RelativeAttention(nn.Module):
    """Frames of one session that attend to one another.

    score(i, j) = ((q_i + u) · k_j + (q_i + v) · p_{i-j}) / sqrt(D / H), for |i - j| <= context
    """

    def __init__(
        self, width: int, num_heads: int, dropout: float, context: int | None = None
    ) -> None:
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.position = nn.Linear(width, width, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(num_heads, width // num_heads))  # u
        self.position_bias = nn.Parameter(torch.zeros(num_heads, width // num_heads))  # v
        self.output = nn.Linear(width, width)
        self.dropout = dropout
        self.context = context

    def forward(self, hidden: Tensor, offsets: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, D) to the same; see `FastConformerLayer.forward`."""
        heads = self.content_bias.shape
        query = self.query(hidden).unflatten(-1, heads)
        key = self.key(hidden).unflatten(-1, heads).transpose(1, 2)
        value = self.value(hidden).unflatten(-1, heads).transpose(1, 2)
        dropout, num_steps = self.dropout if self.training else 0.0, hidden.shape[1]
        farthest = num_steps - 1 if self.context is None else min(self.context, num_steps - 1)
        ours = hidden.is_cpu and dropout < 1
        if ours:  # no farther offset is scored
            offsets = offsets[num_steps - 1 - farthest : num_steps + farthest]
        position = self.position(offsets).unflatten(-1, heads).permute(1, 2, 0)
        distances = Distances(self.content_bias, self.position_bias, position)
        if ours and farthest < num_steps - 1:
            attended = attend_nearby(query.transpose(1, 2), key, value, mask, dropout, distances)
        elif ours and torch.is_grad_enabled():
            attended = attend(query.transpose(1, 2), key, value, mask, dropout, distances)
        else:
            attended = self._attend(query, key, value, position, mask, dropout)
        return self.output(attended.transpose(1, 2).flatten(2))

    def _attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        position: Tensor,
        mask: Tensor | None,
        dropout: float,
    ) -> Tensor:
        """Of queries (B, T, H, D / H), what torch's kernels make, (B, H, T, D / H)."""
        by_content = (query + self.content_bias.to(query.dtype)).transpose(1, 2)
        by_position = (query + self.position_bias.to(query.dtype)).transpose(1, 2)
        by_position = by_position * query.shape[3] ** -0.5
        num_steps, parts = query.shape[1], []
        # What outlives a block would lie behind its scores in memory, and these could not be used
        # again: 1.5 GB for ten minutes. Gradients, which keep all scores, need parts of their own.
        whole = None if torch.is_grad_enabled() else torch.empty_like(by_content)
        limited = self.context is not None and self.context < num_steps
        size = QUERY_BLOCK if query.is_cpu or limited else num_steps
        for block in blocks(num_steps, num_steps, size, self.context, query.device):
            rows, columns = block.rows, block.columns
            bias = shift_rows(by_position[:, :, rows] @ position[..., block.offsets])
            for added in block.masks(mask):
                bias = bias + added.to(bias.dtype)
            if not bias.is_cpu:  # GPU kernels take a bias only with evenly spaced, aligned rows
                bias = bias.contiguous()
            attended = functional.scaled_dot_product_attention(
                by_content[:, :, rows], key[:, :, columns], value[:, :, columns], bias, dropout
            )
            if whole is None:
                parts.append(attended)
            else:
                whole[:, :, rows] = attended
        return torch.cat(parts, dim=2) if whole is None else whole
