"""One step of a stream as a graph: what is remembered goes in, and comes out as it is after.

By the rules of `diarize.cache`. There, lengths differ from stream to stream and from step to step;
here, tensors hold the most that there can be, what counts lies in front, and a number beside says
how much that is. So streams of any age go through one graph together.

B streams, N samples, F feature frames, T frames, M rows of the cache, Q of the queue, C of a chunk,
D embedding width, S slots.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from diarize.cache import hear_silence, judge, keep, leaving
from diarize.latency import StreamingConfig
from diarize.model import Diarizer


class Memory(NamedTuple):
    """What a stream remembers, besides its audio."""

    cache: Tensor
    """(B, M, D)."""
    cache_posterior: Tensor
    """(B, M, S)."""
    num_cache: Tensor
    """(B,), rows of the cache that count."""
    was_full: Tensor
    """(B,), 1 once it has been full, else 0: then its posteriors count as well."""
    fifo: Tensor
    """(B, Q, D), the queue; of at least one row, though it may not count."""
    num_fifo: Tensor
    """(B,), rows of the queue that count."""
    silence: Tensor
    """(B, D)."""
    num_silence: Tensor
    """(B,), frames in that mean."""


class Step(nn.Module):
    """A chunk with its context, behind what is remembered.

    Args:
        diarizer: a streaming model.
        config: lengths and rates, those of the graph for good.

    Attributes:
        num_rows: F, of a chunk with all of its context.
        num_samples: N, that they hear, and one before.
    """

    def __init__(self, diarizer: Diarizer, config: StreamingConfig) -> None:
        super().__init__()
        config.check_slots(diarizer.num_slots)
        self.diarizer, self.config = diarizer, config
        mel = diarizer.front_end.mel.config
        rows = diarizer.front_end.grid.hop // mel.hop_samples
        self.num_rows = (config.left + config.chunk + config.right) * rows
        self.num_samples = 1 + (self.num_rows - 1) * mel.hop_samples + mel.num_fft
        self.most_leaving = min(max(config.update, config.chunk), config.fifo + config.chunk)

    def begin(self, streams: int) -> Memory:
        """What nothing is remembered by."""
        config, width = self.config, self.diarizer.front_end.embedding_dim
        slots, learned = self.diarizer.num_slots, self.diarizer.silence
        silence = torch.zeros(width) if learned is None else learned.detach().float()
        none = torch.zeros(streams, dtype=torch.int64)
        return Memory(
            cache=torch.zeros(streams, config.cache, width),
            cache_posterior=torch.zeros(streams, config.cache, slots),
            num_cache=none,
            was_full=none.clone(),
            fifo=torch.zeros(streams, max(config.fifo, 1), width),
            num_fifo=none.clone(),
            silence=silence.expand(streams, -1).clone(),
            num_silence=none.clone(),
        )

    def forward(
        self,
        signal: Tensor,
        num_samples: Tensor,
        num_rows: Tensor,
        before: Tensor,
        own: Tensor,
        cache: Tensor,
        cache_posterior: Tensor,
        num_cache: Tensor,
        was_full: Tensor,
        fifo: Tensor,
        num_fifo: Tensor,
        silence: Tensor,
        num_silence: Tensor,
    ) -> tuple[Tensor, ...]:
        """Posteriors of the chunk, (B, C * upsampling, S), and the memory after it.

        Args:
            signal: (B, N), from one sample before the first that the first row hears: half a
                Fourier transform before the first of its hop. Zeros before the recording begins.
            num_samples: (B,), those before the recording ends.
            num_rows: (B,), feature frames of the chunk with the context that there is.
            before: (B,), frames of context before it.
            own: (B,), its frames; their posteriors and embeddings count.
            cache: see `Memory`.
            cache_posterior: as well.
            num_cache: as well.
            was_full: as well.
            fifo: as well.
            num_fifo: as well.
            silence: as well.
            num_silence: as well.
        """
        known = Memory(
            cache, cache_posterior, num_cache, was_full, fifo, num_fifo, silence, num_silence
        )
        diarizer, chunk = self.diarizer, self.config.chunk
        features = self._features(signal, num_samples, num_rows)
        embedding, num_frames = diarizer.front_end.subsampling(features, num_rows)
        recent = behind(known.fifo, known.num_fifo, embedding)
        heard = behind(known.cache, known.num_cache, recent)
        lengths = known.num_cache + known.num_fifo + num_frames
        encoded = diarizer.front_end.encode(heard, lengths)
        posterior = diarizer.classify(encoded, lengths).sigmoid()
        finer = diarizer.config.upsampling
        by_frame = posterior.unflatten(1, (heard.shape[1], finer)).mean(dim=2)
        first = known.num_cache + known.num_fifo + before
        answer = rows_from(posterior, first * finer, chunk * finer)
        chunk_rows = rows_from(embedding, before, chunk), rows_from(by_frame, first, chunk)
        after = self._remember(known, by_frame, *chunk_rows, own)
        return answer, *after

    def _features(self, signal: Tensor, num_samples: Tensor, num_rows: Tensor) -> Tensor:
        """Log-mel energies (B, F, mels), zero beyond what there is."""
        mel = self.diarizer.front_end.mel
        emphasised = signal[:, 1:] - mel.config.pre_emphasis * signal[:, :-1]
        places = torch.arange(1, self.num_samples, device=signal.device)
        emphasised = torch.where(places < num_samples[:, None], emphasised, 0.0)
        energies = mel.energies(emphasised, self.num_rows)
        rows = torch.arange(self.num_rows, device=signal.device)
        return torch.where((rows < num_rows[:, None]).unsqueeze(-1), energies, 0.0)

    def _remember(
        self, known: Memory, by_frame: Tensor, chunk: Tensor, posterior: Tensor, own: Tensor
    ) -> Memory:
        """See `SpeakerCache.remember`.

        Args:
            known: what was remembered.
            by_frame: (B, T, S), posteriors of that, and of what comes behind.
            chunk: (B, C, D).
            posterior: (B, C, S), its own.
            own: (B,), frames of the chunk that count.
        """
        config, most = self.config, self.most_leaving
        length, queued = known.num_cache, known.num_fifo
        fifo = behind(known.fifo, queued, chunk)
        of_queue = rows_from(by_frame, length, known.fifo.shape[1])
        fifo_posterior = behind(of_queue, queued, posterior)
        num_leaving = leaving(queued + own, config)
        left = (torch.arange(most, device=chunk.device) < num_leaving[:, None]).unsqueeze(-1)
        left_embedding, left_posterior = fifo[:, :most], fifo_posterior[:, :most]
        silence, num_silence = known.silence, known.num_silence
        if self.diarizer.silence is None:  # what does not leave is no silence
            told = torch.where(left, left_posterior, 1.0)
            silence, num_silence = hear_silence(
                silence, num_silence, left_embedding, told, config.silence_threshold
            )
        cache = behind(known.cache, length, left_embedding)
        was_full = (known.was_full > 0)[:, None, None]
        of_cache = torch.where(was_full, known.cache_posterior, by_frame[:, : config.cache])
        # Nobody speaks in rows that do not count: none of them is kept.
        told = torch.where(left, left_posterior, 0.0)
        cache_posterior = behind(of_cache, length, told)
        count = length + num_leaving
        rows = torch.arange(config.cache + most, device=chunk.device)
        counts = (rows < count[:, None]).unsqueeze(-1)
        cache_posterior = torch.where(counts, cache_posterior, 0.0)
        scores = judge(cache_posterior, config)
        kept = keep(cache, cache_posterior, scores, silence, config)
        fills = count > config.cache
        cache, cache_posterior = (
            torch.where(fills[:, None, None], best, whole[:, : config.cache])
            for best, whole in zip(kept, (cache, cache_posterior), strict=True)
        )
        return Memory(
            cache=cache,
            cache_posterior=cache_posterior,
            num_cache=count.clamp(max=config.cache),
            was_full=known.was_full | fills.long(),
            fifo=rows_from(fifo, num_leaving, known.fifo.shape[1]),
            num_fifo=queued + own - num_leaving,
            silence=silence,
            num_silence=num_silence,
        )


def behind(first: Tensor, count: Tensor, second: Tensor) -> Tensor:
    """The first rows that count, and all of the second behind them, (B, n + m, ...).

    Args:
        first: (B, n, ...).
        count: (B,), rows of it that count.
        second: (B, m, ...).
    """
    num_first, both = first.shape[1], torch.cat([first, second], dim=1)
    place = torch.arange(both.shape[1], device=both.device)
    shift = num_first - count[:, None]
    index = torch.where(place < count[:, None], place, place + shift)
    return _rows(both, index)


def rows_from(rows: Tensor, first: Tensor, count: int) -> Tensor:
    """So many rows (B, count, ...) of (B, n, ...), from ``first`` (B,) on."""
    return _rows(rows, first[:, None] + torch.arange(count, device=rows.device))


def _rows(rows: Tensor, index: Tensor) -> Tensor:
    """Rows (B, k, E) of (B, n, E); beyond the last one, that."""
    index = index.clamp(max=rows.shape[1] - 1)
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[2]))
