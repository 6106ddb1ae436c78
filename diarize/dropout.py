"""Dropout of which a CPU draws the masks in a tenth of torch's time, and keeps none.

torch draws them number by number on one core: a third of a step of `conf/base.yaml` on two. Here
a counter of torch's generator seeds one that is faster, and the backward pass draws again what the
forward pass drew, so that a mask costs no memory either.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

LEVELS = 1 << 16
"""Of a drawn number: shares of what is dropped are rounded to one in as many."""


class Dropout(nn.Dropout):
    """`torch.nn.Dropout`, drawn with `kept` on a CPU."""

    def forward(self, hidden: Tensor) -> Tensor:
        """Any shape to the same."""
        if not (self.training and hidden.is_cpu and 0 < self.p < 1):
            return super().forward(hidden)
        return dropped(hidden, self.p)


def draw_seed() -> int:
    """A seed from torch's generator, whose state is thereby another."""
    return int(torch.randint(2**63 - 1, ()))


def kept(shape: Sequence[int], share: float, seed: int) -> Tensor:
    """What to multiply by: 0 where something is dropped, elsewhere what makes up for it.

    Args:
        shape: of the answer, which is float32 and on the CPU.
        share: of what is dropped, below 1.
        seed: from `draw_seed`; one seed and shape give one mask.
    """
    count, lost = math.prod(shape), round(share * LEVELS)
    words = np.random.SFC64(seed).random_raw(-(-count // 4))  # 64 bits each
    drawn = torch.from_numpy(words.view(np.int16)[:count]).view(*shape)
    mask = torch.empty(*shape)
    # Straight to float32: a mask of booleans would take longer than the drawing.
    torch.ge(drawn, lost - LEVELS // 2, out=mask)
    return mask.mul_(LEVELS / max(LEVELS - lost, 1))


@torch.compiler.disable
def dropped(hidden: Tensor, share: float) -> Tensor:
    """Any shape to the same, with a share of it dropped."""
    found: Tensor = _Dropped.apply(hidden, share, draw_seed())
    return found


class _Dropped(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, share: float, seed: int) -> Tensor:
        ctx.drawn = share, seed
        return hidden * kept(hidden.shape, share, seed).to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient * kept(gradient.shape, *ctx.drawn).to(gradient.dtype), None, None
