"""Room for more speakers than a model was trained with."""

import re

import torch
from torch import Tensor

from diarize.errors import ConfigError

ROWS = re.compile(r"head\.output\.|encoder\.heads\.\d+\.1\.|encoder\.places$")
"""Tensors of a `Diarizer` that have a row, or a number, for each slot."""


def more_slots(known: Tensor, count: int) -> Tensor:
    """Rows of known slots, and new ones that say nothing of what those say.

    New rows are orthogonal to all others and as long as the known ones are on average, so that a
    new slot begins as loud as a known one, and as none of them; of numbers, they have the mean.

    Args:
        known: (S, W), or (S,), of a trained model.
        count: slots of the new one, at least S.

    Returns:
        (count, W) or (count,), the known ones first.

    Raises:
        ConfigError: if so many rows cannot be orthogonal.
    """
    if known.ndim == 1:
        return torch.cat([known, known.mean().expand(count - len(known))])
    width = known.shape[1]
    if count > width:
        raise ConfigError(
            f"num_slots is {count}, but rows of {width} numbers are orthogonal up to {width} "
            "of them. Lower it."
        )
    drawn = torch.randn(width, count - len(known), dtype=torch.float64)
    spanned, _ = torch.linalg.qr(torch.cat([known.T.double(), drawn], dim=1))
    length = known.double().norm(dim=1).mean()
    new = spanned[:, len(known) :].T * length
    return torch.cat([known, new.to(known.dtype)])
