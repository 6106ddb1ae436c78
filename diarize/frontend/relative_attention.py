"""Self-attention of FastConformer's layers, which also scores how far apart two frames lie.

Dai et al., arXiv:1901.02860, section 3.3.

B batch, T frames, D model width, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.attention import MASKED, Distances, attend, blocks, shift_rows
from diarize.graph import is_written, taken
from diarize.local_attention import attend_nearby

QUERY_BLOCK = 128
"""Frames whose scores a CPU holds at once: few enough for its cache, and a row needs only the
offsets of its own block."""

WRITTEN_ROWS = 64
"""Frames that are given the same neighbours in a graph."""


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
        if is_written():
            attended = self._written(query.transpose(1, 2), key, value, offsets, mask)
            return self.output(attended.transpose(1, 2).flatten(2))
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

    def _written(
        self, query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, mask: Tensor | None
    ) -> Tensor:
        """The same of queries (B, H, T, D / H) without a loop, as a graph for any T has it."""
        scale, num_steps, last = query.shape[3] ** -0.5, query.shape[2], query.shape[2] - 1
        if self.context is not None:  # of C, ..., -C
            scored = torch.arange(-self.context, self.context + 1, device=query.device) + last
            offsets = offsets.index_select(0, scored.clamp(0, 2 * last))
        position = self.position(offsets).unflatten(-1, self.content_bias.shape).permute(1, 2, 0)
        by_content = (query + self.content_bias[:, None]) * scale
        by_position = (query + self.position_bias[:, None]) * scale
        assert mask is not None  # (B, 1, 1, T)
        if self.context is None:
            # Frame j of row i stands in column T - i + j of 2T, or j of rows one column shorter.
            by_offset = functional.pad(by_position @ position, (1, 0)).flatten(2)
            by_offset = by_offset[:, :, num_steps:].unflatten(2, (num_steps, 2 * num_steps - 1))
            scores = by_content @ key.transpose(2, 3) + by_offset[..., :num_steps] + mask
            return scores.softmax(3) @ value
        context = self.context
        first = torch.arange((last + WRITTEN_ROWS) // WRITTEN_ROWS, device=query.device)
        first = first[:, None] * WRITTEN_ROWS  # of n blocks
        near = first + torch.arange(-context, WRITTEN_ROWS + context, device=query.device)
        beyond = ((near < 0) | (near > last)) * MASKED  # (n, R + 2C)
        near = near.clamp(0, last)
        rows = (first + torch.arange(WRITTEN_ROWS, device=query.device)).clamp(max=last)
        by_offset = taken(by_position, 2, rows) @ position[:, None]  # (B, H, n, R, 2C + 1)
        # Row i scores columns i to i + 2C, or 0 to 2C of rows that are one column longer.
        by_offset = functional.pad(by_offset, (0, WRITTEN_ROWS), value=MASKED).flatten(3)
        columns = WRITTEN_ROWS + 2 * context
        by_offset = by_offset[..., : WRITTEN_ROWS * columns].unflatten(3, (WRITTEN_ROWS, columns))
        scores = taken(by_content, 2, rows) @ taken(key, 2, near).transpose(3, 4)
        scores = scores + by_offset + (taken(mask[:, :, 0], 2, near) + beyond)[:, :, :, None]
        attended = scores.softmax(4) @ taken(value, 2, near)
        return attended.flatten(2, 3)[:, :, :num_steps]
