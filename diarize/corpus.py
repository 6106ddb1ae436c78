"""Single-speaker utterances held ready: decoded once, then memory-mapped by every process."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.errors import ManifestError
from diarize.manifest import Session, read_manifest


@dataclass(frozen=True)
class Corpus:
    """Decoded recordings end to end, and where each utterance lies in them.

    Attributes:
        samples: (sample,) int16 at 16 kHz, memory-mapped.
        start: (utterance,) first sample of each.
        length: (utterance,) samples of each.
        voice: (utterance,) index into ``speakers``; all zeros for noise.
        speakers: labels, sorted.
    """

    samples: NDArray[np.int16]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    voice: NDArray[np.int64]
    speakers: tuple[str, ...]

    def utterance(self, index: int, start: int = 0, length: int | None = None) -> NDArray[np.float32]:
        """Samples of one utterance, or of a part of it, as (sample,) float32 in [-1, 1]."""
        end = int(self.length[index]) if length is None else start + length
        first = int(self.start[index])
        return self.samples[first + start : first + end].astype(np.float32) / np.float32(32768)

    @classmethod
    def from_manifest(
        cls, path: str | Path, cache: str | Path | None = None, spoken: bool = True
    ) -> "Corpus":
        """Decode a manifest of utterances, or map what an earlier call decoded.

        Args:
            path: manifest; each line a stretch of a recording, with ``speaker`` if spoken.
            cache: folder for the decoded samples; by default ``$XDG_CACHE_HOME/diarize``.
            spoken: whether each line must name its speaker.

        Raises:
            ManifestError: for an empty manifest or a line without a speaker.
        """
        sessions = read_manifest(path)
        if not sessions:
            raise ManifestError(f"{path}: has no lines, but a corpus needs at least one.")
        for session in sessions:
            if spoken and session.speaker is None:
                raise ManifestError(
                    f"{session.where}: has no 'speaker', but simulation must know who talks. "
                    "Add the key, or give this manifest as noise."
                )
        samples, start, length = _decoded(sessions, _cache_folder(cache))
        speakers = tuple(sorted({s.speaker or "" for s in sessions}))
        index = {speaker: number for number, speaker in enumerate(speakers)}
        voice = np.array([index[s.speaker or ""] for s in sessions], dtype=np.int64)
        return cls(samples, start, length, voice, speakers)


def _cache_folder(cache: str | Path | None) -> Path:
    if cache is not None:
        return Path(cache)
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "diarize"


def _decoded(
    sessions: Sequence[Session], folder: Path
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64]]:
    """All utterances end to end, from the cache where the same files were decoded before."""
    key = [(str(s.audio.resolve()), _stamp(s.audio), s.offset, s.duration) for s in sessions]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:16]
    samples_path, spans_path = folder / f"{name}.samples.npy", folder / f"{name}.spans.npy"
    if not spans_path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _decode(sessions, samples_path, spans_path)
    spans = np.load(spans_path)
    return np.load(samples_path, mmap_mode="r"), spans[0], spans[1]


def _stamp(audio: Path) -> tuple[int, int]:
    try:
        stat = audio.stat()
    except OSError:
        return (0, 0)
    return (stat.st_size, stat.st_mtime_ns)


def _decode(sessions: Sequence[Session], samples_path: Path, spans_path: Path) -> None:
    """Decode each recording once; the spans are renamed last and so vouch for the samples."""
    by_audio: dict[Path, list[int]] = {}
    for number, session in enumerate(sessions):
        by_audio.setdefault(session.audio, []).append(number)
    pieces: list[NDArray[np.int16]] = []
    start = np.zeros(len(sessions), dtype=np.int64)
    length = np.zeros(len(sessions), dtype=np.int64)
    total = 0
    for audio, numbers in tqdm(by_audio.items(), desc="decoding speech", disable=None):
        waveform = read_audio(audio)
        for number in numbers:
            session = sessions[number]
            first = round(session.offset * SAMPLE_RATE)
            wanted = waveform[first:]
            if session.duration is not None:
                wanted = wanted[: round(session.duration * SAMPLE_RATE)]
            if wanted.size == 0:
                raise ManifestError(
                    f"{session.where}: starts at {session.offset:.2f} s, but its audio lasts "
                    f"{waveform.size / SAMPLE_RATE:.2f} s. Correct 'offset'."
                )
            piece = np.clip(np.round(wanted * 32768), -32768, 32767).astype(np.int16)
            start[number], length[number] = total, piece.size
            pieces.append(piece)
            total += piece.size
    _save(samples_path, np.concatenate(pieces))
    _save(spans_path, np.stack([start, length]))


def _save(path: Path, array: NDArray[np.generic]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, array)
    os.replace(temporary, path)
