"""Streams rehearsed: training through the speaker cache, by the rules of live use.

Sessions side by side are cut into chunks as streams are; each chunk is heard behind what the chunks
before have left in queue and cache. Remembered embeddings keep their gradients, through all steps
of a session, so memory grows with its length; posteriors, which only decide what is kept, have
none. What is drawn at random is drawn in training alone: else the answers are those of a stream.

After Medennikov et al., "Streaming Sortformer", arXiv:2507.18446, and the reference implementation,
which also has Nemotron-3's tail.

B sessions, F feature frames, T frames, D embedding width, S slots.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from diarize.cache import SpeakerCache, judge
from diarize.config import check_least, check_shares
from diarize.encoder.transformer import Transformer
from diarize.errors import ConfigError
from diarize.latency import (
    DEFAULT,
    LATENCIES,
    Chunk,
    StreamingConfig,
    format_latency,
    parse_latency,
)
from diarize.model import Diarizer, Estimates
from diarize.streaming import refuse_windowed


@dataclass
class RehearsalConfig:
    """How a model is trained to stream; lengths in frames."""

    latency: str | None = None
    """Train through the speaker cache, with chunks, queue and cache as `parse_latency` takes them,
    such as ``chunk=188,right=1,cache=188``; null: on windows as a whole."""
    permute: bool = True
    """Whenever the cache is full, put its speakers in a new, random order, and answers back in
    theirs: slots follow the cache, not the voice."""
    score_noise: float = 0.0
    """Largest number added at random to the scores by which frames are kept."""
    limited_share: float = 0.0
    """Share of batches in which frames attend to few that come later."""
    limited_right: int = 7
    """How many, in every layer."""
    tail_share: float = 0.0
    """Share of batches in which the last frames of what is heard are heard block by block, as if
    they were just coming: seen by none before them, nor by blocks before their own."""
    longest_tail: int = 222
    """Most of these frames; how many is drawn."""
    largest_block: int = 8
    """Most frames of a block; how many is drawn."""

    def __post_init__(self) -> None:
        check_shares(self, "limited_share", "tail_share")
        check_least(self, score_noise=0, limited_right=0, longest_tail=1, largest_block=1)
        if self.latency is not None and parse_latency(self.latency) is None:
            raise ConfigError(
                f"latency is {self.latency}, but a stream has no end to wait for. Give its lengths "
                "in frames, or null to train on windows as a whole."
            )


class Rehearsal:
    """A model as it streams, many sessions side by side, with gradients.

    Args:
        diarizer: a streaming model.
        config: with a latency.

    Raises:
        ConfigError: if the model cannot stream, or its frames do not attend to one another where
            that is to be limited.
    """

    def __init__(self, diarizer: Diarizer, config: RehearsalConfig) -> None:
        streaming = None if config.latency is None else parse_latency(config.latency)
        assert streaming is not None
        refuse_windowed(diarizer)
        streaming.check_slots(diarizer.num_slots)
        limited = config.limited_share or config.tail_share
        if limited and not isinstance(diarizer.encoder, Transformer):
            raise ConfigError(
                f"rehearsal.limited_share is {config.limited_share:g} and tail_share "
                f"{config.tail_share:g}, but frames of a {type(diarizer.encoder).__name__} do not "
                "attend to one another. Set both to 0."
            )
        self._diarizer, self._config, self._streaming = diarizer, config, streaming

    @property
    def inference(self) -> dict[str, object]:
        """How the model is best run, as keys of `InferenceConfig`: as here, or at other waits."""
        own = self._streaming
        kept = {"left": own.left, "cache": own.cache, "silence": own.silence}
        waits = {name: replace(_parsed(text), **kept) for name, text in LATENCIES.items()}
        latencies = {name: format_latency(each) for name, each in {**waits, DEFAULT: own}.items()}
        return {"latency": DEFAULT, "latencies": latencies}

    def __call__(self, signal: Tensor, num_samples: Tensor) -> Estimates:
        """What the model says of a batch of sessions, chunk by chunk.

        Args:
            signal: (B, N), -1 to 1, at 16 kHz.
            num_samples: (B,), samples before padding.

        Returns:
            Of all frames, those of padding without meaning.
        """
        diarizer, drawn = self._diarizer, self._diarizer.training
        features, num_rows = diarizer.front_end.mel(signal, num_samples, so_far=True)
        known, device = int(num_rows.max()), features.device
        rows = diarizer.front_end.grid.hop // diarizer.front_end.mel.config.hop_samples
        memory = _RehearsedCache(
            self._streaming,
            diarizer.front_end.embedding_dim,
            diarizer.num_slots,
            diarizer.silence,
            (len(signal),),
            device,
        )
        if drawn:
            memory.permute, memory.noise = self._config.permute, self._config.score_noise
        limits = _Limits.draw(self._config) if drawn else _Limits()
        said: list[Estimates] = []
        start = 0
        while (chunk := self._streaming.chunk_at(start, known, rows, ended=True)) is not None:
            said.append(self._hear(features, num_rows, chunk, memory, limits))
            start = chunk.end
        nothing = torch.zeros(len(signal), 0, 1, device=device)
        nobody = nothing.expand(-1, -1, diarizer.num_slots)
        logits = torch.cat([nobody, *(each.logits for each in said)], dim=1)
        unheard = nothing.expand(-1, -1, diarizer.head.width)
        hidden = torch.cat([unheard, *(each.hidden for each in said)], dim=1)
        by_layer = zip(*(each.layers for each in said), strict=True)
        layers = [torch.cat(pieces, dim=1) for pieces in by_layer]
        if diarizer.silence is not None:
            # Processes that train together wait for the gradient of each parameter, and a short
            # batch fills no cache.
            logits = logits + 0.0 * diarizer.silence.sum()
        return Estimates(logits, layers, hidden)

    def _hear(
        self,
        features: Tensor,
        num_rows: Tensor,
        chunk: Chunk,
        memory: "_RehearsedCache",
        limits: "_Limits",
    ) -> Estimates:
        """What is said of a chunk's own frames; they are remembered."""
        diarizer, finer = self._diarizer, self._diarizer.config.upsampling
        heard = features[:, chunk.first : chunk.last]
        num_heard = (num_rows - chunk.first).clamp(0, heard.shape[1])
        embedding, num_frames = diarizer.front_end.subsampling(heard, num_heard)
        first = len(memory) + chunk.before
        own = slice(chunk.before, chunk.before + chunk.own)
        everything = torch.cat([memory.cache, memory.fifo, embedding], dim=1)
        num_frames = num_frames + len(memory)
        visible = limits.visible(num_frames, everything.shape[1])
        encoded = diarizer.front_end.encode(everything, num_frames, visible)
        said = diarizer.classify_layers(encoded, num_frames, visible)
        logits, *layers = [memory.in_own_order(each) for each in (said.logits, *said.layers)]
        with torch.no_grad():
            posterior = logits.float().sigmoid().unflatten(1, (-1, finer)).mean(dim=2)
            frames = torch.arange(posterior.shape[1], device=posterior.device)
            valid = frames < num_frames[:, None]
            posterior = torch.where(valid[:, :, None], posterior, 0.0)
        memory.remember(
            posterior[:, : len(memory)], embedding[:, own], posterior[:, first : first + chunk.own]
        )
        answered = slice(first * finer, first * finer + chunk.num_answers(finer))
        return Estimates(
            logits[:, answered], [layer[:, answered] for layer in layers], said.hidden[:, answered]
        )


class _RehearsedCache(SpeakerCache):
    """A cache whose speakers stand in a random order.

    Attributes:
        permute: whether they do.
        noise: largest number added at random to scores.
        order: (B, S), the slot that each place in the cache is for; None before there is a cache.
    """

    permute = False
    noise = 0.0
    order: Tensor | None = None

    def scores_of(self, posterior: Tensor) -> Tensor:
        """Those of a stream, with noise, columns in a new order.

        The order is of speakers before the first of whom nothing is known; others stay.
        """
        scores = judge(posterior, self.config)
        if self.permute:
            unknown = ~(scores > 0).any(dim=1)  # (B, S)
            stay = unknown.cumsum(dim=1) > 0
            places = torch.arange(scores.shape[2], device=scores.device)
            keys = torch.where(stay, 1.0 + places, torch.rand(stay.shape, device=scores.device))
            self.order = keys.argsort(dim=1)
            scores = scores.gather(2, self.order[:, None].expand_as(scores))
        return scores + self.noise * torch.rand_like(scores) if self.noise else scores

    def in_own_order(self, answers: Tensor) -> Tensor:
        """(B, T, S) with each speaker in the slot that he came into."""
        if self.order is None:
            return answers
        return answers.gather(2, self.order.argsort(dim=1)[:, None].expand_as(answers))


@dataclass(frozen=True)
class _Limits:
    """What frames may attend to in a batch.

    Attributes:
        right: how many later frames; None is all.
        tail: last frames that are heard block by block.
        block: frames of a block.
    """

    right: int | None = None
    tail: int = 0
    block: int = 1

    @classmethod
    def draw(cls, config: RehearsalConfig) -> "_Limits":
        """Those of the next batch."""
        shares = torch.tensor([config.limited_share, config.tail_share])
        limited, tail = (torch.rand(2) < shares).tolist()
        right = config.limited_right if limited else None
        if not tail:
            return cls(right)
        lengths = (config.longest_tail, config.largest_block)
        length, block = [int(torch.randint(1, longest + 1, ())) for longest in lengths]
        return cls(right, length, block)

    def visible(self, num_frames: Tensor, width: int) -> Tensor | None:
        """(B or 1, T, T), whether the frame of a row may attend to that of a column, or None.

        Args:
            num_frames: (B,), frames before padding.
            width: T.
        """
        frames = torch.arange(width, device=num_frames.device)
        seen = None if self.right is None else (frames <= frames[:, None] + self.right)[None]
        if not self.tail:
            return seen
        place = frames - (num_frames - self.tail).clamp(min=0)[:, None]  # (B, T), in the tail
        block = place.div(self.block, rounding_mode="floor").clamp(min=-1)  # before it, -1
        earlier = block[:, None, :] <= block[:, :, None]
        return earlier if seen is None else earlier & seen


def _parsed(latency: str) -> StreamingConfig:
    config = parse_latency(latency)
    assert config is not None
    return config
