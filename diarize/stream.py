"""Streams of audio: samples in as they come, posteriors and turns out, whatever runs the network.

What runs it is `diarize.streaming`, or `diarize.exported_stream` where torch is missing.

S slots.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from diarize.config import load_config
from diarize.errors import AudioError, ConfigError
from diarize.frames import FrameGrid
from diarize.liveturns import LiveTurns
from diarize.postprocess import PostprocessConfig
from diarize.turns import Turn, in_order

Array = NDArray[np.float32]


class Streamed(Protocol):
    """What is asked of a model, whatever it is."""

    postprocess: dict[str, Any]
    """Thresholds it was tuned with, as keys of `PostprocessConfig`."""

    @property
    def grid(self) -> FrameGrid:
        """The clock of posteriors."""

    @property
    def num_slots(self) -> int:
        """Speakers it can hold."""


class Stream(ABC):
    """One stream of audio.

    Args:
        diarizer: what answers.
        postprocess: how turns are cut; default: what the model recommends.
        max_speakers: who comes after so many is not answered for; default: as many as the model
            has slots.
        with_turns: cut turns as well; else `turns` tells none.

    Attributes:
        wait: longest time from a sound to the answer for it, seconds, besides half a Fourier
            transform (16 ms) and computing.

    Raises:
        ConfigError: if nobody is to be answered for.
    """

    wait: float

    def __init__(
        self,
        diarizer: Streamed,
        postprocess: PostprocessConfig | None,
        max_speakers: int | None,
        with_turns: bool,
    ) -> None:
        if max_speakers is not None and max_speakers < 1:
            raise ConfigError(
                f"max_speakers is {max_speakers}, but a stream tells of at least 1. Raise it."
            )
        if postprocess is None:
            postprocess = load_config(PostprocessConfig, values=diarizer.postprocess)
        self._diarizer, self._max_speakers = diarizer, max_speakers
        shift = diarizer.grid.frame_shift
        self._live = LiveTurns(diarizer.num_slots, shift, postprocess) if with_turns else None
        self._untold: list[Turn] = []
        self._ready: list[Array] = []  # answers that were not handed out
        self._ended = False

    def feed(self, samples: Array) -> Array:
        """Posteriors that these samples decide.

        Args:
            samples: (sample,), the next ones at 16 kHz, -1 to 1; any number.

        Returns:
            (frame, slot) float32, the next frames of the model's ``grid``; often none.

        Raises:
            AudioError: if they are not one channel of finite numbers, or the stream has ended.
        """
        (posterior,) = feed_together([self], [samples])
        return posterior

    def finish(self) -> Array:
        """The end: posteriors of the frames that are left, (frame, slot)."""
        (posterior,) = finish_together([self])
        return posterior

    def turns(self) -> list[Turn]:
        """Turns that were decided since this was last asked, by start; none is ever taken back.

        A turn is decided when nothing that is to come can change it; after `finish`, all are.
        """
        told, self._untold = in_order(self._untold), []
        return told

    @property
    @abstractmethod
    def duration(self) -> float:
        """Seconds fed so far."""

    @abstractmethod
    def _push(self, samples: Array) -> None:
        """Take the next samples, which were checked."""

    @abstractmethod
    def _close(self) -> None:
        """Take note that no more will come."""

    @classmethod
    @abstractmethod
    def _run(cls, streams: Sequence[Self]) -> None:
        """Run every step of some streams of one model whose context has come."""

    def _checked(self, samples: Array) -> Array:
        samples = np.asarray(samples, dtype=np.float32)
        if samples.ndim != 1 or not np.isfinite(samples).all():
            raise AudioError(
                f"stream: the samples have shape {samples.shape}, or some are no numbers, but one "
                "channel of finite ones is expected. Look at what made them."
            )
        if self._ended:
            raise AudioError("stream: it has ended, but samples come. Begin another.")
        return samples

    def _tell(self, answer: Array) -> None:
        """Keep an answer (frame, slot), which is changed, until it is handed out."""
        answer[:, self._max_speakers or answer.shape[1] :] = 0.0  # slots are in order of arrival
        self._ready.append(answer)
        if self._live is not None:  # what is no number is nobody's speech
            self._untold += self._live.push(np.nan_to_num(answer, nan=0.0))

    def _hand_out(self) -> Array:
        none = np.zeros((0, self._diarizer.num_slots), dtype=np.float32)
        answers, self._ready = np.concatenate([none, *self._ready]), []
        return answers


def feed_together(streams: Sequence[Stream], samples: Sequence[Array]) -> list[Array]:
    """What each stream's samples decide; chunks that are due go through the network together.

    Args:
        streams: of one model; each may have its own length and time, and its own latency where
            torch runs the model.
        samples: the next ones of each, see `Stream.feed`.

    Returns:
        (frame, slot) of each, as if it had been fed alone.

    Raises:
        AudioError: see `Stream.feed`; then no stream has taken any samples.
        ConfigError: if the streams have several models, or one stands there twice.
    """
    _check(streams)
    checked = [s._checked(piece) for s, piece in zip(streams, samples, strict=True)]
    for stream, piece in zip(streams, checked, strict=True):  # all of them, or none
        stream._push(piece)
    return _answers(streams)


def finish_together(streams: Sequence[Stream]) -> list[Array]:
    """The ends: posteriors of the frames that each stream has left, (frame, slot)."""
    _check(streams)
    ending = [stream for stream in streams if not stream._ended]
    for stream in ending:
        stream._close()
        stream._ended = True
    answers = _answers(streams)
    for stream in ending:
        if stream._live is not None:
            stream._untold += stream._live.finish(stream.duration)
    return answers


def _check(streams: Sequence[Stream]) -> None:
    if len({id(stream) for stream in streams}) < len(streams):
        raise ConfigError("a stream stands there twice, but it has one end. Name it once.")
    if len({id(stream._diarizer) for stream in streams}) > 1:
        raise ConfigError(
            "the streams have several models, but what is heard together goes through one. "
            "Feed them apart."
        )


def _answers(streams: Sequence[Stream]) -> list[Array]:
    """What the streams say once every step has run that can."""
    if streams:
        type(streams[0])._run(streams)
    return [stream._hand_out() for stream in streams]
