"""Streams through a model that `diarize export` wrote for a latency: without torch.

As `diarize.streaming` has them: samples in as they come, posteriors and turns out. What is
remembered goes into the graph of one step and comes out of it.

B streams, N samples, S slots.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from diarize.exported import Array, ExportedDiarizer
from diarize.latency import Chunk, rows_known
from diarize.postprocess import PostprocessConfig
from diarize.stream import Stream


class ExportedStream(Stream):
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

    _diarizer: ExportedDiarizer

    def __init__(
        self,
        diarizer: ExportedDiarizer,
        postprocess: PostprocessConfig | None = None,
        max_speakers: int | None = None,
        with_turns: bool = True,
    ) -> None:
        super().__init__(diarizer, postprocess, max_speakers, with_turns)
        self._config = diarizer.latency()
        self._memory = diarizer.begin()
        graph = diarizer.graph
        self._rows = graph.hop // graph.step
        self._samples = np.zeros(graph.reach + 1, dtype=np.float32)  # silence, then what has come
        self._first = -len(self._samples)  # the sample of the recording that stands first there
        self._answered = 0  # rows whose chunks are done
        self.wait = (self._config.chunk + self._config.right) * graph.hop / graph.sample_rate

    @property
    def duration(self) -> float:
        """Seconds fed so far."""
        return self._num_samples / self._diarizer.graph.sample_rate

    @property
    def _num_samples(self) -> int:
        return self._first + len(self._samples)

    def _push(self, samples: Array) -> None:
        self._samples = np.concatenate([self._samples, samples])

    def _close(self) -> None:
        """Nothing: that there will be no more is plain from `_ended`."""

    @classmethod
    def _run(cls, streams: "Sequence[ExportedStream]") -> None:
        while due := [(s, chunk) for s in streams if (chunk := s._next()) is not None]:
            heard = [stream._heard(chunk) for stream, chunk in due]
            signal = np.stack([samples for samples, _ in heard])
            numbers = np.stack([told for _, told in heard])
            parts = zip(*(stream._memory for stream, _ in due), strict=True)
            memory = [np.concatenate(part) for part in parts]
            posterior, memory = streams[0]._diarizer.step(signal, numbers, memory)
            for row, (stream, chunk) in enumerate(due):
                stream._keep(chunk, posterior[row], [part[row : row + 1] for part in memory])

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
        self._memory, self._answered = memory, chunk.end
        heard_next = max(chunk.end - self._config.left * self._rows, 0) * graph.step
        spare = heard_next - graph.reach - 1 - self._first
        self._samples, self._first = self._samples[spare:], self._first + spare
        self._tell(answer)
