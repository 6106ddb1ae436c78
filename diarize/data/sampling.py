"""Which examples a batch is made of: their sources, and an order that can be resumed."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from diarize.data.batch import Example
from diarize.turns import Turn


class SimulatedDataset(Dataset[Example]):
    """Sessions that a simulator makes on demand.

    Args:
        session: index to waveform and turns, ``Simulator.session``.
    """

    def __init__(self, session: Callable[[int], tuple[NDArray[np.float32], list[Turn]]]) -> None:
        self._session = session

    def __getitem__(self, index: int) -> Example:
        waveform, turns = self._session(index)
        return Example(f"simulated-{index}", waveform, turns)


class MixedDataset(Dataset[Example]):
    """Simulated and recorded examples in one stream; which one, (seed, index) decides.

    Args:
        simulated: endless source.
        recorded: source that takes over for a share of the indices.
        recorded_share: 0 to 1.
        seed: of the draw.
    """

    def __init__(
        self,
        simulated: Dataset[Example],
        recorded: Dataset[Example],
        recorded_share: float,
        seed: int,
    ) -> None:
        self._simulated, self._recorded = simulated, recorded
        self._share, self._seed = recorded_share, seed

    def __getitem__(self, index: int) -> Example:
        draw = np.random.default_rng([self._seed, index, 1]).random()
        return (self._recorded if draw < self._share else self._simulated)[index]


class StreamSampler(Sampler[list[int]]):
    """Batches of consecutive indices, the same whether or not a run is resumed on its way.

    Step ``k`` of rank ``r`` takes the indices ``[(k * R + r) * B, (k * R + r + 1) * B)`` of R
    ranks and B sessions a batch: no index twice, no order to remember beyond the step.

    Args:
        batch_size: sessions per batch and rank.
        num_steps: steps of the whole training.
        first_step: asked at each start, how many steps are already done.
        rank: of this process.
        num_ranks: how many processes train together.
    """

    def __init__(
        self,
        batch_size: int,
        num_steps: int,
        first_step: Callable[[], int] = lambda: 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._batch_size, self._num_steps, self._first_step = batch_size, num_steps, first_step
        self._rank, self._num_ranks = rank, num_ranks

    def __len__(self) -> int:
        return self._num_steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._first_step(), self._num_steps):
            first = (step * self._num_ranks + self._rank) * self._batch_size
            yield list(range(first, first + self._batch_size))


class SharedBatches(Sampler[list[int]]):
    """Batches of a dataset from first to last, dealt out to the ranks, as many to each.

    Batch ``k`` is that of one process, and rank ``k % R``'s. Where R ranks do not divide their
    number, the last one is given again, since ranks that work together take steps together; what
    it says must not count (`is_first`).

    Args:
        num_examples: of the dataset.
        batch_size: examples per batch.
        rank: of this process.
        num_ranks: how many processes work together.
    """

    def __init__(
        self, num_examples: int, batch_size: int, rank: int = 0, num_ranks: int = 1
    ) -> None:
        self._num_examples, self._batch_size = num_examples, batch_size
        self._rank, self._num_ranks = rank, num_ranks
        self._num_batches = -(-num_examples // batch_size)

    def __len__(self) -> int:
        return -(-self._num_batches // self._num_ranks)

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(len(self)):
            number = min(step * self._num_ranks + self._rank, self._num_batches - 1)
            first = number * self._batch_size
            yield list(range(first, min(first + self._batch_size, self._num_examples)))

    def is_first(self, step: int) -> bool:
        """Whether no rank was given this rank's batch of a step before."""
        return step * self._num_ranks + self._rank < self._num_batches
