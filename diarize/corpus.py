"""Single-speaker utterances held ready: decoded once, then memory-mapped by every process.

What is decoded is kept in a cache folder. Whoever decodes more removes from there what nobody has
used for ``KEPT`` days.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE, TOLERANCE, read_audio
from diarize.errors import AudioError, ManifestError
from diarize.files import replacing
from diarize.manifest import Session, read_manifest
from diarize.progress import progress

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
        voice: (utterance,) index into ``speakers``.
        speakers: labels, sorted; "" for lines without one.
        where: the manifest, for messages.
    """

    samples: NDArray[np.int16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    voice: NDArray[np.int64]
    speakers: tuple[str, ...]
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
        cls, path: str | Path, cache: str | Path | None = None, spoken: bool = True
    ) -> "Corpus":
        """Decode a manifest of utterances, or map what an earlier call decoded.

        The decoded samples serve until a recording, or where an utterance lies in it, changes.

        Args:
            path: manifest; each line a stretch of a recording, with ``speaker`` if spoken.
            cache: folder for the decoded samples; by default ``$XDG_CACHE_HOME/diarize``.
            spoken: whether each line must name its speaker.

        Raises:
            ManifestError: for an empty manifest, a line without a speaker, or one whose audio is
                too short.
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
        samples, start, length = _decoded(sessions, _cache_folder(cache))
        speakers = tuple(sorted({s.speaker or "" for s in sessions}))
        index = {speaker: number for number, speaker in enumerate(speakers)}
        voice = np.array([index[s.speaker or ""] for s in sessions], dtype=np.int64)
        return cls(samples, start, length, voice, speakers, str(path))

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


def _decoded(
    sessions: Sequence[Session], folder: Path
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """All utterances end to end, from the cache where the same files were decoded before."""
    key = [(str(s.audio.resolve()), _stamp(s.audio), s.offset, s.duration) for s in sessions]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    samples_path, spans_path = folder / f"{name}.int16", folder / f"{name}.spans.npy"
    if not (spans_path.exists() and samples_path.exists()):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _prune(folder)
            _decode(sessions, samples_path, spans_path)
        except OSError as error:
            raise AudioError(
                f"{folder}: cannot be written ({error.strerror}), but decoded audio is kept there. "
                "Make room, or set XDG_CACHE_HOME to another folder."
            ) from None
    with suppress(OSError):  # a cache that others may only read
        for path in (samples_path, spans_path):
            os.utime(path)
    start, length = np.load(spans_path)
    return _mapped(samples_path), start, length


def _prune(folder: Path) -> None:
    """Remove what nobody has used for long, and what unfinished writes have left."""
    for path in folder.iterdir():
        if CACHED.fullmatch(path.name):
            days = 1 if path.suffix == ".tmp" else KEPT
            with suppress(OSError):  # another process may do the same
                if path.stat().st_mtime < time.time() - days * A_DAY:
                    path.unlink()


def _mapped(path: Path) -> NDArray[np.int16]:
    return np.memmap(path, dtype=np.int16, mode="r")


def _stamp(audio: Path) -> tuple[int, int] | None:
    """Size and time of change; None for a file that reading will report as missing."""
    try:
        status = audio.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _decode(sessions: Sequence[Session], samples_path: Path, spans_path: Path) -> None:
    """Decode each recording once; the spans are written last and so vouch for the samples."""
    by_audio: dict[Path, list[int]] = {}
    for number, session in enumerate(sessions):
        by_audio.setdefault(session.audio, []).append(number)
    spans = np.zeros((2, len(sessions)), dtype=np.int64)  # start, length
    total = 0
    print(f"decoding {len(by_audio)} recordings into {samples_path.parent}", file=sys.stderr)
    with (
        replacing(samples_path) as beside,
        beside.open("wb") as file,
        progress(len(by_audio), "recordings decoded") as done,
    ):
        for audio, numbers in by_audio.items():
            try:
                waveform = read_audio(audio)
            except AudioError as error:
                raise AudioError(f"{sessions[numbers[0]].where}: {error}") from None
            for number in numbers:
                piece = _part(waveform, sessions[number])
                file.write(piece.tobytes())
                spans[:, number] = total, piece.size
                total += piece.size
            done(1)
    with replacing(spans_path) as beside, beside.open("wb") as file:
        np.save(file, spans)


def _part(waveform: NDArray[np.float32], session: Session) -> NDArray[np.int16]:
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
    return np.clip(np.round(part * 32768), -32768, 32767).astype(np.int16)
