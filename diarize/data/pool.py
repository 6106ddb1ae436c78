"""Windows drawn at random from recorded sessions, so that an epoch is well defined.

Every session has as many places as it is windows long, at least one. A place is a part of what a
window may begin at: parts weigh the same, and a window drawn at a place begins at random within
its part. In an epoch every place is drawn once. Which place and which window draw ``number`` of a
bucket is, the seed and the number decide, whoever asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diarize.data.batch import Batch, Collate, Example
from diarize.data.draws import DrawConfig, SessionDraws
from diarize.data.recorded import Stretch, refuse_short
from diarize.data.sampling import Draw
from diarize.data.windows import Frames
from diarize.recording import Kind

TOGETHER = 4
"""Shards whose sessions are shuffled with one another."""


@dataclass(frozen=True)
class BatchSizes:
    """How many windows make a batch.

    Attributes:
        count: windows, where ``seconds`` is None.
        seconds: of all windows of a batch, at most, the padding counted.
        quadratic: a window of d seconds counts as d + d * d / quadratic; None: as d.
        buckets: windows of like length are batched together, in so many groups.
    """

    count: int
    seconds: float | None = None
    quadratic: float | None = None
    buckets: int = 1

    def of(self, longest: float) -> int:
        """Windows of a batch whose longest has so many seconds."""
        if self.seconds is None:
            return self.count
        return max(int(self.seconds / self.cost(longest) + 1e-9), 1)

    def cost(self, duration: float) -> float:
        """Seconds that a window counts as."""
        return duration + (duration * duration / self.quadratic if self.quadratic else 0.0)


@dataclass(frozen=True, eq=False)
class Bucket:
    """Places whose windows are about as long.

    Attributes:
        session: (place,) index of the session of each.
        part: (place,) which part of its session it is.
        batch_size: windows of a batch.
    """

    session: Frames
    part: Frames
    batch_size: int

    @property
    def num_batches(self) -> float:
        """Batches of an epoch, the last one in part."""
        return len(self.session) / self.batch_size


class WindowPool:
    """Windows at random places of recorded sessions.

    Args:
        sessions: what they are drawn from.
        window: seconds of a window; shorter sessions are taken whole.
        draw: which windows.
        seed: of the draws; another pool of the run has another.
        num_slots: most speakers of a window of audio, where its session has such windows; None
            is any number.
        sizes: how many windows make a batch.

    Attributes:
        buckets: groups of places; which of them a batch is from, its sampler decides.

    Raises:
        ManifestError: if a session has no row of features as long as a window.
    """

    def __init__(
        self,
        sessions: Sequence[Stretch],
        window: float,
        draw: DrawConfig,
        seed: Sequence[int],
        num_slots: int | None = None,
        sizes: BatchSizes | None = None,
    ) -> None:
        for stretch in sessions:
            refuse_short(stretch, window, "data.window")
        self._sessions = [SessionDraws(s, window, draw, num_slots) for s in sessions]
        self._window, self._seed = window, list(seed)
        lengths = np.array([min(window, s.duration) for s in sessions])
        counts = np.array([max(round(s.duration / window), 1) for s in sessions])
        session = np.repeat(np.arange(len(counts)), counts)
        part = np.arange(len(session)) - np.repeat(counts.cumsum() - counts, counts)
        self._counts = counts
        self._shards = np.array([s.shard for s in sessions])
        self.buckets = _buckets(session, part, lengths, sizes or BatchSizes(1))
        self._orders: dict[int, tuple[int, Frames]] = {}

    def check(self, hears: Kind, num_slots: int) -> None:
        """See that a model can learn from it, before any window is cut.

        Args:
            hears: what the model hears.
            num_slots: classes that it tells apart in a window; audio may have more.

        Raises:
            ManifestError: if a session is something else.
            ConfigError: if a window of features may have more classes.
        """
        for session in self._sessions:
            session.stretch.check(hears, num_slots, self._window)

    def example(self, bucket: int, number: int) -> Example:
        """Draw ``number`` of a bucket."""
        of = self.buckets[bucket]
        epoch, place = divmod(number, len(of.session))
        place = int(self._order(bucket, epoch)[place])
        session, part = int(of.session[place]), int(of.part[place])
        rng = np.random.default_rng([*self._seed, 0, bucket, number])
        return self._sessions[session].draw(part, int(self._counts[session]), rng)

    def batch(self, draw: Draw, collate: Collate) -> Batch:
        """The windows of these draws."""
        return collate([self.example(draw.bucket, number) for number in draw.numbers])

    def _order(self, bucket: int, epoch: int) -> Frames:
        """(place,) the places of a bucket in the order of an epoch, a few shards at a time."""
        known = self._orders.get(bucket)
        if known is None or known[0] != epoch:
            # All buckets have the shards in one order, so that they are read once.
            rng = np.random.default_rng([*self._seed, 2, epoch])
            turn = rng.permutation(self._shards.max() + 1) // TOGETHER
            places = self.buckets[bucket].session
            rng = np.random.default_rng([*self._seed, 1, bucket, epoch])
            order = np.lexsort((rng.permutation(len(places)), turn[self._shards[places]]))
            known = self._orders[bucket] = epoch, order
        return known[1]


def _buckets(
    session: Frames, part: Frames, lengths: NDArray[np.float64], sizes: BatchSizes
) -> list[Bucket]:
    """Places by the length of their windows, in groups of about as many seconds each.

    A group with fewer places than a batch has windows joins its neighbour, since a batch of it
    would hold a place twice.
    """
    lasting = lengths[session]
    ascending = np.sort(lasting)
    until = ascending.cumsum()
    num_buckets = 1 if sizes.seconds is None else sizes.buckets
    goals = until[-1] * np.arange(1, num_buckets) / num_buckets
    borders = np.unique(ascending[np.searchsorted(until, goals)])
    group = np.searchsorted(borders, lasting)
    found: list[Frames] = []
    for number in range(len(borders) + 1):
        places = np.flatnonzero(group == number)
        if found and len(found[-1]) < sizes.of(float(lasting[found[-1]].max())):
            places = np.concatenate([found.pop(), places])
        if places.size:
            found.append(places)
    if len(found) > 1 and len(found[-1]) < sizes.of(float(lasting[found[-1]].max())):
        last = found.pop()
        found[-1] = np.concatenate([found[-1], last])
    return [
        Bucket(session[places], part[places], sizes.of(float(lasting[places].max())))
        for places in found
    ]
