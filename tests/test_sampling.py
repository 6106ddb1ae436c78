"""What batch ``k`` is made of: shares, schedules, and an order that can be resumed."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.data import BatchOrder, Draw, Lane, StreamSampler

SIMULATED = Lane(0, 0, 4, 1.0)
RECORDED = [
    Lane(1, 0, 3, 0.6, recorded=True),
    Lane(1, 1, 1, 0.3, recorded=True),
    Lane(2, 0, 2, 0.1, recorded=True),
]


def half(batch: np.ndarray) -> np.ndarray:
    return np.full(len(batch), 0.5)


def order(lanes: Sequence[Lane] = (SIMULATED, *RECORDED), seed: int = 0) -> BatchOrder:
    return BatchOrder(lanes, seed, half)


def batches(
    of: BatchOrder, num: int, first: int = 0, rank: int = 0, num_ranks: int = 1
) -> list[Draw]:
    return list(StreamSampler(of, num, lambda: first, rank, num_ranks))


# ---- kinds take turns


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("first", [0, 37, 100_000])
def test_kinds_take_turns_by_their_shares(seed: int, first: int) -> None:
    """Among any batches in a row, each kind has its share, give or take two."""
    of = order(seed=seed)
    lanes = of.lanes_of(first, 1000)
    wanted = [0.5, 0.3, 0.15, 0.05]
    for count in (10, 100, 999):
        found = np.bincount(lanes[:count], minlength=4)
        assert found == pytest.approx(np.multiply(wanted, count), abs=2)


def test_seeds_have_orders_of_their_own() -> None:
    firsts = {tuple(order(seed=seed).lanes_of(0, 12)) for seed in range(10)}
    assert len(firsts) > 5


def test_weights_are_of_one_another() -> None:
    lanes = [Lane(0, 0, 1, 30.0, recorded=True), Lane(1, 0, 1, 10.0, recorded=True)]
    found = Counter(BatchOrder(lanes, 0).lanes_of(0, 400).tolist())
    assert found[0] == pytest.approx(300, abs=2)


@pytest.mark.parametrize("lane", [SIMULATED, RECORDED[0]])
def test_one_kind_is_all_there_is(lane: Lane) -> None:
    assert set(BatchOrder([lane], 3).lanes_of(0, 50)) == {0}


def test_a_share_may_rise() -> None:
    def rises(batch: np.ndarray) -> np.ndarray:
        return np.clip((batch - 100) / 200, 0, 0.5)

    of = BatchOrder([RECORDED[0], SIMULATED], 0, rises)
    recorded = np.array([of.lanes[lane].recorded for lane in of.lanes_of(0, 600)])
    assert not recorded[:101].any()
    assert recorded[100:200].sum() == pytest.approx(25, abs=2)
    assert recorded[200:600].sum() == pytest.approx(200, abs=3)


def test_no_share_is_no_batch() -> None:
    of = BatchOrder([SIMULATED, *RECORDED], 0, lambda batch: np.zeros(len(batch)))
    assert {draw.source for draw in batches(of, 300)} == {0}
    of = BatchOrder([SIMULATED, *RECORDED], 0, lambda batch: np.ones(len(batch)))
    assert {draw.source for draw in batches(of, 300)} == {1, 2}


def test_earlier_batches_are_counted_by_kind() -> None:
    of = order()
    for batch in (0, 1, 5000, 9000):
        assert of.counts(batch).tolist() == np.bincount(of.lanes_of(0, batch), minlength=4).tolist()


# ---- which examples

sizes = st.integers(1, 4)
counts = st.integers(0, 12)


@given(num_ranks=sizes, num_batches=counts, seed=st.integers(0, 9))
@settings(deadline=None, max_examples=40)
def test_every_example_is_seen_once_over_steps_and_ranks(
    num_ranks: int, num_batches: int, seed: int
) -> None:
    of = order(seed=seed)
    ranks = [batches(of, num_batches, 0, rank, num_ranks) for rank in range(num_ranks)]
    assert {len(drawn) for drawn in ranks} == {num_batches}
    seen: dict[tuple[int, int], list[int]] = {}
    for drawn in ranks:
        for draw in drawn:
            numbers = seen.setdefault((draw.source, draw.bucket), [])
            numbers += range(draw.first, draw.first + draw.size)
    for numbers in seen.values():
        assert sorted(numbers) == list(range(len(numbers)))
    # All ranks have batches of one kind at a time.
    for together in zip(*ranks, strict=True):
        assert len({(draw.source, draw.bucket, draw.size) for draw in together}) == 1


@given(num_ranks=sizes, num_batches=counts, data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_resumed_run_sees_the_tail(num_ranks: int, num_batches: int, data: st.DataObject) -> None:
    done = data.draw(st.integers(0, num_batches))
    rank = data.draw(st.integers(0, num_ranks - 1))
    whole = batches(order(), num_batches, 0, rank, num_ranks)
    assert batches(order(), num_batches, done, rank, num_ranks) == whole[done:]
    assert len(StreamSampler(order(), num_batches)) == num_batches


def test_a_long_run_is_resumed_late() -> None:
    whole = batches(order(), 10_000)
    assert batches(order(), 10_000, 8_765) == whole[8_765:]


def test_the_step_is_asked_when_batches_are_drawn() -> None:
    step = 0
    sampler = StreamSampler(BatchOrder([Lane(0, 0, 2, 1.0)], 0), 3, lambda: step)
    step = 2
    assert list(sampler) == [Draw(0, 0, 4, 2)]
