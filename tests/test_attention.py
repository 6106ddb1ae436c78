"""Attention whose weights are not kept, against the formula and torch's own gradients."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diarize import attention
from diarize.attention import MASKED, Distances, attend, blocks, shift_rows
from diarize.dropout import kept


def plain(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    distances: Distances | None = None,
    factors: Tensor | float = 1.0,
) -> Tensor:
    """The formula, all frames at once; ``factors`` (B, H, T, U) drop weights."""
    rows, columns = torch.arange(query.shape[2])[:, None], torch.arange(key.shape[2])
    if distances is None:
        scores = query @ key.transpose(2, 3)
    else:
        content_bias, position_bias, offsets = distances
        by_offset = (query + position_bias[:, None]) @ offsets
        frames = (len(rows) - 1 - rows + columns).expand(*query.shape[:2], -1, -1)
        scores = (query + content_bias[:, None]) @ key.transpose(2, 3) + by_offset.gather(3, frames)
    scores = scores / query.shape[3] ** 0.5
    if mask is not None:
        scores = scores + mask
    seen = (scores > MASKED / 2).any(dim=3, keepdim=True)  # else a frame has no meaning
    return torch.where(seen, (scores.softmax(3) * factors) @ value, math.nan)


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def both(inputs: tuple[Tensor, ...], ours: Tensor, expected: Tensor) -> None:
    """Values and gradients are the same, to the rounding of float64, where they have a meaning."""
    meant = ~expected.isnan()
    torch.testing.assert_close(ours[meant], expected[meant])
    back = torch.where(meant, torch.randn_like(expected), 0.0)
    found, right = (torch.autograd.grad(each, inputs, back) for each in (ours, expected))
    for number, (gradient, known) in enumerate(zip(found, right, strict=True)):
        torch.testing.assert_close(gradient, known, msg=lambda m, n=number: f"input {n}: {m}")


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    frames=st.integers(1, 20),
    rows=st.integers(1, 20),
    scored=st.booleans(),
    masked=st.sampled_from(["no", "padding", "rows"]),
    seed=st.integers(0, 99),
)
def test_frames_that_attend_to_one_another(
    batch: int,
    frames: int,
    rows: int,
    scored: bool,
    masked: str,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    heads, channels = 2, 3
    inputs = tuple(drawn(batch, frames, heads, channels).transpose(1, 2) for _ in range(3))
    mask, distances = None, None
    if masked != "no":
        shape = (batch, 1, frames if masked == "rows" else 1, frames)
        mask = torch.where(torch.rand(shape) < 0.3, MASKED, 0.0)
    if scored:
        offsets = drawn(heads, channels, 2 * frames - 1)
        distances = Distances(drawn(heads, channels), drawn(heads, channels), offsets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "BLOCK_ROWS", rows)
        found = attend(*inputs, mask, 0.0, distances)
        expected = plain(*inputs, mask, distances)
        both(inputs + (distances or ()), found, expected)


def test_points_that_attend_to_frames() -> None:
    inputs = drawn(2, 3, 4, 5), drawn(2, 3, 7, 5), drawn(2, 3, 7, 5)
    mask = torch.tensor([0.0] * 6 + [MASKED]).expand(2, 1, 1, 7)
    both(inputs, attend(*inputs, mask, 0.0), plain(*inputs, mask))


@pytest.mark.parametrize("rows", [3, 128])
def test_what_is_dropped_is_dropped_again(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK_ROWS", rows)
    monkeypatch.setattr(attention, "draw_seed", lambda: 11)
    inputs = tuple(drawn(2, 3, 10, 4) for _ in range(3))
    distances = Distances(drawn(3, 4), drawn(3, 4), drawn(3, 4, 19))
    starts = range(0, 10, rows)
    shapes = [(2, 3, min(rows, 10 - start), 10) for start in starts]
    drops = [kept(s, 0.4, 11 + start) for s, start in zip(shapes, starts, strict=True)]
    expected = plain(*inputs, None, distances, factors=torch.cat(drops, dim=2))
    both(inputs + distances, attend(*inputs, None, 0.4, distances), expected)


def test_other_frames_are_dropped_in_another_step() -> None:
    torch.manual_seed(0)
    inputs = tuple(drawn(1, 1, 10, 4) for _ in range(3))
    assert not torch.allclose(attend(*inputs, None, 0.4), attend(*inputs, None, 0.4))


def test_no_weights_are_kept() -> None:
    inputs = tuple(drawn(1, 2, 500, 4) for _ in range(3))
    sizes: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        attend(*inputs, None, 0.4)
    assert sum(sizes) == 3 * 500 * 2 * 4


def test_a_block_holds_no_more_scores_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    softmax = Tensor.softmax

    def measured(scores: Tensor, *args: Any) -> Tensor:
        sizes.append(scores.numel())
        return softmax(scores, *args)

    monkeypatch.setattr(attention, "BLOCK_SCORES", 2 * 3 * 200 * 20)
    monkeypatch.setattr(Tensor, "softmax", measured)
    attend(*(torch.randn(2, 3, 200, 4) for _ in range(3)), None, 0.0)
    assert sizes == [2 * 3 * 200 * 20] * 10


def test_a_frame_that_may_attend_to_none_has_finite_gradients() -> None:
    inputs = tuple(drawn(1, 1, 4, 2) for _ in range(3))
    attend(*inputs, torch.full((1, 1, 1, 4), MASKED), 0.0).sum().backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in inputs)


def test_blocks_cover_all_frames_and_what_lies_near() -> None:
    found = list(blocks(5, 5, 2, 1, torch.device("cpu")))
    assert [(b.rows.start, b.rows.stop) for b in found] == [(0, 2), (2, 4), (4, 5)]
    assert [(b.columns.start, b.columns.stop) for b in found] == [(0, 3), (1, 5), (3, 5)]
    assert found[0].beyond is not None
    assert found[0].beyond.tolist() == [[0, 0, MASKED], [0, 0, 0]]
    (whole,) = blocks(5, 5, 8, None, torch.device("cpu"))
    assert whole.beyond is None and whole.offsets == slice(0, 9)


def test_shifted_rows_hold_the_frames_of_each() -> None:
    """Row i, column c of the scores by offset lies c - (rows - 1) frames from frame i."""
    rows, columns = 3, 4
    distance = torch.arange(columns + rows - 1.0)[None] - (rows - 1) + torch.arange(rows)[:, None]
    expected = torch.arange(float(columns)).expand(1, 1, rows, columns)
    assert torch.equal(shift_rows(distance[None, None]), expected)


def test_bfloat16_gives_nearly_the_same() -> None:
    inputs = [torch.randn(2, 3, 50, 8) for _ in range(3)]
    offsets = [torch.randn(3, 8), torch.randn(3, 8), torch.randn(3, 8, 99)]
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        halved = [each.detach().to(dtype).requires_grad_() for each in inputs]
        distances = [each.clone().requires_grad_() for each in offsets]
        of_halves = Distances(distances[0], distances[1], distances[2].to(dtype))
        (attend(*halved, None, 0.0, of_halves).float() ** 2).mean().backward()
        found.append([each.grad.float() for each in [*halved, *distances] if each.grad is not None])
    assert len(found[0]) == len(found[1]) == 6
    for full, half in zip(*found, strict=True):
        torch.testing.assert_close(half, full, atol=0.05 * float(full.abs().max()), rtol=0.1)
