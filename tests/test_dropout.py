"""Dropout: what is dropped, how much of it, and the same again."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from diarize.dropout import Dropout, draw_seed, kept


def test_a_mask_drops_or_makes_up_for_it() -> None:
    mask = kept((2, 3), 0.5, seed=1)
    assert mask.shape == (2, 3) and set(mask.flatten().tolist()) <= {0.0, 2.0}
    assert torch.equal(mask, kept((2, 3), 0.5, seed=1))
    assert not torch.equal(kept((50,), 0.5, seed=1), kept((50,), 0.5, seed=2))
    assert kept((0, 3), 0.5, seed=1).shape == (0, 3)


@given(st.floats(0.0, 0.999), st.integers(0, 2**63 - 1))
def test_the_share_is_dropped_and_the_mean_stays(share: float, seed: int) -> None:
    """Within six deviations of what as many independent draws would have."""
    count = 10_000
    mask = kept((count,), share, seed)
    deviation = math.sqrt(share * (1 - share) / count)
    assert abs((mask == 0).float().mean().item() - share) <= 6 * deviation + 1e-5
    assert abs(mask.mean().item() - 1) <= (6 * deviation + 1e-5) / (1 - share)


def test_neighbours_are_dropped_independently() -> None:
    dropped = kept((1_000_003,), 0.3, seed=7) == 0
    for apart in (1, 2, 3, 4, 8, 64, 1024):
        both = (dropped[apart:] & dropped[:-apart]).float().mean()
        assert both == pytest.approx(0.09, abs=0.002)


def test_gradients_pass_where_values_did() -> None:
    hidden = torch.ones(40, 50, requires_grad=True)
    dropped = Dropout(0.3)(hidden)
    dropped.sum().backward()
    assert hidden.grad is not None and torch.equal(hidden.grad, dropped.detach())
    assert 0 < (dropped == 0).sum() < 2000


def test_nothing_but_a_seed_is_kept() -> None:
    sizes = []
    hidden = torch.ones(40, 50, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
    ):
        Dropout(0.3)(hidden)
    assert not sizes


def test_one_seed_of_torch_gives_one_mask_then_another() -> None:
    layer, hidden = Dropout(0.5), torch.ones(100)
    torch.manual_seed(3)
    first, second = layer(hidden), layer(hidden)
    torch.manual_seed(3)
    assert torch.equal(layer(hidden), first) and not torch.equal(first, second)
    torch.manual_seed(3)
    assert draw_seed() != draw_seed()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_all_or_nothing_is_as_torch_has_it(share: float) -> None:
    hidden = torch.randn(4, 5)
    assert torch.equal(Dropout(share)(hidden), nn.Dropout(share)(hidden))


def test_dropout_is_for_training_only() -> None:
    hidden = torch.randn(4, 5)
    assert torch.equal(Dropout(0.5).eval()(hidden), hidden)


def test_half_precision_stays() -> None:
    assert Dropout(0.5)(torch.ones(8, dtype=torch.bfloat16)).dtype == torch.bfloat16
