"""Streams through a model that `diarize export` wrote for a latency: without torch.

As `diarize.streaming` has them: samples in as they come, posteriors and turns out. What is
remembered goes into the graph of one step and comes out of it.

B streams, N samples, S slots.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diarize.config import load_config
from diarize.errors import AudioError, ConfigError
from diarize.exported import Array, ExportedDiarizer
from diarize.latency import Chunk, rows_known
from diarize.liveturns import LiveTurns
from diarize.postprocess import PostprocessConfig
from diarize.turns import Turn, in_order


class ExportedStream:
    """One stream of audio; see `StreamingDiarizer`, whose words these are.

    Args:
        diarizer: a model that was exported with a latency.
        postprocess: how turns are cut; default: what the model recommends.
        max_speakers: who comes after so many is not answered for; default: as many as the model
            has slots.
        with_turns: cut turns as well; else `turns` tells none.

    Attributes:
        wait: longest time from a sound to the answer for it, seconds.

    Raises:
        ConfigError: if it was exported for windows.
    """

    def __init__(
        self,
        diarizer: ExportedDiarizer,
        postprocess: PostprocessConfig | None = None,
        max_speakers: int | None = None,
        with_turns: bool = True,
    ) -> None:
        self._config = diarizer.latency()
        self._diarizer = diarizer
        self._memory = diarizer.begin()
        graph = diarizer.graph
        self._rows = graph.hop // graph.step
        self._samples = np.zeros(graph.reach + 1, dtype=np.float32)  # silence, then what has come
        self._first = -len(self._samples)  # the sample of the recording that stands first there
        self._answered = 0  # rows whose chunks are done
        self._ended = False
        self._ready: list[Array] = []
        if postprocess is None:
            postprocess = load_config(PostprocessConfig, values=diarizer.postprocess)
        shift = diarizer.grid.frame_shift
        self._live = LiveTurns(graph.num_slots, shift, postprocess) if with_turns else None
        self._untold: list[Turn] = []
        self._max_speakers = max_speakers
        self.wait = (self._config.chunk + self._config.right) * graph.hop / graph.sample_rate

    def feed(self, samples: Array) -> Array:
        """Posteriors (frame, slot) that these samples (sample,) decide; often none."""
        (posterior,) = feed_together([self], [samples])
        return posterior

    def finish(self) -> Array:
        """The end: posteriors of the frames that are left, (frame, slot)."""
        (posterior,) = finish_together([self])
        return posterior

    def turns(self) -> list[Turn]:
        """Turns that were decided since this was last asked, by start; none is ever taken back."""
        told, self._untold = in_order(self._untold), []
        return told

    @property
    def duration(self) -> float:
        """Seconds fed so far."""
        return self._num_samples / self._diarizer.graph.sample_rate

    @property
    def _num_samples(self) -> int:
        return self._first + len(self._samples)

    def _take(self, samples: Array) -> None:
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise AudioError(
                f"stream: the samples have shape {samples.shape}, or some are no numbers, but one "
                "channel of finite ones is expected. Look at what made them."
            )
        if self._ended:
            raise AudioError("stream: it has ended, but samples come. Begin another.")
        self._samples = np.concatenate([self._samples, samples])

    def _next(self) -> Chunk | None:
        """The next chunk, once its context has come."""
        graph = self._diarizer.graph
        known = rows_known(self._num_samples, graph.step, graph.reach, self._ended)
        return self._config.chunk_at(self._answered, known, self._rows, self._ended)

    def _heard(self, chunk: Chunk) -> tuple[Array, NDArray[np.int64]]:
        """Samples (N,) of a chunk, and the numbers that its step is told beside."""
        graph = self._diarizer.graph
        start = chunk.first * graph.step - graph.reach - 1
        stretch = self._samples[start - self._first :][: graph.stretch]
        signal = np.zeros(graph.stretch, dtype=np.float32)
        signal[: len(stretch)] = stretch
        num_rows = chunk.last - chunk.first
        return signal, np.array([len(stretch), num_rows, chunk.before, chunk.own])

    def _keep(self, chunk: Chunk, posterior: Array, memory: list[NDArray[np.generic]]) -> None:
        """Take in what a step has answered: (frame, slot), and what is remembered after it."""
        graph = self._diarizer.graph
        answer = posterior[: chunk.num_answers(graph.upsampling)].copy()
        answer[:, self._max_speakers or answer.shape[1] :] = 0.0  # slots are in order of arrival
        self._memory, self._answered = memory, chunk.end
        heard_next = max(chunk.end - self._config.left * self._rows, 0) * graph.step
        spare = heard_next - graph.reach - 1 - self._first
        self._samples, self._first = self._samples[spare:], self._first + spare
        self._ready.append(answer)
        if self._live is not None:  # what is no number is nobody's speech
            self._untold += self._live.push(np.nan_to_num(answer, nan=0.0))

    def _end(self) -> None:
        self._ended = True

    def _hand_out(self) -> Array:
        none = np.zeros((0, self._diarizer.num_slots), dtype=np.float32)
        answers, self._ready = np.concatenate([none, *self._ready]), []
        return answers


def feed_together(streams: Sequence[ExportedStream], samples: Sequence[Array]) -> list[Array]:
    """What each stream's samples decide, (frame, slot); chunks that are due go through together."""
    _check(streams)
    for stream, piece in zip(streams, samples, strict=True):
        stream._take(piece)
    return _answer(streams)


def finish_together(streams: Sequence[ExportedStream]) -> list[Array]:
    """The ends: posteriors of the frames that each stream has left, (frame, slot)."""
    _check(streams)
    begun = [not stream._ended for stream in streams]
    for stream in streams:
        stream._end()
    answers = _answer(streams)
    for stream, ends in zip(streams, begun, strict=True):
        if ends and stream._live is not None:
            stream._untold += stream._live.finish(stream.duration)
    return answers


def _check(streams: Sequence[ExportedStream]) -> None:
    if len({id(stream._diarizer) for stream in streams}) > 1:
        raise ConfigError(
            "the streams have several models, but what is heard together goes through one. "
            "Feed them apart."
        )


def _answer(streams: Sequence[ExportedStream]) -> list[Array]:
    """Run every step whose context has come."""
    while due := [(s, chunk) for s in streams if (chunk := s._next()) is not None]:
        heard = [stream._heard(chunk) for stream, chunk in due]
        signal = np.stack([samples for samples, _ in heard])
        numbers = np.stack([told for _, told in heard])
        memory = [np.concatenate(parts) for parts in zip(*(s._memory for s, _ in due), strict=True)]
        posterior, memory = streams[0]._diarizer.step(signal, numbers, memory)
        for row, (stream, chunk) in enumerate(due):
            stream._keep(chunk, posterior[row], [part[row : row + 1] for part in memory])
    return [stream._hand_out() for stream in streams]
