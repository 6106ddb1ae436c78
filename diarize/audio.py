"""A span of a recording as mono float32 at the rate the model hears.

What libsndfile reads (WAV, FLAC, MP3, Ogg Vorbis, Opus and more) is read span by span. Other
formats are decoded once, by an ``ffmpeg`` on PATH, to a FLAC file without a name that serves all
spans and vanishes with the processes that hold it.
"""

import io
import os
import shutil
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from diarize.errors import AudioError

SAMPLE_RATE = 16000
"""Samples per second of everything that reaches a model."""

TOLERANCE = 0.01
"""Seconds by which a time may pass the end of its recording: rounding to two decimals."""

BLOCK_FRAMES = 1 << 20
"""Sample frames read at once, so that a long recording of many channels needs little memory."""

LOSSY = frozenset(("MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III", "VORBIS", "OPUS"))
"""Codecs whose frames lean on frames before them."""

WARM_UP = 1.0
"""Seconds of a lossy recording decoded before a span. The bit reservoir of MP3 reaches back 511
bytes, over 20 frames at the lowest rates, and Vorbis misplaces a seek into the last page by a
millisecond. Opus converges only slowly: up to a hundredth of full scale may remain."""

ARRAYS = (".npy", ".npz")
"""Endings of files that hold arrays, and no audio."""

UNKNOWN_FRAMES = 1 << 62
"""More than any recording has: what libsndfile answers for a FLAC stream of unknown length."""

MARGIN_SAMPLES = 512
"""Samples of the slower rate read on each side of a span, so that resampling a part equals a
part of resampling the whole: soxr's HQ filter reaches less than 256."""

_quiet_lock = threading.Lock()


@dataclass(frozen=True)
class AudioInfo:
    """What the header of a recording says.

    Attributes:
        sample_rate: samples per second of each channel.
        channels: number of channels.
        num_samples: samples of each channel.
        duration: seconds.
    """

    sample_rate: int
    channels: int
    num_samples: int
    duration: float

    def num_samples_at(self, sample_rate: int) -> int:
        """Samples of the whole recording once resampled, halves rounded up as soxr does."""
        return (2 * self.num_samples * sample_rate + self.sample_rate) // (2 * self.sample_rate)


def audio_info(path: str | Path) -> AudioInfo:
    """Rate, channels and length of a recording, from its header.

    Raises:
        AudioError: if the file is missing or cannot be read as audio.
    """
    with _open(Path(path)) as file:
        return _info(file)


def read_audio(
    path: str | Path,
    offset: float = 0.0,
    duration: float | None = None,
    channel: int | None = None,
    sample_rate: int = SAMPLE_RATE,
) -> npt.NDArray[np.float32]:
    """One span of a recording.

    A span holds the samples ``round(offset * sample_rate)`` up to
    ``round((offset + duration) * sample_rate)`` of the whole recording at that rate, so spans
    that touch join without a seam.

    Args:
        path: the recording.
        offset: seconds from its start.
        duration: seconds; None means to the end.
        channel: which channel, from 0; None means the mean of all.
        sample_rate: samples per second of the result.

    Returns:
        (sample,) float32, full scale at 1.

    Raises:
        AudioError: if the file cannot be read, the span does not lie in it, or the channel
            does not exist.
    """
    with _open(Path(path)) as file:
        info = _info(file)
        _check_span(path, info, offset, duration)
        check_channel(path, info, channel)
        length = info.num_samples_at(sample_rate)
        start = min(round(offset * sample_rate), length)
        stop = length
        if duration is not None:
            stop = min(round((offset + duration) * sample_rate), length)
        if info.sample_rate == sample_rate:
            return _read_mono(path, file, start, stop, channel)
        # Output sample `whole` and input sample `first` share one instant, so that the part is
        # resampled in the phase of the whole.
        divisor = gcd(info.sample_rate, sample_rate)
        step_in, step_out = info.sample_rate // divisor, sample_rate // divisor
        margin = MARGIN_SAMPLES * max(1, -(-sample_rate // info.sample_rate))
        whole = max(0, start - margin) // step_out * step_out
        first = whole // step_out * step_in
        last = min(info.num_samples, -(-(stop + margin) * step_in // step_out))
        waveform = _read_mono(path, file, first, last, channel)
    import soxr  # only now: recordings at the right rate need none

    resampled = soxr.resample(waveform, info.sample_rate, sample_rate, quality="HQ")
    return np.ascontiguousarray(resampled[start - whole : stop - whole], dtype=np.float32)


def check_channel(path: str | Path, info: AudioInfo, channel: int | None) -> None:
    """See that a recording has a channel; None asks for no one of them.

    Raises:
        AudioError: if it has not.
    """
    if channel is not None and not 0 <= channel < info.channels:
        raise AudioError(
            f"{path}: channel {channel} is asked for, but there are {info.channels}, counted "
            f"from 0. Choose 0 to {info.channels - 1}, or none for their mean."
        )


def _info(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(file.samplerate, file.channels, file.frames, file.frames / file.samplerate)


def _check_span(path: str | Path, info: AudioInfo, offset: float, duration: float | None) -> None:
    if offset < 0 or (duration is not None and duration < 0):
        raise AudioError(
            f"{path}: offset {offset} s and duration {duration} s are asked for, but neither may "
            "be negative. Give duration null to read to the end."
        )
    end = offset + (duration or 0.0)
    if end > info.duration + TOLERANCE:
        raise AudioError(
            f"{path}: the span from {offset:.3f} s to {end:.3f} s is asked for, but the audio "
            f"lasts {info.duration:.3f} s. Shorten the span or check the file."
        )


def _read_mono(
    path: str | Path, file: soundfile.SoundFile, start: int, stop: int, channel: int | None
) -> npt.NDArray[np.float32]:
    """Samples [start, stop) at the file's own rate, one channel or the mean of all."""
    waveform = np.empty(stop - start, dtype=np.float32)
    warm_up = round(WARM_UP * file.samplerate) if file.subtype in LOSSY else 0
    for first in range(start, stop, BLOCK_FRAMES):
        last = min(first + BLOCK_FRAMES, stop)
        early = max(0, first - warm_up)
        try:
            with _quiet(file.subtype):
                file.seek(early)
                # (sample, channel)
                block = file.read(last - early, dtype="float32", always_2d=True)[first - early :]
        except soundfile.LibsndfileError as error:
            raise AudioError(
                f"{path}: cannot be decoded ({error.error_string}). Is the file damaged?"
            ) from None
        if len(block) < last - first:
            raise AudioError(
                f"{path}: the header promises {file.frames} samples, but only "
                f"{first + len(block)} can be read. Is the file cut off?"
            )
        mono = block.mean(axis=1) if channel is None else block[:, channel]
        waveform[first - start : last - start] = mono
    if not np.isfinite(waveform).all():
        bad = start + int(np.argmin(np.isfinite(waveform)))
        raise AudioError(
            f"{path}: sample {bad} is not a number, but audio is finite. Write the file again."
        )
    return waveform


@contextmanager
def _quiet(subtype: str) -> Iterator[None]:
    """Keep libmpg123 from writing to file descriptor 2.

    It complains there about every frame before a seek that leans on frames it did not decode;
    those frames are the warm-up, and what it cannot decode after them shows in the result.
    """
    if not subtype.startswith("MPEG"):
        yield
        return
    with _quiet_lock:
        standard_error, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            os.close(nowhere)


def _open(path: Path) -> soundfile.SoundFile:
    try:
        status = path.stat()
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    if not path.is_file():
        raise AudioError(f"{path}: is not a file, but audio is read from files. Check the path.")
    if not status.st_size:
        raise AudioError(f"{path}: is empty, 0 bytes, but audio is expected. Copy it again.")
    if path.suffix.lower() in ARRAYS:
        raise AudioError(
            f"{path}: is an array by its name, but audio is expected here. Features are named in "
            "a manifest, by 'feature_filepath' and 'frame_shift'."
        )
    try:
        file = soundfile.SoundFile(path)
        if file.frames < UNKNOWN_FRAMES:
            return file
        file.close()
        reason = "its header does not say how long it is"
    except (soundfile.LibsndfileError, TypeError) as error:
        reason = getattr(error, "error_string", str(error)).rstrip(".")
    decoded = _decode(path, reason, status.st_mtime_ns, status.st_size)
    return soundfile.SoundFile(_Reader(decoded))


class _Decoded:
    """A file whose name may go: it is there until the last process that holds it ends."""

    def __init__(self, path: str) -> None:
        self.descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self.descriptor)


class _Reader(io.RawIOBase):
    """Reads a decoded file from a place of its own, which no other reader moves.

    Descriptors share their place with forked processes, so it is kept here.
    """

    def __init__(self, decoded: _Decoded) -> None:
        super().__init__()
        self._decoded = decoded
        self._place = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        size = os.fstat(self._decoded.descriptor).st_size
        self._place = offset + {os.SEEK_CUR: self._place, os.SEEK_END: size}.get(whence, 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        content = os.pread(self._decoded.descriptor, len(buffer), self._place)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)


@lru_cache(maxsize=8)
def _decode(path: Path, reason: str, modified: int, size: int) -> _Decoded:
    """The first audio stream of a file that libsndfile cannot read, as FLAC.

    Args:
        path: the file.
        reason: why libsndfile cannot.
        modified: with ``size``, tells a changed file from the one decoded before.
        size: bytes.
    """
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise AudioError(
            f"{path}: libsndfile cannot read it ({reason}), and no ffmpeg is on PATH to try. "
            "Install ffmpeg, or convert the file to WAV or FLAC."
        )
    handle, decoded = tempfile.mkstemp(prefix="diarize-", suffix=".flac")
    os.close(handle)
    command = [ffmpeg, "-nostdin", "-v", "error", "-y", "-i", os.path.abspath(path)]
    command += ["-map", "0:a:0", "-c:a", "flac", "-f", "flac", decoded]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False
        )
        if not done.returncode and os.path.getsize(decoded):
            return _Decoded(decoded)
    finally:
        Path(decoded).unlink(missing_ok=True)
    lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
    raise AudioError(
        f"{path}: neither libsndfile ({reason}) nor ffmpeg ({lines[-1].strip()}) can read it. "
        "Does it hold audio?"
    )
