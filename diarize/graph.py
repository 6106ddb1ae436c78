"""Whether a network is being written as a graph, which knows neither branches nor loops.

What is done only where it pays, such as masking where something is padded, a graph does always;
what is done block by block to save memory, it does at once.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

_written = False


def is_written() -> bool:
    """Whether networks run as they are to be written."""
    return _written


@contextmanager
def as_written() -> Iterator[None]:
    """Run networks as they are to be written, all of this process."""
    global _written
    before, _written = _written, True
    try:
        yield
    finally:
        _written = before


def taken(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """What lies at places along an axis, whose dimension becomes those of the index.

    Indexing by brackets says the same, but torch's exporter makes a chain of operators of it, and
    of this a single one.

    Args:
        tensor: of any shape.
        dim: the axis, from 0.
        index: of any shape.
    """
    return tensor.index_select(dim, index.flatten()).unflatten(dim, index.shape)


def full_precision(device: str) -> AbstractContextManager[object]:
    """Whatever the autocast; a graph has none.

    Args:
        device: kind of device.
    """
    return nullcontext() if is_written() else torch.autocast(device, enabled=False)
