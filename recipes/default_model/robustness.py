"""Test sessions in which nobody speaks, or in which a line, a codec or a room spoils what is said.

Each set is a folder of OUTPUT with ``manifest.jsonl`` and its audio. Nobody speaks in ``silence``
(digital zero, and white noise at -90 to -70 dB), ``noise`` (those of the manifest, end to end, each
as loud as speech) and ``music`` (synthetic, by noises.py from other seeds). ``plain`` has the first
sessions of a manifest as they are, and the others have the same

- ``telephone``: 300 to 3400 Hz, 8 kHz, mu-law
- ``resampled_8k``: at 8 kHz
- ``mp3``: at 32 kbit/s
- ``room``: all of the mixture in another room
- ``quiet``: 30 dB lower, in 16 bits
- ``loud``: the peak 12 dB above full scale, and cut off there
"""

import argparse
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
import soxr
import torch
from noises import LEVEL, Sources, Wave, music, scaled

from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.augment import limit_band, overdrive, reverberate
from diarize.corpus import Corpus, as_int16
from diarize.errors import DiarizeError, ManifestError
from diarize.experiment import note_facts
from diarize.files import in_words, replacing, write_text
from diarize.manifest import Session, read_manifest, write_manifest
from diarize.progress import progress

SPOKEN = ("cafe", "restaurant")
"""Noises in which people speak: a speaker found in them is not invented."""
PIECES = 10
"""Sessions of music."""
LINE = 8000
"""Samples a second of a telephone line."""
BAND = (300.0, 3400.0)
"""What it passes, Hz."""
MP3 = 0.85
"""Where 32 kbit/s lie between the most that MP3 has at 16 kHz, 160 kbit/s, and the least, 8."""
DELAY = 1105
"""Samples by which MP3 comes late: LAME's 576 and a decoder's 529. What is said has to stay where
the reference has it, so that so many are left out at the beginning."""
FAINT = (-90, -80, -70)
"""dB below full scale."""


def through_line(wave: Wave) -> Wave:
    """The band of a telephone line, at its rate."""
    limited = limit_band(torch.tensor(wave)[None], SAMPLE_RATE, torch.tensor([BAND]))
    return slower(limited[0].numpy())


def slower(wave: Wave) -> Wave:
    """At the rate of a telephone line."""
    return soxr.resample(wave, SAMPLE_RATE, LINE)


def driven(wave: Wave, decibels: float) -> Wave:
    """The peak so much above full scale and cut off there; NaN: at most brought down to it."""
    return overdrive(torch.tensor(wave)[None], torch.tensor([decibels]))[0].numpy()


def in_room(wave: Wave, response: Wave) -> Wave:
    """As a room carries it."""
    direct = int(np.abs(response).argmax())
    size = torch.tensor([wave.size])
    wet = reverberate(torch.tensor(wave)[None], torch.tensor(response)[None], direct, size)
    return driven(wet[0].numpy(), np.nan)


Spoil = Callable[[Wave, Wave], Wave]
"""(sample,) and a room's response to (sample,)."""

SPOILED: dict[str, tuple[Spoil, str, int]] = {
    "telephone": (lambda wave, _: through_line(wave), "ULAW", LINE),
    "resampled_8k": (lambda wave, _: slower(wave), "FLAC", LINE),
    "mp3": (lambda wave, _: wave[DELAY:], "MP3", SAMPLE_RATE),
    "room": (in_room, "FLAC", SAMPLE_RATE),
    "quiet": (lambda wave, _: wave * np.float32(10 ** (-30 / 20)), "FLAC", SAMPLE_RATE),
    "loud": (lambda wave, _: driven(wave, 12.0), "FLAC", SAMPLE_RATE),
}
"""What is done to a session, how it is written, and samples a second."""

ENDINGS = {"ULAW": ".wav", "MP3": ".mp3", "FLAC": ".flac"}


def write_audio(path: Path, wave: Wave, kind: str, rate: int) -> None:
    """A recording, whole or not at all."""
    file = io.BytesIO()
    if kind == "MP3":
        how = {"bitrate_mode": "CONSTANT", "compression_level": MP3}
        soundfile.write(file, wave, rate, "MPEG_LAYER_III", format="MP3", **how)
    elif kind == "ULAW":
        soundfile.write(file, wave, rate, "ULAW", format="WAV")
    else:
        soundfile.write(file, as_int16(wave), rate, "PCM_16", format="FLAC")
    with replacing(path) as beside:
        beside.write_bytes(file.getvalue())


def silence(seed: int, size: int) -> Iterator[Wave]:
    """Digital zero and faint noise in turn."""
    for number, level in enumerate(FAINT):
        yield np.zeros(size, np.float32)
        rng = np.random.default_rng((seed, 1, number + 1))
        yield rng.standard_normal(size, dtype=np.float32) * np.float32(10 ** (level / 20))


def noise(manifest: Path, seed: int, size: int) -> Iterator[Wave]:
    """Recorded noises in random order, each as loud as speech; the rest that fills none is left."""
    kept = [s.extra.get("noise") not in SPOKEN for s in read_manifest(manifest)]
    recorded = Corpus.from_manifest(manifest, spoken=False)
    fade = np.linspace(0, 1, SAMPLE_RATE // 100, dtype=np.float32)
    pending = np.zeros(0, np.float32)
    for index in np.random.default_rng((seed, 2, 1)).permutation(np.flatnonzero(kept)):
        wave = scaled(recorded.utterance(int(index))) * np.float32(LEVEL)
        wave[: fade.size] *= fade[: wave.size]
        wave[-fade.size :] *= fade[: wave.size][::-1]
        pending = np.concatenate([pending, wave])
        while pending.size >= size:
            yield pending[:size]
            pending = pending[size:]


def tunes(rooms: list[Path], seed: int, size: int) -> Iterator[Wave]:
    """Synthetic music, two pieces a session, half of them in a room."""
    nothing = np.zeros(0, np.int64)
    sources = Sources(None, [], None, nothing, rooms)
    for number in range(PIECES):
        rng = np.random.default_rng((seed, 3, number + 1))
        halves = [scaled(music(rng, half, sources)) for half in (size // 2, size - size // 2)]
        yield np.concatenate(halves) * np.float32(LEVEL)


def write_speechless(folder: Path, waves: Iterator[Wave]) -> None:
    """A set in which nobody speaks."""
    for part in ("audio", "rttm"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    sessions = []
    for number, wave in enumerate(waves):
        name = f"{folder.name}-{number:02d}"
        session = Session(
            name, folder / "audio" / f"{name}.flac", duration=round(wave.size / SAMPLE_RATE, 6),
            rttm=folder / "rttm" / f"{name}.rttm", num_speakers=0,
        )  # fmt: skip
        write_audio(session.audio, driven(wave, np.nan), "FLAC", SAMPLE_RATE)
        write_text(session.rttm, "")
        sessions.append(session)
    write_manifest(folder / "manifest.jsonl", sessions)


def write_spoiled(folder: Path, sessions: list[Session], rooms: list[Path], seed: int) -> None:
    """The sessions as something spoils them; those that are there are kept."""
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    spoil, kind, rate = SPOILED[folder.name]
    made = []
    with progress(len(sessions), f"sessions of {folder.name}") as done:
        for number, session in enumerate(sessions):
            path = folder / "audio" / f"{session.session_id}{ENDINGS[kind]}"
            if not path.exists():
                rng = np.random.default_rng((seed, 4, number + 1))
                room = rooms[rng.integers(len(rooms))]
                channel = int(rng.integers(soundfile.info(room).channels))
                response = read_audio(room, channel=channel)
                write_audio(path, spoil(read_audio(session.audio), response), kind, rate)
            lasts = audio_info(path).duration
            lasts = lasts if session.duration is None else min(lasts, session.duration)
            made.append(replace(session, audio=path, duration=round(lasts, 6)))
            done(1)
    write_manifest(folder / "manifest.jsonl", made)


def read_sessions(manifest: Path, first: int) -> list[Session]:
    """The first sessions, each all of its recording, with who speaks."""
    sessions = read_manifest(manifest)[:first]
    for session in sessions:
        if session.rttm is None or session.offset:
            raise ManifestError(
                f"{session.where}: has {'no RTTM' if session.rttm is None else 'an offset'}, but "
                "what is spoiled are whole recordings with references. Take a simulated set."
            )
    return sessions


def main() -> int:
    """Make the sets that are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sessions", type=Path, help="manifest of simulated sessions")
    parser.add_argument("output", type=Path)
    parser.add_argument("--noise", type=Path, required=True, help="manifest of noises for test")
    parser.add_argument("--rir", type=Path, required=True, help="manifest of rooms for test")
    parser.add_argument("--first", type=int, default=40, help="so many sessions are spoiled")
    parser.add_argument("--seconds", type=int, default=120, help="of sessions without speech")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    if min(args.first, args.seconds) < 1 or args.seed < 0:
        parser.error("--first and --seconds take 1 or more, and --seed 0 or more.")
    size, seed = args.seconds * SAMPLE_RATE, args.seed
    try:
        sessions = read_sessions(args.sessions, args.first)
        rooms = [session.audio for session in read_manifest(args.rir)]
        args.output.mkdir(parents=True, exist_ok=True)
        made_from = {key: str(vars(args)[key].resolve()) for key in ("sessions", "noise", "rir")}
        facts = made_from | {key: vars(args)[key] for key in ("first", "seconds", "seed")}
        note_facts(args.output / "robustness.json", facts, "sets")
        speechless: dict[str, Callable[[], Iterator[Wave]]] = {
            "silence": lambda: silence(seed, size),
            "noise": lambda: noise(args.noise, seed, size),
            "music": lambda: tunes(rooms, seed, size),
        }
        for name in (*speechless, "plain", *SPOILED):
            folder = args.output / name
            if (folder / "manifest.jsonl").exists():
                continue
            print(f"making {folder}", file=sys.stderr, flush=True)
            folder.mkdir(exist_ok=True)
            if name in speechless:
                write_speechless(folder, speechless[name]())
            elif name == "plain":
                write_manifest(folder / "manifest.jsonl", sessions)
            elif name == "mp3" and "MP3" not in soundfile.available_formats():
                print("mp3: left out, for this libsndfile writes none", file=sys.stderr)
            else:
                write_spoiled(folder, sessions, rooms, seed)
    except (OSError, DiarizeError) as error:
        told = in_words(error) if isinstance(error, OSError) else error
        print(f"robustness.py: {told}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
