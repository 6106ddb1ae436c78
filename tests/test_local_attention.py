"""Attention to neighbours, many blocks at once, against the formula in float64."""

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diarize import local_attention
from diarize.attention import MASKED, Distances
from diarize.dropout import kept
from diarize.local_attention import attend_nearby, band


class Inputs(NamedTuple):
    """Of `attend_nearby`, all of which learn."""

    query: Tensor
    key: Tensor
    value: Tensor
    content_bias: Tensor
    position_bias: Tensor
    offsets: Tensor

    def attend(self, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
        return attend_nearby(*self[:3], mask, dropout, Distances(*self[3:]))


def drawn(frames: int, context: int, batch: int = 2, heads: int = 2, channels: int = 3) -> Inputs:
    shapes = [(batch, frames, heads, channels)] * 3 + [(heads, channels)] * 2
    shapes += [(heads, channels, 2 * context + 1)]
    tensors = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    return Inputs(*(each.transpose(1, 2) for each in tensors[:3]), *tensors[3:])


def plain(inputs: Inputs, mask: Tensor | None = None, factors: Tensor | float = 1.0) -> Tensor:
    """The formula, all frames at once; ``factors`` (B, H, T, T) drop weights."""
    query, key, value, content_bias, position_bias, offsets = inputs
    context, frames = offsets.shape[2] // 2, torch.arange(query.shape[2])
    apart = frames[:, None] - frames
    by_offset = (query + position_bias[:, None]) @ offsets
    columns = (context - apart).clamp(0, 2 * context).expand(*query.shape[:2], -1, -1)
    scores = (query + content_bias[:, None]) @ key.transpose(2, 3) + by_offset.gather(3, columns)
    scores = scores / math.sqrt(query.shape[3])
    if mask is not None:
        scores = scores + mask
    scores = scores.masked_fill(apart.abs() > context, -math.inf)
    seen = (scores > MASKED / 2).any(dim=3, keepdim=True)  # else a frame has no meaning
    return torch.where(seen, (scores.softmax(3) * factors) @ value, math.nan)


def both(inputs: Inputs, ours: Tensor, expected: Tensor) -> None:
    """Values and gradients are the same, to the rounding of float64, where they have a meaning."""
    meant = ~expected.isnan()
    torch.testing.assert_close(ours[meant], expected[meant])
    back = torch.where(meant, torch.randn_like(expected), 0.0)
    found, right = (torch.autograd.grad(each, inputs, back) for each in (ours, expected))
    for name, gradient, known in zip(inputs._fields, found, right, strict=True):
        torch.testing.assert_close(gradient, known, msg=lambda m, n=name: f"{n}: {m}")


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 20),
    context=st.integers(0, 24),
    rows=st.integers(1, 24),
    scores=st.sampled_from([1, 300, 1 << 20]),
    keeps=st.booleans(),
    masked=st.sampled_from(["no", "padding", "rows"]),
    seed=st.integers(0, 99),
)
def test_frames_attend_to_their_neighbours(
    batch: int,
    frames: int,
    context: int,
    rows: int,
    scores: int,
    keeps: bool,
    masked: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    inputs, mask = drawn(frames, context, batch), None
    if masked != "no":
        shape = (batch, 1, frames if masked == "rows" else 1, frames)
        mask = torch.where(torch.rand(shape) < 0.3, MASKED, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_attention, "BLOCK_ROWS", rows)
        patch.setattr(local_attention, "SCORES_AT_ONCE", scores)
        patch.setattr(local_attention, "MOST_KEPT", 1000 if keeps else 0)
        both(inputs, inputs.attend(mask), plain(inputs, mask))


def test_one_mask_serves_all_items() -> None:
    inputs = drawn(100, 5, batch=3)
    mask = torch.where(torch.rand(1, 1, 100, 100) < 0.3, MASKED, 0.0)
    both(inputs, inputs.attend(mask), plain(inputs, mask))


@pytest.mark.parametrize("keeps", [False, True])
def test_what_is_dropped_is_dropped_again(keeps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, context, rows = 10, 2, 4
    monkeypatch.setattr(local_attention, "BLOCK_ROWS", rows)
    monkeypatch.setattr(local_attention, "SCORES_AT_ONCE", 1)  # a block at a time
    monkeypatch.setattr(local_attention, "MOST_KEPT", 1000 if keeps else 0)
    monkeypatch.setattr(local_attention, "draw_seed", lambda: 11)
    inputs = drawn(frames, context)
    factors = torch.ones(2, 2, 12, 2 + 12 + 2)
    for block, start in enumerate(range(0, 12, rows)):
        drops = kept((2, 2, 1, rows, rows + 2 * context), 0.4, 11 + block)[:, :, 0]
        factors[:, :, start : start + rows, start : start + rows + 2 * context] = drops
    expected = plain(inputs, None, factors[:, :, :frames, context : context + frames])
    both(inputs, inputs.attend(dropout=0.4), expected)


def test_other_frames_are_dropped_in_another_step() -> None:
    inputs = drawn(10, 3)
    assert not torch.allclose(inputs.attend(dropout=0.4), inputs.attend(dropout=0.4))


@pytest.mark.parametrize(("context", "kept_weights"), [(3, 2 * 2 * 144 * 54), (300, 0)])
def test_weights_are_kept_where_they_are_few(context: int, kept_weights: int) -> None:
    inputs, sizes = drawn(100, context), list[int]()
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        inputs.attend()
    assert sum(sizes) == sum(each.numel() for each in inputs) + kept_weights


def test_no_more_scores_are_made_at_once_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    softmax = Tensor.softmax

    def measured(scores: Tensor, dim: int) -> Tensor:
        sizes.append(scores.numel())
        return softmax(scores, dim)

    block = 2 * 2 * 48 * (48 + 2 * 8)
    monkeypatch.setattr(local_attention, "SCORES_AT_ONCE", 3 * block + 1)
    monkeypatch.setattr(Tensor, "softmax", measured)
    with torch.no_grad():
        drawn(48 * 7, 8).attend()
    assert sizes == [3 * block, 3 * block, block]


def test_a_frame_that_may_attend_to_none_has_finite_gradients() -> None:
    inputs = drawn(5, 1)
    found = inputs.attend(torch.full((1, 1, 1, 5), MASKED))
    gradients = torch.autograd.grad(found.sum(), inputs)
    assert all(each.isfinite().all() for each in gradients)


def test_bfloat16_gives_nearly_the_same() -> None:
    inputs = drawn(150, 8, channels=8)
    expected = plain(inputs)
    back = torch.randn_like(expected)
    halved = Inputs(
        *(
            each.detach().to(torch.float32 if name.endswith("bias") else torch.bfloat16)
            for name, each in inputs._asdict().items()
        )
    )
    for each in halved:
        each.requires_grad_()
    ours = halved.attend()
    assert ours.dtype == torch.bfloat16
    found = [ours, *torch.autograd.grad(ours, halved, back.to(ours.dtype))]
    right = [expected, *torch.autograd.grad(expected, inputs, back)]
    for half, full in zip(found, right, strict=True):
        error = (half.double() - full).norm() / full.norm()
        assert error < 0.02


def test_a_band_is_written_in_its_place() -> None:
    scores = torch.zeros(2, 3, 5)
    band(scores, 3).copy_(torch.ones(3, 3))
    assert scores[1].tolist() == [[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]
