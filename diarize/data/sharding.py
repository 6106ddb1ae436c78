"""Shards written: sessions of a manifest in a few large files, through lhotse."""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path

import soundfile

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.corpus import as_int16
from diarize.data.shards import INDEX
from diarize.errors import AudioError, ManifestError
from diarize.files import write_text
from diarize.manifest import Session, reference_turns
from diarize.progress import progress
from diarize.turns import clip, shift


def write_shards(
    sessions: Sequence[Session], folder: str | Path, duration: float, show: bool = True
) -> Path:
    """Write shards of sessions with references, and beside their folder an index of them.

    Audio becomes mono FLAC at 16 kHz; of a recording only the session's span is kept. The folder
    is written whole or not at all.

    Args:
        sessions: manifest lines with references.
        folder: not there yet.
        duration: seconds of audio after which a shard is full; sessions are not cut.
        show: whether to tell how far it is.

    Returns:
        The index.

    Raises:
        ManifestError: for a folder that is there, no sessions, or one without reference or audio.
        AudioError: if a recording cannot be read.
    """
    folder = Path(folder)
    if not sessions:
        raise ManifestError(
            "a manifest of sessions has 0 lines, but shards hold at least 1. Name another."
        )
    if folder.exists():
        raise ManifestError(
            f"{folder}: is there already, but shards are written to a new folder. Name another, or "
            "remove it."
        )
    for session in sessions:
        if session.frame_shift is not None:
            raise ManifestError(
                f"{session.where}: session {session.session_id!r} is of features, but shards hold "
                "audio. Train from the manifest itself."
            )
    left = list(zip(sessions, _names(sessions), strict=True))[::-1]
    suffixes: list[str] = []
    beside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        beside.mkdir()
        with progress(len(left), "sessions written", show) as done:
            while left:
                suffixes.append(f".{len(suffixes):06d}")
                _write_shard(left, beside, suffixes[-1], duration, done)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    listed = {
        "cuts": [f"{folder.name}/cuts{suffix}.jsonl.gz" for suffix in suffixes],
        "recording": [f"{folder.name}/recording{suffix}.tar" for suffix in suffixes],
    }
    index = folder.with_name(folder.name + INDEX)
    write_text(index, json.dumps(listed, indent=1) + "\n")
    return index


def _names(sessions: Sequence[Session]) -> list[str]:
    """Session ids, numbered where several spans share one."""
    total, seen = Counter(session.session_id for session in sessions), Counter[str]()
    names = []
    for session in sessions:
        name = session.session_id.replace("/", "_")
        seen[session.session_id] += 1
        several = total[session.session_id] > 1
        names.append(f"{name}-{seen[session.session_id]}" if several else name)
    return names


def _write_shard(
    left: list[tuple[Session, str]],
    folder: Path,
    suffix: str,
    duration: float,
    done: Callable[[float], None],
) -> None:
    """Write sessions from the end of a list, and take them from it, until a shard is full."""
    from lhotse import Recording as Stored
    from lhotse import SupervisionSegment
    from lhotse.shar import SharWriter

    written = 0.0
    with SharWriter(
        str(folder), {"recording": "flac"}, shard_size=None, shard_suffix=suffix
    ) as shard:
        while left and (not written or written < duration):
            session, name = left.pop()
            try:
                span = session.offset, session.duration
                waveform = read_audio(session.audio, *span, session.channel)
            except AudioError as error:
                raise AudioError(f"{session.where}: {error}") from None
            lasts = waveform.size / SAMPLE_RATE
            turns = clip(shift(reference_turns(session), -session.offset), 0.0, lasts)
            wav = BytesIO()
            soundfile.write(wav, as_int16(waveform), SAMPLE_RATE, format="WAV")
            cut = Stored.from_bytes(wav.getvalue(), name).to_cut()
            cut.id = name
            cut.supervisions = [
                SupervisionSegment(
                    id=f"{name}-{number}",
                    recording_id=name,
                    start=turn.start,
                    duration=turn.duration,
                    speaker=turn.speaker,
                )
                for number, turn in enumerate(turns)
            ]
            shard.write(cut)
            written += lasts
            done(1)
