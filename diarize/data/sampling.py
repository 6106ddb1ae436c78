"""Which examples batch ``k`` of a run is made of: the seed and ``k`` alone decide.

So a run that stops and goes on sees the batches of one that does not, whatever its workers; there
is nothing to remember but the step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from diarize.data.batch import Batch, Collate

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, without their whole part, cover 0 to 1 evenly however many there are."""

BLOCK = 4096
"""Batches that are looked ahead at once."""


class Draw(NamedTuple):
    """What a batch is made of: examples ``first`` to ``first + size`` of a bucket of a source."""

    source: int
    bucket: int
    first: int
    size: int

    @property
    def numbers(self) -> range:
        """Of the examples."""
        return range(self.first, self.first + self.size)


class Source(Protocol):
    """Batches without end; each is made of numbered examples of a bucket."""

    def batch(self, draw: Draw, collate: Collate) -> Batch:
        """The batch that a sampler draws, whoever asks, whenever."""


@dataclass(frozen=True)
class Lane:
    """Batches of one kind.

    Attributes:
        source: index of what they are made of.
        bucket: of that source.
        batch_size: examples of a batch.
        share: of the batches of a run; where a `BatchOrder` has recorded and simulated lanes, of
            the batches of either.
        recorded: whether it is recorded.
    """

    source: int
    bucket: int
    batch_size: int
    share: float
    recorded: bool = False


class BatchOrder:
    """The kind of batch ``k``, and how many of its kind came before it.

    Kinds take turns as evenly as their shares allow: among any batches in a row there are as many
    of a kind as its share says, give or take a few. All processes that train together have
    batches of one kind at a time, so that none waits for the others.

    Args:
        lanes: the kinds.
        seed: where the first turn falls.
        recorded_share: batches (k,) to the share of recorded ones (k,), 0 to 1, where there are
            recorded and simulated lanes.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        seed: int,
        recorded_share: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None,
    ) -> None:
        # Simulated ones first: a share that rises then takes from one side alone.
        self.lanes = sorted(lanes, key=lambda lane: lane.recorded)
        self._recorded_share = recorded_share
        self._begin = float(np.random.default_rng([seed, 1]).random())
        self._recorded = np.array([lane.recorded for lane in self.lanes])
        shares = np.array([lane.share for lane in self.lanes])
        total = np.array([shares[self._recorded == kind].sum() for kind in (False, True)])
        self._shares = shares / total[self._recorded.astype(int)]

    def lanes_of(self, first: int, count: int) -> NDArray[np.int64]:
        """(count,) index of the lane of each batch from ``first`` on."""
        number = np.arange(first, first + count)
        if self._recorded.all() or not self._recorded.any():
            recorded = np.full(count, float(self._recorded.any()))
        else:
            assert self._recorded_share is not None
            recorded = self._recorded_share(number)
        shares = np.where(self._recorded, recorded[:, None], 1 - recorded[:, None]) * self._shares
        place = (self._begin + number * GOLDEN) % 1.0
        borders = shares.cumsum(axis=1)
        # The last border is 1 but for rounding, and a lane of no share begins where it ends.
        return np.asarray((place[:, None] * borders[:, -1:] >= borders).sum(axis=1))

    def counts(self, batch: int) -> NDArray[np.int64]:
        """(lane,) how many of the batches before ``batch`` are of each lane."""
        found = np.zeros(len(self.lanes), dtype=np.int64)
        for first in range(0, batch, BLOCK):
            lanes = self.lanes_of(first, min(BLOCK, batch - first))
            found += np.bincount(lanes, minlength=len(self.lanes))
        return found


class StreamSampler(Sampler[Draw]):
    """Batches in their order, the same whether or not a run is resumed on its way.

    The ``c``-th batch of a lane takes, in rank ``r`` of R ranks, the examples
    ``[(c * R + r) * B, (c * R + r + 1) * B)`` of the lane's bucket, B being the lane's batch size:
    no example twice, over steps and over ranks.

    Args:
        order: of kinds.
        num_batches: of the whole training, for each rank.
        first_batch: asked at each start, how many of them are already done.
        rank: of this process.
        num_ranks: how many processes train together.
    """

    def __init__(
        self,
        order: BatchOrder,
        num_batches: int,
        first_batch: Callable[[], int] = lambda: 0,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self._order, self._num_batches, self._first_batch = order, num_batches, first_batch
        self._rank, self._num_ranks = rank, num_ranks

    def __len__(self) -> int:
        return self._num_batches

    def __iter__(self) -> Iterator[Draw]:
        begin = self._first_batch()
        counts = self._order.counts(begin)
        for first in range(begin, self._num_batches, BLOCK):
            for number in self._order.lanes_of(first, min(BLOCK, self._num_batches - first)):
                lane = self._order.lanes[number]
                first_example = (counts[number] * self._num_ranks + self._rank) * lane.batch_size
                counts[number] += 1
                yield Draw(lane.source, lane.bucket, int(first_example), lane.batch_size)


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
