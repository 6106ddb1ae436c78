"""Attention whose weights are not kept: they are computed block by block, and again to learn.

The weights of every frame on every other, which torch keeps where some are dropped or distances are
scored, would be most of what a step holds: with `conf/base.yaml`, they grow with the square of a
window. After Rabe and Staats, arXiv:2112.05682, and Dao et al., arXiv:2205.14135.

B batch, H heads, T frames that attend, U frames attended to, E channels of a head.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from diarize.dropout import draw_seed, kept

MASKED = -1e4
"""Added to the score of a frame that is not attended to: no weight, and finite where all are."""

BLOCK_SCORES = 1 << 20
"""Scores that are held at once: few enough for the cache of a CPU."""

BLOCK_ROWS = 128
"""Frames that attend at once, at most: a row is also given the offsets of its neighbours."""


class Distances(NamedTuple):
    """What scores how far apart two frames lie (Dai et al., arXiv:1901.02860, section 3.3)."""

    content_bias: Tensor
    """(H, E), added to queries before they meet keys."""
    position_bias: Tensor
    """(H, E), added to queries before they meet offsets."""
    offsets: Tensor
    """(H, E, 2T - 1), of T - 1, ..., -(T - 1)."""


class Block(NamedTuple):
    """Some frames that attend, and those that they attend to."""

    rows: slice
    columns: slice
    offsets: slice
    """All that lie between the two."""
    beyond: Tensor | None
    """(rows, columns), `MASKED` where a frame lies beyond the context, else 0; None where all are
    within."""

    def masks(self, mask: Tensor | None) -> list[Tensor]:
        """What is added to scores, of a mask of all frames, (1 or B, 1, 1 or T, U)."""
        found = [] if self.beyond is None else [self.beyond]
        if mask is not None:
            rows = self.rows if mask.shape[2] > 1 else slice(None)
            found.append(mask[:, :, rows, self.columns])
        return found


@torch.compiler.disable
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    distances: Distances | None = None,
) -> Tensor:
    """Values, weighted by the softmax of their scores; for CPUs.

    Args:
        query: (B, H, T, E).
        key: (B, H, U, E).
        value: (B, H, U, E).
        mask: (1 or B, 1, 1 or T, U), added to scores; None is 0.
        dropout: share of weights that are dropped, below 1.
        distances: scored beside content, where T is U.

    Returns:
        (B, H, T, E).
    """
    biases_and_offsets = (None, None, None) if distances is None else distances
    seed = draw_seed() if dropout else 0
    found: Tensor = _Attention.apply(query, key, value, mask, *biases_and_offsets, dropout, seed)
    return found


def blocks(
    num_rows: int, num_columns: int, size: int, context: int | None, device: torch.device
) -> Iterator[Block]:
    """All frames in turn.

    Args:
        num_rows: T.
        num_columns: U.
        size: rows of a block.
        context: frames to either side that are attended to, where T is U; None is all.
        device: of the scores.
    """
    reach = num_columns if context is None else context
    for start in range(0, num_rows, size):
        end = min(start + size, num_rows)
        first, last = max(start - reach, 0), min(end + reach, num_columns)
        beyond = None
        if reach < num_columns:
            rows = torch.arange(start, end, device=device)
            apart = rows[:, None] - torch.arange(first, last, device=device)
            beyond = (apart.abs() > reach) * MASKED
        offsets = slice(num_rows - end + first, num_rows - 1 - start + last)
        yield Block(slice(start, end), slice(first, last), offsets, beyond)


def shift_rows(by_offset: Tensor) -> Tensor:
    """Scores by offset (..., rows, U + rows - 1) as scores by frame (..., rows, U), no copy.

    Frame j of row i stands in column rows - 1 - i + j, for offsets fall from left to right. In
    memory that is rows - 1 + i (columns - 1) + j: a view whose rows lie one column closer.
    """
    scores = by_offset.contiguous()
    *_, rows, columns = scores.shape
    return scores.as_strided(
        (*scores.shape[:-1], columns - rows + 1),
        (*scores.stride()[:-2], columns - 1, 1),
        scores.storage_offset() + rows - 1,
    )


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, dropout, seed = inputs
        ctx.save_for_backward(*tensors)
        ctx.settings = dropout, seed
        scored = _Scored(tensors, *ctx.settings)
        value = scored.value
        batch, heads, frames, channels = scored.asked.shape
        found = value.new_empty(batch, frames, heads, channels).transpose(1, 2)
        for block in scored.blocks():
            weights, mask = scored.weights(block)
            if mask is not None:
                weights *= mask
            found[:, :, block.rows] = weights.to(value.dtype) @ value
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        scored = _Scored(ctx.saved_tensors, *ctx.settings)
        asked, key, value = scored.asked, scored.key, scored.value
        dtype, gradient = asked.dtype, gradient.contiguous()
        to_asked = torch.empty_like(asked)
        to_key, to_value = (torch.zeros_like(each, dtype=scored.wide) for each in (key, value))
        placed = None if scored.placed is None else _Placed(scored)
        for block in scored.blocks():
            rows = block.rows
            weights, mask = scored.weights(block)
            back = gradient[:, :, rows]
            slope = (back @ value.transpose(2, 3)).to(scored.wide)
            if mask is not None:
                slope *= mask
                mask *= weights
            used = weights if mask is None else mask
            to_value += used.to(dtype).transpose(2, 3) @ back
            slope = torch.ops.aten._softmax_backward_data(slope, weights, 3, slope.dtype).to(dtype)
            to_asked[:, :, rows] = slope @ key
            to_key += slope.transpose(2, 3) @ asked[:, :, rows]
            if placed is not None:
                placed.add(slope, block)
        to_query = to_asked.mul_(scored.scale)
        beside: tuple[Any, ...] = (None, None, None)
        if placed is not None:
            to_placed = placed.gradient.transpose(0, 1) * scored.scale
            biases = (each.to(scored.wide).sum((0, 2)) for each in (to_asked, to_placed))
            beside = (*biases, placed.to_offsets.to(dtype))
            to_query = to_asked + to_placed
        return to_query, to_key.to(dtype), to_value.to(dtype), None, *beside, None, None


class _Scored:
    """Weights of frames, block by block, as both passes ask for them."""

    def __init__(self, tensors: Any, dropout: float, seed: int) -> None:
        query, key, value, self.mask, content_bias, position_bias, self.offsets = tensors
        self.dropout, self.seed = dropout, seed
        self.key, self.value = key.contiguous(), value.contiguous()
        # Of scores, and of what blocks add up to, under any autocast.
        self.wide = torch.promote_types(query.dtype, torch.float32)
        self.scale = query.shape[3] ** -0.5
        self.asked, self.placed = query.contiguous() * self.scale, None
        if self.offsets is not None:
            biases = (self.scale * each[:, None] for each in (content_bias, position_bias))
            of_content, of_position = (each.to(query.dtype) for each in biases)
            # Heads first: they alone have offsets of their own.
            self.placed = (self.asked + of_position).transpose(0, 1).contiguous()
            self.asked += of_content

    def blocks(self) -> Iterator[Block]:
        """See `blocks`."""
        batch, heads, num_rows, _ = self.asked.shape
        num_columns = self.key.shape[2]
        size = min(max(BLOCK_SCORES // (batch * heads * num_columns), 16), BLOCK_ROWS)
        return blocks(num_rows, num_columns, size, None, self.key.device)

    def weights(self, block: Block) -> tuple[Tensor, Tensor | None]:
        """(B, H, rows, columns) before any are dropped, and what they are multiplied by then."""
        rows = block.rows
        scores = (self.asked[:, :, rows] @ self.key.transpose(2, 3)).to(self.wide)
        if self.placed is not None:
            placed = self.placed[:, :, rows]
            by_offset = placed.flatten(1, 2) @ self.offsets[..., block.offsets]
            scores += shift_rows(by_offset.unflatten(1, placed.shape[1:3])).transpose(0, 1)
        for mask in block.masks(self.mask):
            scores += mask
        seed = self.seed + rows.start
        factors = kept(scores.shape, self.dropout, seed) if self.dropout else None
        return scores.softmax(3), factors


class _Placed:
    """Gradients of what is scored by distance."""

    def __init__(self, scored: "_Scored") -> None:
        assert scored.placed is not None
        self.placed, self.offsets = scored.placed, scored.offsets
        self.gradient = torch.empty_like(self.placed)  # (H, B, T, E)
        self.to_offsets = torch.zeros_like(self.offsets, dtype=scored.wide)
        self._spread = self.placed.new_zeros(0)

    def add(self, slope: Tensor, block: Block) -> None:
        """Learn from a block's slopes of scores (B, H, rows, columns)."""
        offsets, placed = self.offsets[..., block.offsets], self.placed[:, :, block.rows]
        shape = (*placed.shape[:3], offsets.shape[2])
        if self._spread.shape != shape:  # what no row and column lie apart stays 0
            self._spread = slope.new_zeros(shape)
        shift_rows(self._spread).copy_(slope.transpose(0, 1))
        spread = self._spread.flatten(1, 2)
        self.gradient[:, :, block.rows] = (spread @ offsets.transpose(1, 2)).view_as(placed)
        self.to_offsets[..., block.offsets] += placed.flatten(1, 2).transpose(1, 2) @ spread
