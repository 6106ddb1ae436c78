"""The speaker cache: what is remembered; tests/parity compares it with NeMo's."""

import math

import pytest
import torch

from diarize.cache import SpeakerCache, judge, keep
from diarize.latency import StreamingConfig

NEVER = 10**6
"""Longer than any recording here."""


@pytest.mark.parametrize(
    "lengths",
    [
        {"chunk": 3, "fifo": 10, "cache": 16, "update": 7},
        {"chunk": 4, "fifo": 0, "cache": 16, "update": 4},
        {"chunk": 9, "fifo": 2, "cache": 40, "update": 5},
        {"chunk": 5, "fifo": NEVER, "cache": 16, "update": 5},
    ],
)
def test_posteriors_before_the_first_judged_are_not_looked_at(lengths: dict[str, int]) -> None:
    """Of frames that it leaves out, nothing is known; all else is remembered as if it were."""
    torch.manual_seed(0)
    config = StreamingConfig(**lengths, silence=1)
    whole, spared = SpeakerCache(config, 6, 3), SpeakerCache(config, 6, 3)
    firsts = set()
    for _ in range(30):
        known, posterior = torch.rand(len(whole), 3), torch.rand(config.chunk, 3)
        chunk = torch.randn(config.chunk, 6)
        first = spared.first_judged(len(chunk))
        firsts.add("none" if first == len(spared) else "queue" if first else "all")
        spared.remember(known[first:], chunk, posterior)
        whole.remember(known, chunk, posterior)
        for name in ("cache", "fifo", "silence"):
            assert torch.equal(getattr(spared, name), getattr(whole, name)), name
        if whole.cache_posterior is not None and spared.cache_posterior is not None:
            assert torch.equal(spared.cache_posterior, whole.cache_posterior)
        assert (spared.cache_posterior is None) == (whole.cache_posterior is None)
    if config.fifo == NEVER:
        assert firsts == {"none"} and not len(whole.cache)
    else:
        assert whole.cache_posterior is not None and len(whole.cache) == config.cache
        assert "all" in firsts and ("queue" in firsts or not config.fifo)


@pytest.mark.parametrize("learned", [False, True])
def test_sessions_side_by_side_are_remembered_as_alone(learned: bool) -> None:
    """To the bit, but for means of silence: which frames are kept hangs on comparisons."""
    config = StreamingConfig(chunk=5, fifo=4, cache=18, update=6, silence=1)
    silence = torch.randn(6) if learned else None
    together = SpeakerCache(config, 6, 3, silence, sessions=(4,))
    alone = [SpeakerCache(config, 6, 3, silence) for _ in range(4)]
    for _ in range(15):
        known, chunk = torch.rand(4, len(together), 3), torch.randn(4, config.chunk, 6)
        posterior = torch.rand(4, config.chunk, 3) * torch.tensor([0.05, 1, 1, 1])[:, None, None]
        together.remember(known, chunk, posterior)
        for row, memory in enumerate(alone):
            memory.remember(known[row], chunk[row], posterior[row])
            tolerance = 0 if learned else 1e-6
            torch.testing.assert_close(memory.cache, together.cache[row], atol=tolerance, rtol=0)
            assert torch.equal(memory.fifo, together.fifo[row])
            if not learned:
                torch.testing.assert_close(memory.silence, together.silence[row])
                assert memory.num_silence == together.num_silence[row]
        assert len(together) == len(alone[0])
        assert together.first_judged(3) == alone[0].first_judged(3)
    assert together.cache_posterior is not None and together.cache.shape == (4, 18, 6)
    for row, memory in enumerate(alone):
        assert torch.equal(memory.cache_posterior, together.cache_posterior[row])
    assert learned or (together.num_silence[0] > 20 and not together.num_silence[1:].all())


def naive_compress(
    posterior: torch.Tensor, config: StreamingConfig, order: list[int]
) -> list[int | None]:
    """Which frame stands in each row of the cache, None for silence: the rules, one by one."""
    num_frames, num_slots = posterior.shape
    rows = config.cache // num_slots - config.silence
    p, least = posterior.double().tolist(), config.threshold
    columns = []
    for slot in order:
        column = []
        for t in range(num_frames):
            ln = [math.log(max(1 - x, least)) for x in p[t]]
            score = math.log(max(p[t][slot], least)) - ln[slot] + sum(ln) - math.log(0.5)
            column.append(score if p[t][slot] > 0.5 else -math.inf)
        if sum(score > 0 for score in column) >= int(config.positive_rate * rows):
            column = [score if score > 0 else -math.inf for score in column]
        for t in range(config.cache, num_frames):
            column[t] += config.latest_boost
        for rate, boost in ((config.strong_rate, 2), (config.weak_rate, 1)):
            best = sorted(range(num_frames), key=lambda t: -column[t])[: int(rate * rows)]
            for t in best:
                column[t] += boost * math.log(2)
        columns.append(column + [math.inf] * config.silence)
    places = [(score, slot, t) for slot, c in enumerate(columns) for t, score in enumerate(c)]
    kept = sorted(places, key=lambda place: -place[0])[: config.cache]
    told = sorted((slot, t) for score, slot, t in kept if score > -math.inf)
    frames = [t if t < num_frames else None for _, t in told]
    return frames + [None] * (config.cache - len(frames))


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_follows_the_rules_in_any_order_of_speakers(seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    config = StreamingConfig(cache=[24, 40][seed % 2], silence=[3, 1, 0][seed % 3])
    posterior = (torch.randn(2, 70, 4, generator=source) * 3 - [0, 2][seed // 3]).sigmoid()
    embedding = torch.randn(2, 70, 5, generator=source)
    silence = torch.randn(5, generator=source)
    for order in ([0, 1, 2, 3], [2, 0, 3, 1]):
        scores = judge(posterior, config)[..., order]
        kept, kept_posterior = keep(embedding, posterior, scores, silence, config)
        for row in range(2):
            frames = naive_compress(posterior[row], config, order)
            expected = [silence if t is None else embedding[row, t] for t in frames]
            assert torch.equal(kept[row], torch.stack(expected))
            nobody = torch.zeros(4)
            expected = [nobody if t is None else posterior[row, t] for t in frames]
            assert torch.equal(kept_posterior[row], torch.stack(expected))
