"""Recordings held ready: decoded once, then memory-mapped by every process.

What is decoded is kept in a cache folder. Whoever decodes more removes from there what nobody has
used for ``KEPT`` days.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE, TOLERANCE, read_audio
from diarize.augment import change_speed
from diarize.errors import AudioError, ManifestError
from diarize.files import replacing
from diarize.manifest import Session, read_manifest
from diarize.progress import progress
from diarize.speech import SHORTEST, by_energy, by_words

LAYOUT = 2
"""Of cached files; another one is another name."""

KEPT = 30
"""Days after their last use that decoded samples stay in the cache."""

A_DAY = 86400
"""Seconds."""

CACHED = re.compile(r"\.?[0-9a-f]{16}\.(int16|spans\.npy|samples\.npy)(\.[0-9a-f]{12}\.tmp)?")
"""Names of cached files, of unfinished ones (.tmp) and of those before 0.1.0 (.samples.npy)."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Decoded recordings end to end, and where each utterance lies in them.

    Attributes:
        samples: (sample,) int16 at 16 kHz, memory-mapped.
        start: (utterance,) first sample of each.
        length: (utterance,) samples of each.
        power: (utterance,) mean square of each, full scale being 1.
        voice: (utterance,) index into ``speakers``.
        speakers: labels, sorted, those of one speaker at all speeds together; "" for lines without.
        speeds: at which every utterance is there; each makes another voice.
        where: the manifest, for messages.
    """

    samples: NDArray[np.int16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    power: NDArray[np.float64]
    voice: NDArray[np.int64]
    speakers: tuple[str, ...]
    speeds: tuple[float, ...] = (1.0,)
    where: str = "corpus"

    def utterance(
        self, index: int, start: int = 0, length: int | None = None
    ) -> NDArray[np.float32]:
        """Samples of one utterance, or of a part of it, as (sample,) float32 in [-1, 1]."""
        first = int(self.start[index])
        end = int(self.length[index]) if length is None else start + length
        return self.samples[first + start : first + end].astype(np.float32) / np.float32(32768)

    @property
    def fingerprint(self) -> str:
        """A short name of who says what in which order, to tell corpora apart; reads it all."""
        digest = hashlib.sha256(json.dumps(self.speakers).encode())
        for column in (self.start, self.length, self.voice, self.samples):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()[:12]

    @classmethod
    def from_manifest(
        cls,
        path: str | Path,
        cache: str | Path | None = None,
        spoken: bool = True,
        speeds: Sequence[float] = (1.0,),
        trim: bool = False,
    ) -> "Corpus":
        """Decode a manifest of utterances, or map what an earlier call decoded.

        The decoded samples serve until a recording, or where an utterance lies in it, changes.

        Args:
            path: manifest; each line a stretch of a recording, with ``speaker`` if spoken.
            cache: folder for the decoded samples; by default ``$XDG_CACHE_HOME/diarize``.
            spoken: whether each line must name its speaker.
            speeds: at which utterances are kept, each a voice of its own (Ko et al. 2015).
            trim: make an utterance of each stretch of speech in a line, by its ``words`` and
                ``alignments``, else by energy.

        Raises:
            ManifestError: for an empty manifest, a line without a speaker, one whose audio is
                too short, or if no utterance is left.
            AudioError: if a recording cannot be read, or the cache cannot be written.
        """
        sessions = read_manifest(path)
        if not sessions:
            raise ManifestError(
                f"{path}: has 0 lines, but a corpus needs at least 1. Write a line per utterance."
            )
        for session in sessions:
            if session.frame_shift is not None:
                raise ManifestError(
                    f"{session.where}: has 'feature_filepath', but what is simulated is mixed from "
                    "audio. Give 'audio_filepath'."
                )
            if spoken and session.speaker is None:
                raise ManifestError(
                    f"{session.where}: has no 'speaker', but simulation must know who talks. "
                    "Add the key, or give this manifest as noise."
                )
        speeds = tuple(dict.fromkeys(speeds))
        samples, spans = _decoded(sessions, _cache_folder(cache), speeds, trim)
        long = spans[:, 1] >= SHORTEST * SAMPLE_RATE
        if spoken and not long.all():
            told = (
                f"{path}: {np.sum(~long)} of {len(long)} utterances are shorter than {SHORTEST} s"
            )
            if not long.any():
                raise ManifestError(
                    f"{told}, but a corpus needs at least 1 that is not. Add speech."
                )
            print(f"{told}, and left out", file=sys.stderr)
            spans = spans[long]
        start, length, energy, line, speed = spans.T
        labels = sorted({s.speaker or "" for s in sessions})
        index = {speaker: number * len(speeds) for number, speaker in enumerate(labels)}
        voice = np.array([index[s.speaker or ""] for s in sessions], dtype=np.int64)[line] + speed
        speakers = tuple(_name(label, speed) for label in labels for speed in speeds)
        power = energy / np.maximum(length, 1) / 32768**2
        return cls(samples, start, length, power, voice, speakers, speeds, str(path))

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the same file: hours of speech are not sent through a pipe.
        state = dict(vars(self))
        if isinstance(self.samples, np.memmap):
            state["samples"] = Path(str(self.samples.filename))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state["samples"], Path):
            state = state | {"samples": _mapped(state["samples"])}
        vars(self).update(state)


def _cache_folder(cache: str | Path | None) -> Path:
    if cache is not None:
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diarize"


def _name(speaker: str, speed: float) -> str:
    """Another speed is another voice."""
    return speaker if speed == 1.0 else f"{speaker}@{speed:g}"


def _decoded(
    sessions: Sequence[Session], folder: Path, speeds: tuple[float, ...], trim: bool
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """All utterances end to end, from the cache where the same files were decoded before.

    Returns:
        (sample,), and (utterance, 5): first sample, samples, sum of their squares, line, speed.
    """
    lines = [(*_identity(s.audio, s.channel), s.offset, s.duration) for s in sessions]
    words = [(s.extra.get("words"), s.extra.get("alignments")) for s in sessions if trim]
    key = [LAYOUT, lines, speeds, words]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    samples_path, spans_path = folder / f"{name}.int16", folder / f"{name}.spans.npy"
    if not (spans_path.exists() and samples_path.exists()):
        with _filling(folder):
            _decode(sessions, samples_path, spans_path, speeds, trim)
    _used(samples_path, spans_path)
    return _mapped(samples_path), np.load(spans_path)


def decoded_recording(
    audio: Path, cache: str | Path | None = None, channel: int | None = None
) -> NDArray[np.int16]:
    """All of a recording, decoded now or by an earlier call, and memory-mapped.

    Args:
        audio: the recording; where it changes, it is decoded again.
        cache: folder for the decoded samples; by default ``$XDG_CACHE_HOME/diarize``.
        channel: which of several, from 0; None is their mean.

    Returns:
        (sample,) int16 at 16 kHz.

    Raises:
        AudioError: if it cannot be read, or the cache cannot be written.
    """
    folder = _cache_folder(cache)
    key = json.dumps(_identity(audio, channel))
    path = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.int16"
    if not path.exists():
        waveform = read_audio(audio, channel=channel)
        with _filling(folder), replacing(path) as beside:
            as_int16(waveform).tofile(beside)
    _used(path)
    return _mapped(path)


@contextmanager
def _filling(folder: Path) -> Iterator[None]:
    """A cache folder that is there and has room; what fails for want of them is told."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _prune(folder)
        yield
    except OSError as error:
        raise AudioError(
            f"{folder}: cannot be written ({error.strerror}), but decoded audio is kept there. "
            "Make room, or set XDG_CACHE_HOME to another folder."
        ) from None


def _used(*paths: Path) -> None:
    """Note that cached files were used today."""
    with suppress(OSError):  # a cache that others may only read
        for path in paths:
            os.utime(path)


def _prune(folder: Path) -> None:
    """Remove what nobody has used for long, and what unfinished writes have left."""
    for path in folder.iterdir():
        if CACHED.fullmatch(path.name):
            days = 1 if path.suffix == ".tmp" else KEPT
            with suppress(OSError):  # another process may do the same
                if path.stat().st_mtime < time.time() - days * A_DAY:
                    path.unlink()


def _mapped(path: Path) -> NDArray[np.int16]:
    # Copied on write, which nobody does: torch takes no array that cannot be written.
    return np.memmap(path, dtype=np.int16, mode="c")


def _identity(audio: Path, channel: int | None) -> tuple[Any, ...]:
    """What is heard of a file as it is now."""
    one = () if channel is None else (channel,)
    return str(audio.resolve()), _stamp(audio), *one


def _stamp(audio: Path) -> tuple[int, int] | None:
    """Size and time of change; None for a file that reading will report as missing."""
    try:
        status = audio.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _decode(
    sessions: Sequence[Session],
    samples_path: Path,
    spans_path: Path,
    speeds: tuple[float, ...],
    trim: bool,
) -> None:
    """Decode each recording once; the spans are written last and so vouch for the samples."""
    by_audio: dict[tuple[Path, int | None], list[int]] = {}
    for number, session in enumerate(sessions):
        by_audio.setdefault((session.audio, session.channel), []).append(number)
    spans: list[tuple[int, int, int, int, int]] = []
    total = 0
    print(f"decoding {len(by_audio)} recordings into {samples_path.parent}", file=sys.stderr)
    with (
        replacing(samples_path) as beside,
        beside.open("wb") as file,
        progress(len(by_audio), "recordings decoded") as done,
    ):
        for (audio, channel), numbers in by_audio.items():
            try:
                waveform = read_audio(audio, channel=channel)
            except AudioError as error:
                raise AudioError(f"{sessions[numbers[0]].where}: {error}") from None
            for number in numbers:
                for piece in _stretches(_part(waveform, sessions[number]), sessions[number], trim):
                    for speed, factor in enumerate(speeds):
                        samples = as_int16(change_speed(piece, factor))
                        file.write(samples.tobytes())
                        energy = int(np.square(samples, dtype=np.int64).sum())
                        spans.append((total, samples.size, energy, number, speed))
                        total += samples.size
            done(1)
    by_line = sorted(spans, key=lambda span: span[3])  # speeds of a stretch stay together
    with replacing(spans_path) as beside, beside.open("wb") as file:
        np.save(file, np.array(by_line, dtype=np.int64).reshape(-1, 5))


def _stretches(
    waveform: NDArray[np.float32], session: Session, trim: bool
) -> list[NDArray[np.float32]]:
    """The utterances of a line."""
    if not trim:
        return [waveform]
    spans = by_words(session.extra, session.offset, waveform.size, session.where)
    return [waveform[a:b] for a, b in (by_energy(waveform) if spans is None else spans)]


def as_int16(waveform: NDArray[np.float32]) -> NDArray[np.int16]:
    """The nearest of 65536 steps; what is beyond full scale is cut off."""
    return np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16)


def _part(waveform: NDArray[np.float32], session: Session) -> NDArray[np.float32]:
    """The samples of one line of its decoded recording."""
    lasts = waveform.size / SAMPLE_RATE
    if session.offset >= lasts:
        raise ManifestError(
            f"{session.where}: starts at {session.offset:.2f} s, but its audio lasts "
            f"{lasts:.2f} s. Correct 'offset'."
        )
    if session.duration is not None and session.end > lasts + TOLERANCE:
        raise ManifestError(
            f"{session.where}: ends at {session.end:.2f} s, but its audio lasts {lasts:.2f} s. "
            "Shorten 'duration' or re-encode the file."
        )
    part = waveform[round(session.offset * SAMPLE_RATE) :]
    if session.duration is not None:
        part = part[: max(round(session.duration * SAMPLE_RATE), 1)]
    return part
