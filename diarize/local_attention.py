"""Attention to a bounded number of neighbours, many blocks of frames at a time; for CPUs.

Frames stand in blocks of R; with the blocks before and after its own, a block holds all that its
frames may attend to, and it lies as far from them as any other block does: a few large products make
the scores of many blocks, where going block by block makes thousands of small ones. Weights are not
kept, but computed again to learn, as in `diarize.attention`.

B batch, H heads, T frames in n blocks of R, E channels of a head.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from diarize.attention import MASKED, Distances, shift_rows
from diarize.dropout import draw_seed, kept

FEWEST_ROWS = 16
"""Frames of a block, at least."""

SCORES_AT_ONCE = 1 << 21
"""Scores that are held at once."""


@torch.compiler.disable
def attend_nearby(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    distances: Distances,
    context: int,
) -> Tensor:
    """Values of neighbours, weighted by the softmax of their scores.

    Args:
        query: (B, H, T, E).
        key: (B, H, T, E).
        value: (B, H, T, E).
        mask: (1 or B, 1, 1 or T, T), added to scores; None is 0.
        dropout: share of weights that are dropped, below 1.
        distances: scored beside content.
        context: frames to either side that are attended to.

    Returns:
        (B, H, T, E).
    """
    seed = draw_seed() if dropout else 0
    found: Tensor = _Nearby.apply(query, key, value, mask, *distances, dropout, seed, context)
    return found


class _Nearby(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, dropout, seed, context = inputs
        ctx.save_for_backward(*tensors)
        ctx.settings = dropout, seed, context
        scored = _Scored(tensors, *ctx.settings)
        parts = []
        for first, last in scored.groups():
            weights, factors = scored.weights(first, last)
            if factors is not None:
                weights *= factors
            value = scored.around(scored.value, first, last)
            parts.append(weights.to(value.dtype) @ value)
        return scored.unblocked(torch.cat(parts, dim=2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        scored = _Scored(ctx.saved_tensors, *ctx.settings)
        gradient = scored.blocked(gradient)
        dtype, wide = scored.asked.dtype, scored.wide
        to_asked, to_placed = torch.empty_like(scored.asked), torch.empty_like(scored.placed)
        to_key, to_value = (torch.zeros_like(scored.key, dtype=wide) for _ in range(2))
        to_offsets = torch.zeros_like(scored.offsets, dtype=wide)
        for first, last in scored.groups():
            weights, factors = scored.weights(first, last)
            back = gradient[:, :, first:last]
            slope = back @ scored.around(scored.value, first, last).transpose(3, 4)
            slope = slope.to(wide)
            used = weights
            if factors is not None:
                slope *= factors
                used = factors.mul_(weights)
            _add_around(to_value, used.to(dtype).transpose(3, 4) @ back, first)
            slope = torch.ops.aten._softmax_backward_data(slope, weights, 4, wide).to(dtype)
            to_asked[:, :, first:last] = slope @ scored.around(scored.key, first, last)
            asked = scored.asked[:, :, first:last]
            _add_around(to_key, slope.transpose(3, 4) @ asked, first)
            placed = scored.placed[:, :, first:last]
            spread = slope.new_zeros(*placed.shape[:4], scored.offsets.shape[2])
            shift_rows(spread).copy_(slope.transpose(0, 1))
            rows = placed.flatten(1, 3).transpose(1, 2)  # (H, E, all)
            to_offsets += rows @ spread.flatten(1, 3)
            by_row = spread.flatten(1, 3) @ scored.offsets.transpose(1, 2)
            to_placed[:, :, first:last] = by_row.view_as(placed)
        to_asked, to_placed = (
            scored.unblocked(each).mul_(scored.scale)
            for each in (to_asked, to_placed.transpose(0, 1))
        )
        biases = (each.to(wide).sum((0, 2)) for each in (to_asked, to_placed))
        keys, values = (scored.inner(each).to(dtype) for each in (to_key, to_value))
        offsets = scored.all_offsets(to_offsets.to(dtype))
        return to_asked + to_placed, keys, values, None, *biases, offsets, None, None, None


class _Scored:
    """Weights of blocks, as both passes ask for them."""

    def __init__(self, tensors: Any, dropout: float, seed: int, context: int) -> None:
        query, key, value, self.mask, content_bias, position_bias, offsets = tensors
        self.dropout, self.seed, self.context = dropout, seed, context
        self.num_frames = query.shape[2]
        self.rows = max(context, FEWEST_ROWS)
        self.num_blocks = -(-self.num_frames // self.rows)
        self.beyond_end = self.num_blocks * self.rows - self.num_frames
        self.wide = torch.promote_types(query.dtype, torch.float32)
        self.scale = query.shape[3] ** -0.5
        # A block of nothing before and after all others, (B, H, n + 2, R, E).
        edges = (0, 0, self.rows, self.rows + self.beyond_end)
        self.key, self.value = (
            functional.pad(each, edges).unflatten(2, (-1, self.rows)) for each in (key, value)
        )
        biases = (each[:, None].to(query.dtype) for each in (content_bias, position_bias))
        of_content, of_position = ((query + each) * self.scale for each in biases)
        self.asked = self.blocked(of_content)  # (B, H, n, R, E)
        # Heads first: they alone have offsets of their own.
        self.placed = self.blocked(of_position).transpose(0, 1).contiguous()
        # Of 2R - 1, ..., -(2R - 1), which all blocks have: (H, E, 4R - 1).
        self._more = 2 * self.rows - self.num_frames
        self._known = offsets.shape[2]
        self.offsets = functional.pad(offsets, (self._more, self._more)).contiguous()

    def groups(self) -> list[tuple[int, int]]:
        """First and last, the latter excluded, of blocks that are scored at once."""
        batch, heads = self.asked.shape[:2]
        many = max(SCORES_AT_ONCE // (batch * heads * 3 * self.rows**2), 1)
        return [(n, min(n + many, self.num_blocks)) for n in range(0, self.num_blocks, many)]

    def weights(self, first: int, last: int) -> tuple[Tensor, Tensor | None]:
        """(B, H, blocks, R, 3R) before any are dropped, and what they are multiplied by then."""
        key = self.around(self.key, first, last)
        scores = (self.asked[:, :, first:last] @ key.transpose(3, 4)).to(self.wide)
        placed = self.placed[:, :, first:last]
        by_offset = (placed.flatten(1, 3) @ self.offsets).unflatten(1, placed.shape[1:4])
        scores += shift_rows(by_offset).transpose(0, 1)
        scores += self._masks(first, last)
        weights = scores.softmax(4)
        if not self.dropout:
            return weights, None
        return weights, kept(weights.shape, self.dropout, self.seed + first)

    def _masks(self, first: int, last: int) -> Tensor:
        """What is added to scores, (1 or B, 1, blocks or 1, 1 or R, 3R)."""
        device, size = self.key.device, self.rows
        row = torch.arange(size, device=device)[:, None]
        column = torch.arange(-size, 2 * size, device=device)
        masks = ((row - column).abs() > self.context) * MASKED
        frame = torch.arange(first, last, device=device)[:, None, None] * size + column
        masks = masks + ((frame < 0) | (frame >= self.num_frames)) * MASKED
        if self.mask is None:
            return masks[None, None]
        edges = (size, size + self.beyond_end)
        if self.mask.shape[2] == 1:
            near = functional.pad(self.mask, edges).unfold(3, 3 * size, size)[:, :, 0, first:last]
            return masks + near[:, :, :, None]
        whole = functional.pad(self.mask, (*edges, 0, self.beyond_end)).contiguous()
        batch, one, rows, columns = whole.shape
        near = whole.as_strided(
            (batch, one, self.num_blocks, size, 3 * size),
            (rows * columns, rows * columns, size * (columns + 1), columns, 1),
        )
        return masks + near[:, :, first:last]

    def around(self, padded: Tensor, first: int, last: int) -> Tensor:
        """Frames of blocks and their neighbours, (B, H, blocks, 3R, E), of (B, H, n + 2, R, E)."""
        near = [padded[:, :, first + n : last + n] for n in range(3)]
        return torch.cat(near, dim=3)

    def blocked(self, frames: Tensor) -> Tensor:
        """(B, H, T, E) as (B, H, n, R, E), the last block filled up with zeros."""
        return functional.pad(frames, (0, 0, 0, self.beyond_end)).unflatten(2, (-1, self.rows))

    def unblocked(self, blocks: Tensor) -> Tensor:
        """(B, H, n, R, E) as (B, H, T, E)."""
        return blocks.flatten(2, 3)[:, :, : self.num_frames]

    def inner(self, padded: Tensor) -> Tensor:
        """(B, H, n + 2, R, E) as (B, H, T, E)."""
        return self.unblocked(padded[:, :, 1:-1])

    def all_offsets(self, near: Tensor) -> Tensor:
        """(H, E, 4R - 1) as (H, E, 2T - 1), zero where nobody looks."""
        return functional.pad(near, (-self._more, -self._more))


def _add_around(padded: Tensor, found: Tensor, first: int) -> None:
    """Add (B, H, blocks, 3R, E) to where they were taken from, (B, H, n + 2, R, E)."""
    size, many = padded.shape[3], found.shape[2]
    for n, part in enumerate(found.split(size, dim=3)):
        padded[:, :, first + n : first + n + many] += part
