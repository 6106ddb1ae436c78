"""Attention to a bounded number of neighbours, many blocks of frames at a time; for CPUs.

A block of R frames is given its neighbours as well, and then all blocks are alike: a few large
products make the scores of many, where going block by block makes thousands of small ones. Of a
block's scores (R, R + 2C), those of frames within the context C lie in a band, of row i from
column i on. Where these are few, their weights are kept to learn from; else they are computed
again, as in `diarize.attention`.

B batch, H heads, T frames in n blocks of R, C frames of context, E channels of a head.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from diarize.attention import MASKED, Distances
from diarize.dropout import draw_seed, kept

BLOCK_ROWS = 48
"""R: frames that are given the same neighbours."""

SCORES_AT_ONCE = 1 << 20
"""Scores that are made at once: few enough for the cache of a CPU."""

MOST_KEPT = 512
"""Scores of a frame whose weights are kept, at most; those of more are computed again to learn."""


@torch.compiler.disable
def attend_nearby(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    distances: Distances,
) -> Tensor:
    """Values of neighbours, weighted by the softmax of their scores.

    Args:
        query: (B, H, T, E).
        key: (B, H, T, E).
        value: (B, H, T, E).
        mask: (1 or B, 1, 1 or T, T), added to scores; None is 0.
        dropout: share of weights that are dropped, below 1.
        distances: scored beside content; here the offsets are C, ..., -C, (H, E, 2C + 1), and no
            frame farther away is attended to.

    Returns:
        (B, H, T, E).
    """
    seed = draw_seed() if dropout else 0
    keeps = torch.is_grad_enabled() and distances.offsets.shape[2] <= MOST_KEPT
    found: Tensor = _Nearby.apply(query, key, value, mask, *distances, dropout, seed, keeps)
    return found


class _Nearby(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, dropout, seed, keeps = inputs
        ctx.settings = dropout, seed
        scored = _Scored(tensors, *ctx.settings)
        found, to_keep = torch.empty_like(scored.asked), []
        for blocks in scored.groups():
            weights = used = scored.weights(blocks)
            if dropout:
                used = (weights * scored.factors(weights, blocks)).to(weights.dtype)
            found[:, :, blocks] = used @ scored.near(scored.value, blocks)
            if keeps:
                to_keep.append(weights)
        ctx.save_for_backward(*tensors, *to_keep)
        return scored.unblocked(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        saved = ctx.saved_tensors
        tensors, kept_weights = saved[:7], saved[7:]
        scored = _Scored(tensors, *ctx.settings)
        asked, placed, offsets = scored.asked, scored.placed, scored.offsets
        dtype, gradient = asked.dtype, scored.blocked(gradient)
        to_asked, to_placed = torch.empty_like(asked), torch.empty_like(placed)
        to_key, to_value, to_offsets = (
            torch.zeros_like(each, dtype=scored.wide)
            for each in (scored.key, scored.value, offsets)
        )
        for number, blocks in enumerate(scored.groups()):
            weights = used = kept_weights[number] if kept_weights else scored.weights(blocks)
            back = gradient[:, :, blocks]
            slope = back @ scored.near(scored.value, blocks).transpose(3, 4)
            if scored.dropout:
                factors = scored.factors(weights, blocks)
                slope, used = ((each * factors).to(dtype) for each in (slope, weights))
            scored.add_near(to_value, used.transpose(3, 4) @ back, blocks)
            slope = torch.ops.aten._softmax_backward_data(slope, weights, 4, dtype)
            to_asked[:, :, blocks] = slope @ scored.near(scored.key, blocks)
            scored.add_near(to_key, slope.transpose(3, 4) @ asked[:, :, blocks], blocks)
            by_offset = band(slope, offsets.shape[2]).transpose(0, 1).flatten(1, 3)
            rows = placed[:, :, blocks]
            to_offsets += rows.flatten(1, 3).transpose(1, 2) @ by_offset
            to_placed[:, :, blocks] = (by_offset @ offsets.transpose(1, 2)).view_as(rows)
        to_asked, to_placed = (
            scored.unblocked(each).mul_(scored.scale)
            for each in (to_asked, to_placed.transpose(0, 1))
        )
        biases = (each.sum((0, 2), dtype=scored.wide) for each in (to_asked, to_placed))
        keys, values = (scored.inner(each).to(dtype) for each in (to_key, to_value))
        beside = (*biases, to_offsets.to(dtype))
        return to_asked + to_placed, keys, values, None, *beside, None, None, None


class _Scored:
    """Weights of blocks, as both passes ask for them."""

    def __init__(self, tensors: Any, dropout: float, seed: int) -> None:
        query, key, value, mask, content_bias, position_bias, self.offsets = tensors
        self.dropout, self.seed = dropout, seed
        self.num_frames = query.shape[2]
        self.num_rows = -(-self.num_frames // BLOCK_ROWS) * BLOCK_ROWS  # nR
        context = self.offsets.shape[2] // 2
        self.num_columns = BLOCK_ROWS + 2 * context
        # Of what blocks add up to, under any autocast.
        self.wide = torch.promote_types(query.dtype, torch.float32)
        self.scale = query.shape[3] ** -0.5
        biases = (each[:, None].to(query.dtype) for each in (content_bias, position_bias))
        of_content, of_position = ((query + each) * self.scale for each in biases)
        self.asked = self.blocked(of_content)
        # Heads first: they alone have offsets of their own.
        self.placed = self.blocked(of_position).transpose(0, 1).contiguous()
        # (B, H, C + nR + C, E), zeros where there are no frames.
        after = self.num_rows - self.num_frames
        edges = (context, context + after)
        self.key, self.value = (functional.pad(each, (0, 0, *edges)) for each in (key, value))
        if mask is None:
            mask = query.new_zeros(1, 1, 1, self.num_frames)
        rows_after = after if mask.shape[2] > 1 else 0
        mask = functional.pad(mask.to(query.dtype), (*edges, 0, rows_after), value=MASKED)
        by_offset = band(mask.expand(-1, -1, self.num_rows, -1), self.offsets.shape[2])
        self.mask = by_offset.unflatten(2, (-1, BLOCK_ROWS))  # (1 or B, 1, n, R, 2C + 1)

    def groups(self) -> list[slice]:
        """Blocks that are scored at once: as many in each group, but for the last."""
        batch, heads, num_blocks, *_ = self.asked.shape
        most = max(SCORES_AT_ONCE // (batch * heads * BLOCK_ROWS * self.num_columns), 1)
        many = -(-num_blocks // -(-num_blocks // most))
        return [slice(n, min(n + many, num_blocks)) for n in range(0, num_blocks, many)]

    def weights(self, blocks: slice) -> Tensor:
        """(B, H, blocks, R, R + 2C) before any are dropped, 0 beyond the context."""
        asked, placed = self.asked[:, :, blocks], self.placed[:, :, blocks]
        by_offset = (placed.flatten(1, 3) @ self.offsets).unflatten(1, placed.shape[1:4])
        scores = asked.new_full((*asked.shape[:4], self.num_columns), MASKED)
        near = band(scores, self.offsets.shape[2])
        torch.add(by_offset.transpose(0, 1), self.mask[:, :, blocks], out=near)
        scores = scores.flatten(0, 2)
        key = self.near(self.key, blocks).flatten(0, 2)
        scores.baddbmm_(asked.flatten(0, 2), key.transpose(1, 2))
        return scores.softmax(2).view(*asked.shape[:4], -1)

    def factors(self, weights: Tensor, blocks: slice) -> Tensor:
        """What weights are multiplied by, for some to be dropped; the same in both passes."""
        return kept(weights.shape, self.dropout, self.seed + blocks.start)

    def near(self, padded: Tensor, blocks: slice) -> Tensor:
        """Frames of blocks and their neighbours, (B, H, blocks, R + 2C, E)."""
        return self._windows(padded)[:, :, blocks].contiguous()

    def add_near(self, padded: Tensor, found: Tensor, blocks: slice) -> None:
        """Add (B, H, blocks, R + 2C, E) to the frames that `near` took it from."""
        windows = self._windows(padded)[:, :, blocks]
        apart = -(-self.num_columns // BLOCK_ROWS)  # blocks so far apart share no neighbour
        for n in range(apart):
            windows[:, :, n::apart] += found[:, :, n::apart]

    def inner(self, padded: Tensor) -> Tensor:
        """(B, H, C + nR + C, E) as (B, H, T, E)."""
        start = self.offsets.shape[2] // 2
        return padded[:, :, start : start + self.num_frames]

    def blocked(self, frames: Tensor) -> Tensor:
        """(B, H, T, E) as (B, H, n, R, E), the last block filled up with zeros."""
        after = self.num_rows - self.num_frames
        return functional.pad(frames, (0, 0, 0, after)).unflatten(2, (-1, BLOCK_ROWS))

    def unblocked(self, blocks: Tensor) -> Tensor:
        """(B, H, n, R, E) as (B, H, T, E)."""
        return blocks.flatten(2, 3)[:, :, : self.num_frames]

    def _windows(self, padded: Tensor) -> Tensor:
        return padded.unfold(2, self.num_columns, BLOCK_ROWS).transpose(3, 4)


def band(scores: Tensor, width: int) -> Tensor:
    """Of row i columns i to i + width - 1, no copy: (..., R, R + width - 1) to (..., R, width)."""
    return scores.unfold(-1, width, 1).diagonal(dim1=-3, dim2=-2).transpose(-2, -1)
