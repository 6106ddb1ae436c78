"""Samples as they come: of a recording, a pipe, a microphone.

Each source yields pieces of (sample,) float32, -1 to 1, at 16 kHz.
"""

from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from queue import Queue
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.errors import AudioError

BEHIND = 60
"""Seconds of samples that a microphone may be ahead of the model."""

Pieces = Iterator[NDArray[np.float32]]

PIECE = SAMPLE_RATE // 10
"""Samples of a piece."""


def of_recording(audio: str | Path, channel: int | None = None) -> Pieces:
    """A recording from its beginning, as fast as it is read; memory holds a minute of it.

    That it can be read is seen at once.

    Args:
        audio: the file.
        channel: of those that it has, from 0; None is their mean.

    Raises:
        AudioError: if it cannot be read.
    """
    num_samples = audio_info(audio).num_samples_at(SAMPLE_RATE)
    minute = 60 * SAMPLE_RATE

    def pieces() -> Pieces:
        for first in range(0, num_samples, minute):
            length = min(minute, num_samples - first)
            samples = read_audio(audio, first / SAMPLE_RATE, length / SAMPLE_RATE, channel)
            yield from np.split(samples, range(PIECE, len(samples), PIECE))

    return pieces()


def of_pipe(pipe: Any) -> Pieces:
    """Raw samples of 16 bits, little endian, one channel, at 16 kHz, as they arrive.

    Args:
        pipe: bytes, open for reading.

    Raises:
        AudioError: if it ends within a sample.
    """
    rest, incoming = b"", cast(BufferedIOBase, pipe)
    while piece := incoming.read1(2 * PIECE):
        piece = rest + piece
        whole = len(piece) // 2 * 2
        rest = piece[whole:]
        yield np.frombuffer(piece[:whole], dtype="<i2").astype(np.float32) / np.float32(32768)
    if rest:
        raise AudioError("-: ends within a sample, but samples have 2 bytes. Is it 16-bit PCM?")


def of_microphone(name: str | None = None) -> Pieces:
    """What a microphone hears, from the first piece that is asked for until the consumer stops.

    A thread of its own listens, so that nothing is lost while a model works on what was heard.

    Args:
        name: of a device, a part of it, or its number; None is the system's default.

    Raises:
        AudioError: if there is none that records at 16 kHz, or samples were lost.
    """
    try:
        import sounddevice
    except OSError as error:  # the package is there, the library that it binds is not
        raise AudioError(
            f"microphone: cannot be heard ({error}), but recording needs PortAudio. Install it "
            "(Debian: libportaudio2), or pipe samples in: arecord ... | diarize stream -"
        ) from None
    device = int(name) if name is not None and name.isdecimal() else name
    heard: Queue[NDArray[np.float32]] = Queue()

    def hear(samples: NDArray[np.float32], count: int, time: Any, status: Any) -> None:
        heard.put(samples[:, 0].copy())

    def pieces() -> Pieces:
        try:
            with sounddevice.InputStream(SAMPLE_RATE, PIECE, device, 1, "float32", callback=hear):
                while True:
                    yield heard.get()
                    if heard.qsize() * PIECE > BEHIND * SAMPLE_RATE:
                        raise AudioError(
                            f"microphone: it is {BEHIND} s ahead, for the model is slower than "
                            "real time. Choose a longer --latency."
                        )
        except sounddevice.PortAudioError as error:
            raise AudioError(
                f"microphone {name or 'of the system'}: cannot be recorded at {SAMPLE_RATE} Hz "
                f"({error}). Name one of: python -m sounddevice"
            ) from None

    return pieces()
