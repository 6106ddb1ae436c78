"""Simulated sessions on disk: FLAC, RTTM, a manifest, and what they were made from."""

import hashlib
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from diarize.audio import SAMPLE_RATE, audio_info
from diarize.errors import AudioError
from diarize.experiment import note_facts
from diarize.files import replacing, write_text
from diarize.formats.rttm import format_rttm, read_rttm
from diarize.manifest import Session, write_manifest
from diarize.progress import progress
from diarize.simulate.simulator import Simulator, Waveform


def write_sessions(
    simulator: Simulator, num_sessions: int, output: str | Path, show: bool = True
) -> Path:
    """Write sessions 0, 1, … as FLAC and RTTM, and a manifest of them all.

    A session that an interrupted call finished is kept; the manifest is written last. What they
    were made from stands in ``simulation.json``.

    Args:
        simulator: what makes them.
        num_sessions: how many; more than an earlier call wrote adds to them.
        output: folder, made if need be.
        show: whether to tell how far it is.

    Returns:
        Path of the manifest, ``output/manifest.jsonl``.

    Raises:
        ConfigError: if the folder holds sessions of another simulation.
        AudioError: if a session cannot be written.
    """
    output = Path(output)
    for folder in (output / "audio", output / "rttm"):
        folder.mkdir(parents=True, exist_ok=True)
    note_facts(output / "simulation.json", _facts(simulator), "sessions")
    sessions = []
    with progress(num_sessions, "sessions simulated", show) as done:
        for index in range(num_sessions):
            sessions.append(_write_session(simulator, index, output))
            done(1)
    manifest = output / "manifest.jsonl"
    write_manifest(manifest, sessions)
    return manifest


def _write_session(simulator: Simulator, index: int, output: Path) -> Session:
    """One session on disk, and its manifest line."""
    session_id = f"sim-{simulator.seed}-{index:06d}"
    audio = output / "audio" / f"{session_id}.flac"
    rttm = output / "rttm" / f"{session_id}.rttm"
    if not (audio.exists() and rttm.exists()):
        waveform, turns = simulator.session(index)
        # Encoded in memory: libsndfile does not always notice that a disk is full.
        flac = BytesIO()
        soundfile.write(flac, waveform, SAMPLE_RATE, "PCM_16", format="FLAC")
        try:
            with replacing(audio) as beside:
                beside.write_bytes(flac.getvalue())
            write_text(rttm, format_rttm(session_id, turns))
        except OSError as error:
            raise AudioError(
                f"{audio}: cannot be written ({error.strerror}). Make room and repeat the command; "
                "sessions that are finished are kept."
            ) from None
    speakers = {turn.speaker for turn in read_rttm(rttm).get(session_id, ())}
    return Session(
        session_id,
        audio,
        duration=round(audio_info(audio).duration, 6),
        rttm=rttm,
        num_speakers=len(speakers),
    )


def _facts(simulator: Simulator) -> dict[str, Any]:
    """All that decides what a session is."""
    return {
        "seed": simulator.seed,
        "utterances": simulator.corpus.fingerprint,
        "noise": simulator.noise.fingerprint if simulator.noise is not None else None,
        "rooms": _rooms_fingerprint(simulator.rooms),
        "config": asdict(simulator.config),
    }


def _rooms_fingerprint(rooms: list[Waveform]) -> str | None:
    """A short name of room responses and their order."""
    digest = hashlib.sha256()
    for room in rooms:
        digest.update(f"{room.shape}".encode())
        digest.update(np.ascontiguousarray(room).data)
    return digest.hexdigest()[:12] if rooms else None
