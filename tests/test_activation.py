"""Activation, dropout and linear map as one: as apart, and with less kept."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.activation import Activation, project
from diarize.dropout import Dropout


@pytest.mark.parametrize("activation", [functional.silu, functional.relu, functional.gelu])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_values_and_gradients_are_those_of_the_parts(activation: Activation, share: float) -> None:
    linear, dropout = nn.Linear(6, 3), Dropout(share)
    hidden = torch.randn(2, 5, 6, requires_grad=True)
    weights = (hidden, *linear.parameters())

    def taught(found: Tensor) -> tuple[Tensor, ...]:
        return found, *torch.autograd.grad((found**2).sum(), weights)

    torch.manual_seed(1)
    joined = taught(project(hidden, activation, linear, dropout))
    torch.manual_seed(1)
    apart = taught(linear(dropout(activation(hidden))))
    for found, expected in zip(joined, apart, strict=True):
        torch.testing.assert_close(found, expected)


def test_the_input_alone_is_kept() -> None:
    kept = []
    linear = nn.Linear(6, 3)
    hidden = torch.randn(2, 5, 6, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda tensor: kept.append(tensor) or tensor, lambda tensor: tensor
    ):
        project(hidden, functional.silu, linear, Dropout(0.5))
    assert {tensor.data_ptr() for tensor in kept} == {hidden.data_ptr(), linear.weight.data_ptr()}


def test_a_frozen_map_lets_gradients_through() -> None:
    linear = nn.Linear(6, 3, bias=False).requires_grad_(False)
    hidden = torch.randn(5, 6, requires_grad=True)
    project(hidden, functional.silu, linear).sum().backward()
    assert linear.weight.grad is None and hidden.grad is not None and hidden.grad.abs().sum() > 0


@pytest.mark.parametrize("mode", ["inference", "evaluation", "all dropped"])
def test_elsewhere_it_is_the_parts(mode: str) -> None:
    linear, dropout = nn.Linear(6, 3), Dropout(1.0 if mode == "all dropped" else 0.5)
    dropout.train(mode != "evaluation")
    hidden = torch.randn(5, 6)
    expected = functional.silu(hidden) if mode != "all dropped" else torch.zeros(5, 6)
    with torch.set_grad_enabled(mode != "inference"):
        dropout.train(mode == "all dropped")
        found = project(hidden, functional.silu, linear, dropout)
    torch.testing.assert_close(found, linear(expected))


def test_bfloat16_autocast_gives_nearly_the_same() -> None:
    linear = nn.Linear(6, 3)
    hidden = torch.randn(50, 6, requires_grad=True)
    found = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = (project(hidden, functional.silu, linear).float() ** 2).mean()
        found.append(torch.autograd.grad(loss, (hidden, *linear.parameters())))
    for plain, half in zip(*found, strict=True):
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, plain, atol=0.02 * float(plain.abs().max()), rtol=0.05)
