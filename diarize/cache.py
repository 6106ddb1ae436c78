"""What a streaming model remembers: the arrival-order speaker cache, and a queue of recent frames.

Medennikov et al., "Streaming Sortformer", arXiv:2507.18446; the rules are the synchronous ones of
the reference implementation, and Nemotron-3's. A cache holds the frames that best tell each
speaker, grouped by speaker in order of arrival, so that the network finds the same order again in
every step.

One stream has (n, D) and (n, S); in training, sessions side by side have (B, n, D) and (B, n, S),
and by the same rules as many frames each.

B sessions, n frames, D embedding width, S slots.
"""

import math

import torch
from torch import Tensor

from diarize.latency import StreamingConfig


class SpeakerCache:
    """Frames that the network hears before each chunk.

    Attributes:
        cache: (..., n, D) embeddings by speaker; by time until it is full for the first time.
        cache_posterior: (..., n, S), None until then.
        fifo: (..., n, D), the recent ones by time.
        silence: (D,), learned, or the mean of what was heard, (..., D).
        num_silence: (...), frames in that mean.
    """

    def __init__(
        self,
        config: StreamingConfig,
        width: int,
        num_slots: int,
        learned: Tensor | None = None,
        sessions: tuple[int, ...] = (),
        device: torch.device | None = None,
    ) -> None:
        """Begin with nothing.

        Args:
            config: lengths and rates.
            width: D.
            num_slots: S.
            learned: (D,), silence of models that have learned it.
            sessions: (B,) of sessions side by side.
            device: where they are.
        """
        config.check_slots(num_slots)
        self.config = config
        self.cache = torch.zeros(*sessions, 0, width, device=device)
        self.cache_posterior: Tensor | None = None
        self.fifo = self.cache
        self._learned = learned is not None
        heard = torch.zeros(*sessions, width, device=device)
        self.silence = heard if learned is None else learned
        self.num_silence = torch.zeros(sessions, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return self.cache.shape[-2] + self.fifo.shape[-2]

    def first_judged(self, num_frames: int) -> int:
        """The first of the remembered frames whose posteriors `remember` will look at.

        Args:
            num_frames: new frames, without context.

        Returns:
            A number of frames: ``len(self)`` where it looks at none.
        """
        leaving = self._leaving(self.fifo.shape[-2] + num_frames)
        if not leaving:
            return len(self)
        length = self.cache.shape[-2]
        fills = length + leaving > self.config.cache
        return 0 if fills and self.cache_posterior is None else length

    def _leaving(self, num_frames: int) -> int:
        return int(leaving(torch.tensor(num_frames), self.config))

    def remember(self, known: Tensor, chunk: Tensor, posterior: Tensor) -> None:
        """Take in what a step has answered.

        Args:
            known: (..., n, S), posteriors of the last n remembered frames as this step sees them,
                at least from `first_judged` on.
            chunk: (..., n, D), embeddings of the new frames, without context.
            posterior: (..., n, S), theirs.
        """
        length, queued = self.cache.shape[-2], self.fifo.shape[-2]
        fifo = torch.cat([self.fifo, chunk], dim=-2)
        leaving = self._leaving(fifo.shape[-2])
        if not leaving:
            self.fifo = fifo
            return
        of_queue = known[..., known.shape[-2] - queued :, :]
        left = fifo[..., :leaving, :]
        left_posterior = torch.cat([of_queue, posterior], dim=-2)[..., :leaving, :]
        self.fifo = fifo[..., leaving:, :]
        if not self._learned:
            self._hear_silence(left, left_posterior)
        self.cache = torch.cat([self.cache, left], dim=-2)
        if self.cache_posterior is not None:
            self.cache_posterior = torch.cat([self.cache_posterior, left_posterior], dim=-2)
        if self.cache.shape[-2] > self.config.cache:
            if self.cache_posterior is None:
                known_posterior = known[..., :length, :]
                self.cache_posterior = torch.cat([known_posterior, left_posterior], dim=-2)
            scores = self.scores_of(self.cache_posterior)
            self.cache, self.cache_posterior = keep(
                self.cache, self.cache_posterior, scores, self.silence, self.config
            )

    def scores_of(self, posterior: Tensor) -> Tensor:
        """By what frames are kept, and in which order their speakers stand, see `keep`."""
        return judge(posterior, self.config)

    def _hear_silence(self, embedding: Tensor, posterior: Tensor) -> None:
        threshold = self.config.silence_threshold
        self.silence, self.num_silence = hear_silence(
            self.silence, self.num_silence, embedding, posterior, threshold
        )


def leaving(num_frames: Tensor, config: StreamingConfig) -> Tensor:
    """How many leave a queue of so many frames."""
    beyond = num_frames - config.fifo
    most = torch.minimum(beyond.clamp(min=config.update), num_frames)
    return torch.where(beyond > 0, most, 0)


def hear_silence(
    silence: Tensor, num_silence: Tensor, embedding: Tensor, posterior: Tensor, threshold: float
) -> tuple[Tensor, Tensor]:
    """The mean of what was silent, and of how many frames it is.

    Args:
        silence: (..., D), the mean before.
        num_silence: (...), of how many it was.
        embedding: (..., n, D), frames that are new to it.
        posterior: (..., n, S), theirs.
        threshold: frames whose posteriors sum to less are silent.
    """
    silent = posterior.sum(dim=-1) < threshold
    total = num_silence + silent.long().sum(dim=-1)
    heard = torch.where(silent[..., None], embedding, 0.0).sum(dim=-2)
    before = silence * num_silence[..., None]
    mean = (before + heard) / total.clamp(min=1)[..., None]
    return torch.where((total > num_silence)[..., None], mean, silence), total


def judge(posterior: Tensor, config: StreamingConfig) -> Tensor:
    """`frame_scores` of the frames that may be kept for a speaker, (..., n, S), else -inf.

    He talks there; and alone, if he does so often enough.
    """
    rows = config.cache // posterior.shape[-1] - config.silence
    scores = frame_scores(posterior, config.threshold)
    scores = scores.masked_fill(posterior <= 0.5, -math.inf)
    positive = scores > 0
    enough = positive.long().sum(dim=-2, keepdim=True) >= int(config.positive_rate * rows)
    return scores.masked_fill(~positive & enough, -math.inf)


def keep(
    embedding: Tensor,
    posterior: Tensor,
    scores: Tensor,
    silence: Tensor,
    config: StreamingConfig,
) -> tuple[Tensor, Tensor]:
    """The ``config.cache`` rows that score best, grouped by column of the scores, by time within.

    A frame may be kept once for each speaker; behind each speaker stand rows of silence,
    and where too few frames tell anything, more of them.

    Args:
        embedding: (..., n, D), n > ``config.cache``.
        posterior: (..., n, S).
        scores: (..., n, S), a column for each speaker in the order in which they are to stand.
        silence: (D,) or (..., D).
        config: lengths and rates.

    Returns:
        Embeddings (..., cache, D) and posteriors (..., cache, S), 0 in rows of silence.
    """
    num_frames, num_slots = scores.shape[-2:]
    rows = config.cache // num_slots - config.silence
    scores = scores.clone()
    scores[..., config.cache :, :] += config.latest_boost
    for rate, boost in ((config.strong_rate, 2 * math.log(2)), (config.weak_rate, math.log(2))):
        best = scores.topk(min(int(rate * rows), num_frames), dim=-2).indices
        scores = scores.scatter_add(-2, best, scores.new_full(best.shape, boost))
    reserved = scores.new_full((*scores.shape[:-2], config.silence, num_slots), math.inf)
    by_speaker = torch.cat([scores, reserved], dim=-2).transpose(-1, -2).flatten(-2)
    values, places = by_speaker.topk(config.cache)
    after_all = by_speaker.shape[-1]
    places = torch.where(values == -math.inf, after_all, places).sort().values
    frames = places % (num_frames + config.silence)
    told = (places < after_all) & (frames < num_frames)
    frames = torch.where(told, frames, 0)[..., None]
    told = told[..., None]

    def kept(rows: Tensor) -> Tensor:
        return rows.gather(-2, frames.expand(*frames.shape[:-1], rows.shape[-1]))

    return (
        torch.where(told, kept(embedding), silence[..., None, :]),
        torch.where(told, kept(posterior), 0.0),
    )


def frame_scores(posterior: Tensor, threshold: float) -> Tensor:
    """How well a frame tells each speaker, (..., n, S): above 0 where he alone is likely to talk.

    The log odds that he talks and the others do not (arXiv:2507.18446, eq. 1).
    """
    speech = posterior.clamp(min=threshold).log()
    silence = (1 - posterior).clamp(min=threshold).log()
    return speech - silence + silence.sum(dim=-1, keepdim=True) - math.log(0.5)
