"""Activation, dropout and linear map as one, of which a CPU keeps the input alone.

torch would keep what goes into the linear map too, and where something is dropped also what was
dropped: of a layer of `conf/base.yaml`, half of all that its feed-forward modules keep.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from diarize.dropout import Dropout, draw_seed, kept

Activation = Callable[[Tensor], Tensor]


def project(
    hidden: Tensor, activation: Activation, linear: nn.Linear, dropout: Dropout | None = None
) -> Tensor:
    """The linear map of what is active in (..., D) and was not dropped."""
    if hidden.is_cpu and torch.is_grad_enabled():
        share = dropout.p if dropout is not None and dropout.training else 0.0
        if share < 1:
            return _projected(hidden, linear.weight, linear.bias, activation, share)
    active = activation(hidden)
    projected: Tensor = linear(active if dropout is None else dropout(active))
    return projected


@torch.compiler.disable
def _projected(*inputs: Any) -> Tensor:
    found: Tensor = _Projected.apply(*inputs, draw_seed() if inputs[-1] else 0)
    return found


class _Projected(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        activation: Activation,
        share: float,
        seed: int,
    ) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        ctx.settings = activation, share, seed
        active = activation(hidden)
        if share:
            active *= kept(active.shape, share, seed)
        return functional.linear(active, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:
        hidden, weight = ctx.saved_tensors
        activation, share, seed = ctx.settings
        with torch.enable_grad():
            hidden = hidden.detach().requires_grad_()
            active = activation(hidden)
        # Under autocast, products are of the gradient's type, all else of the input's.
        to_used = (gradient @ weight.to(gradient.dtype)).to(hidden.dtype)
        used = active.detach()
        if share:
            factors = kept(used.shape, share, seed).to(used.dtype)
            to_used *= factors
            used = factors.mul_(used)
        (to_hidden,) = torch.autograd.grad(active, hidden, to_used)
        rows, used = gradient.flatten(0, -2), used.flatten(0, -2).to(gradient.dtype)
        to_weight = rows.t() @ used if ctx.needs_input_grad[1] else None
        to_bias = rows.sum(0) if ctx.needs_input_grad[2] else None
        return to_hidden, to_weight, to_bias, None, None, None
