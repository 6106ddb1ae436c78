"""The speaker cache: what is remembered; tests/parity compares it with NeMo's."""

import pytest
import torch

from diarize.cache import SpeakerCache
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
