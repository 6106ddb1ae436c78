"""Layers that keep their input alone until the backward pass, and then compute the rest again.

Chen et al. 2016, "Training deep nets with sublinear memory cost", arXiv:1604.06174.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(layer: nn.Module) -> None:
    """Change a layer so that what it computes on its way is not kept.

    Values and gradients are those of before: what is drawn is drawn again from the same state, and
    running statistics learn from a batch once.
    """
    forward = layer.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(layer)

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    layer.forward = forgetful


@contextmanager
def _statistics_kept(layer: nn.Module) -> Iterator[None]:
    """Batch norms see the batch, and leave their running statistics as they are."""
    norms = [part for part in layer.modules() if isinstance(part, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [cast(Tensor, norm.num_batches_tracked).clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            cast(Tensor, norm.num_batches_tracked).copy_(count)
