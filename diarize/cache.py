"""What a streaming model remembers: the arrival-order speaker cache, and a queue of recent frames.

Medennikov et al., "Streaming Sortformer", arXiv:2507.18446; the rules are the synchronous ones of
the reference implementation, and Nemotron-3's. A cache holds the frames that best tell each
speaker, grouped by speaker in order of arrival, so that the network finds the same order again in
every step.

n frames, D embedding width, S slots.
"""

import math

import torch
from torch import Tensor

from diarize.latency import StreamingConfig


class SpeakerCache:
    """Frames that the network hears before each chunk.

    Attributes:
        cache: (n, D) embeddings by speaker; by time until it is full for the first time.
        cache_posterior: (n, S), None until then.
        fifo: (n, D), the recent ones by time.
        silence: (D,), learned, or the mean of what was heard.
        num_silence: frames in that mean.
    """

    def __init__(
        self, config: StreamingConfig, width: int, num_slots: int, learned: Tensor | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            config: lengths and rates.
            width: D.
            num_slots: S.
            learned: (D,), silence of models that have learned it.
        """
        config.check_slots(num_slots)
        self.config = config
        self.cache = torch.zeros(0, width)
        self.cache_posterior: Tensor | None = None
        self.fifo = torch.zeros(0, width)
        self._learned = learned is not None
        self.silence = torch.zeros(width) if learned is None else learned.detach().float().cpu()
        self.num_silence = 0

    def __len__(self) -> int:
        return len(self.cache) + len(self.fifo)

    def first_judged(self, num_frames: int) -> int:
        """The first of the remembered frames whose posteriors `remember` will look at.

        Args:
            num_frames: new frames, without context.

        Returns:
            A number of frames: ``len(self)`` where it looks at none.
        """
        leaving = self._leaving(len(self.fifo) + num_frames)
        if not leaving:
            return len(self)
        fills = len(self.cache) + leaving > self.config.cache
        return 0 if fills and self.cache_posterior is None else len(self.cache)

    def _leaving(self, num_frames: int) -> int:
        """How many leave a queue of so many."""
        if num_frames <= self.config.fifo:
            return 0
        return min(max(self.config.update, num_frames - self.config.fifo), num_frames)

    def remember(self, known: Tensor, chunk: Tensor, posterior: Tensor) -> None:
        """Take in what a step has answered.

        Args:
            known: (n, S), posteriors of the last n remembered frames as this step sees them, at
                least from `first_judged` on.
            chunk: (n, D), embeddings of the new frames, without context.
            posterior: (n, S), theirs.
        """
        config, length = self.config, len(self.cache)
        fifo = torch.cat([self.fifo, chunk])
        leaving = self._leaving(len(fifo))
        if not leaving:
            self.fifo = fifo
            return
        fifo_posterior = torch.cat([known[len(known) - len(self.fifo) :], posterior])
        self.fifo = fifo[leaving:]
        left, left_posterior = fifo[:leaving], fifo_posterior[:leaving]
        self._hear_silence(left, left_posterior)
        self.cache = torch.cat([self.cache, left])
        if self.cache_posterior is not None:
            self.cache_posterior = torch.cat([self.cache_posterior, left_posterior])
        if len(self.cache) > config.cache:
            if self.cache_posterior is None:
                self.cache_posterior = torch.cat([known[:length], left_posterior])
            self.cache, self.cache_posterior = compress(
                self.cache, self.cache_posterior, self.silence, config
            )

    def _hear_silence(self, embedding: Tensor, posterior: Tensor) -> None:
        silent = embedding[posterior.sum(dim=1) < self.config.silence_threshold]
        if len(silent) and not self._learned:
            total = self.num_silence + len(silent)
            self.silence = (self.silence * self.num_silence + silent.sum(dim=0)) / total
            self.num_silence = total


def compress(
    embedding: Tensor, posterior: Tensor, silence: Tensor, config: StreamingConfig
) -> tuple[Tensor, Tensor]:
    """The ``config.cache`` rows that best tell the speakers, grouped by speaker, by time within.

    A frame may be kept once for each speaker; behind each speaker stand rows of silence,
    and where too few frames tell anything, more of them.

    Args:
        embedding: (n, D), n > ``config.cache``.
        posterior: (n, S).
        silence: (D,).
        config: lengths and rates.

    Returns:
        Embeddings (cache, D) and posteriors (cache, S), 0 in rows of silence.
    """
    num_frames, num_slots = posterior.shape
    rows = config.cache // num_slots - config.silence
    scores = frame_scores(posterior, config.threshold)
    scores = scores.masked_fill(posterior <= 0.5, -math.inf)
    positive = scores > 0
    enough = positive.sum(dim=0) >= int(config.positive_rate * rows)
    scores = scores.masked_fill(~positive & enough, -math.inf)
    scores[config.cache :] += config.latest_boost
    for rate, boost in ((config.strong_rate, 2 * math.log(2)), (config.weak_rate, math.log(2))):
        best = scores.topk(min(int(rate * rows), num_frames), dim=0).indices
        scores = scores.scatter_add(0, best, torch.full(best.shape, boost, dtype=scores.dtype))
    reserved = scores.new_full((config.silence, num_slots), math.inf)
    by_speaker = torch.cat([scores, reserved]).T.flatten()
    values, places = by_speaker.topk(config.cache)
    after_all = len(by_speaker)
    places = torch.where(values == -math.inf, after_all, places).sort().values
    frames = places % (num_frames + config.silence)
    told = (places < after_all) & (frames < num_frames)
    frames = torch.where(told, frames, 0)
    told = told[:, None]
    return (
        torch.where(told, embedding[frames], silence),
        torch.where(told, posterior[frames], 0.0),
    )


def frame_scores(posterior: Tensor, threshold: float) -> Tensor:
    """How well a frame tells each speaker, (n, S): above 0 where he alone is likely to talk.

    The log odds that he talks and the others do not (arXiv:2507.18446, eq. 1).
    """
    speech = posterior.clamp(min=threshold).log()
    silence = (1 - posterior).clamp(min=threshold).log()
    return speech - silence + silence.sum(dim=1, keepdim=True) - math.log(0.5)
