"""Background noises for the default model: recorded ones, and hours of synthetic ones.

The corpus folder is that of the mini recipe. A tenth of its ``noise_train.jsonl`` becomes
``noise_heldout.jsonl``, for development. The rest, and clips of 20 to 60 s made from the seed,
become ``noise.jsonl``: babble, music, coloured noise, events, and recorded noises remixed. What
is made hears nothing of the held-out noises, of ``noise_test.jsonl`` or of the rooms for test.
Of the rooms for training, a tenth becomes ``rir_heldout.jsonl``, in which only babble was heard.
"""

import argparse
import hashlib
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import oaconvolve

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.augment import change_speed
from diarize.corpus import Corpus, as_int16
from diarize.errors import CorpusError, DiarizeError
from diarize.files import in_words, replacing
from diarize.manifest import Session, read_manifest, write_manifest

Wave = NDArray[np.float32]
Rng = np.random.Generator

LEVEL = 10 ** (-26 / 20)
"""Root mean square of a clip; lower where its peaks would not fit."""
FAINT = 10 ** (-70 / 10)
"""Power below which a recorded noise is mostly rounding, and not remixed."""
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 3, 5, 7, 10))
"""Major, minor, dorian, pentatonic; semitones."""
VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410))
"""Formants, Hz (Peterson and Barney 1952)."""


@dataclass(frozen=True)
class Sources:
    """What clips are made of.

    Attributes:
        speech: for babble.
        spoken: indices into it, an array per speaker.
        noises: the recorded noises.
        kept: those of them that are not held out, and loud enough to remix.
        rooms: each with a channel per position.
    """

    speech: Corpus
    spoken: list[NDArray[np.int64]]
    noises: Corpus
    kept: NDArray[np.int64]
    rooms: list[Path]

    def response(self, rng: Rng, room: int | None = None) -> Wave:
        """One of a room's responses, of unit energy."""
        path = self.rooms[rng.integers(len(self.rooms)) if room is None else room]
        channel = int(rng.integers(soundfile.info(path).channels))
        response = read_audio(path, channel=channel)
        return response / np.linalg.norm(response)

    def utterances(self, rng: Rng) -> Iterator[Wave]:
        """All that one random speaker says, in random order, then the next speaker, for ever."""
        while True:
            for index in rng.permutation(self.spoken[rng.integers(len(self.spoken))]):
                yield self.speech.utterance(int(index))


def scaled(wave: Wave) -> Wave:
    """With mean square 1; silence stays silence."""
    return wave / np.float32(max(np.sqrt(np.mean(np.square(wave, dtype=np.float64))), 1e-6))


def gain(rng: Rng, low: float, high: float) -> np.float32:
    """A random factor between two levels in dB."""
    return np.float32(10 ** (rng.uniform(low, high) / 20))


def curve(rng: Rng, size: int, rate: float, depth: float) -> Wave:
    """Slow random gains, within ``depth`` dB up or down, that turn ``rate`` times a second."""
    points = max(int(size / SAMPLE_RATE * rate), 2) + 1
    levels = rng.uniform(-depth, depth, points)
    fine = np.interp(np.linspace(0, points - 1, size // 64 + 2), np.arange(points), levels)
    return np.repeat(10 ** (fine / 20), 64)[:size].astype(np.float32)


def equalised(wave: Wave, rng: Rng, depth: float = 12.0, slope: float = 0.0) -> Wave:
    """With a random smooth curve of dB over octaves, and ``slope`` dB more per octave."""
    size = next_fast_len(wave.size, real=True)
    octaves = np.log2(np.maximum(rfftfreq(size, 1 / SAMPLE_RATE), 30) / 30)
    knots = np.arange(0, 10.0)
    shape = np.interp(octaves, knots, rng.uniform(-depth, depth, knots.size) + slope * knots)
    filtered = irfft(rfft(wave, size) * (10 ** (shape / 20)).astype(np.float32), size)
    return filtered[: wave.size].astype(np.float32)


def faded(pieces: Iterator[Wave], size: int, most: float = 0.5) -> Wave:
    """Pieces one after another with cross-fades of at most ``most`` seconds, until it is full."""
    out, at = np.zeros(size, np.float32), 0
    while at < size:
        piece = next(pieces).copy()
        fade = max(min(int(most * SAMPLE_RATE), piece.size // 4), 1)
        ramp = np.sin(np.linspace(0, np.pi / 2, fade)).astype(np.float32)
        piece[:fade] *= ramp
        piece[-fade:] *= ramp[::-1]
        add(out, piece, at)
        at += piece.size - fade
    return out


def add(out: Wave, piece: Wave, at: int) -> None:
    """Add what fits of a piece, from a sample on."""
    piece = piece[: out.size - at]
    out[at : at + piece.size] += piece


def babble(rng: Rng, size: int, sources: Sources) -> Wave:
    """4 to 30 voices at once, dry or at positions in one room; fewer voices differ less in level.

    Voices go by place, so that each place is convolved once.
    """
    voices = int(rng.integers(4, 31))
    spread = min(voices / 4, 3.0)
    room, dry = int(rng.integers(len(sources.rooms))), rng.choice([0.0, 0.3, 1.0])
    places = np.zeros((5, size), np.float32)
    for _ in range(voices):
        said = (scaled(wave) for wave in sources.utterances(rng))
        voice = faded(said, size + SAMPLE_RATE * 3, 0.02)[int(rng.integers(SAMPLE_RATE * 3)) :]
        place = 4 if rng.random() < dry else rng.integers(4)
        places[place] += gain(rng, -spread, spread) * voice[:size]
    for place in places[:4]:
        if place.any():
            places[4] += oaconvolve(place, sources.response(rng, room))[:size]
    return places[4]


def note(hertz: float, size: int, timbre: tuple, rng: Rng) -> Wave:
    """A harmonic tone with attack, decay, sustain and release, out of a table of one period."""
    slope, vowel, vibrato, detune, attack, decay, sustain = timbre
    order = np.arange(1, max(int(7500 / hertz), 1) + 1)
    heights = order**-slope * rng.uniform(0.5, 1, order.size)
    if vowel is not None:
        heights *= 0.03 + sum(np.exp(-(((order * hertz - f) / (60 + f / 12)) ** 2)) for f in vowel)
    spectrum = np.zeros(1025, np.complex64)
    turns = np.exp(2j * np.pi * rng.random(order.size))
    spectrum[1 : order.size + 1] = (heights * turns)[:1024]
    table = scaled(irfft(spectrum).astype(np.float32))
    seconds = np.arange(size) / SAMPLE_RATE
    phase = hertz * seconds + vibrato * hertz / 200 * np.sin(2 * np.pi * 5.5 * seconds)
    wave = sum(table[(phase * 2048 * bend).astype(np.int64) & 2047] for bend in (1, 1 + detune))
    held = np.interp(seconds, [0, attack, attack + decay], [0, 1, sustain])
    return (wave * held * np.clip((seconds[-1] - seconds) / 0.05, 0, 1)).astype(np.float32)


def decaying(rng: Rng, seconds: float, colour: float = 0.0) -> Wave:
    """A burst of noise that falls by 60 dB; above 0, ``colour`` takes lows from it."""
    size = max(int(seconds * SAMPLE_RATE), 8)
    burst = rng.standard_normal(size + 1).astype(np.float32)
    return (burst[1:] - colour * burst[:-1]) * np.logspace(0, -3, size).astype(np.float32)


def drums(rng: Rng, size: int, beat: int) -> Wave:
    """Kick, snare and hat in a random bar of 16 steps, over and over."""
    fall = np.exp(-np.arange(4000) / 500)
    sweep = np.cumsum(45 + rng.uniform(60, 150) * fall) / SAMPLE_RATE
    kick = (3 * np.sin(2 * np.pi * sweep) * np.logspace(0, -2, 4000)).astype(np.float32)
    hits = (kick, decaying(rng, rng.uniform(0.1, 0.3)), 0.4 * decaying(rng, 0.06, 1.0))
    bars = rng.random((3, 16)) < np.array([[0.15], [0.12], [rng.uniform(0.2, 0.9)]])
    bars[0, ::8], bars[1, 4::8] = True, True
    out = np.zeros(size, np.float32)
    for step, at in enumerate(range(0, size, max(beat // 4, 1))):
        for hit, bar in zip(hits, bars, strict=True):
            if bar[step % 16]:
                add(out, gain(rng, -4, 0) * hit, at)
    return out


def music(rng: Rng, size: int, sources: Sources) -> Wave:
    """Chords, a tune, a bass and drums; one in six is drums alone."""
    beat = int(SAMPLE_RATE * 60 / rng.uniform(60, 170))
    scale, key = SCALES[rng.integers(len(SCALES))], int(rng.integers(12))
    roots = rng.integers(0, 7, 4)

    def hertz(degree: int, octave: int) -> float:
        up, step = divmod(degree, len(scale))
        return 440 * 2 ** ((key + scale[step] - 69 + 12 * (octave + up)) / 12)

    def timbre(sung: float) -> tuple:
        vowel = VOWELS[rng.integers(len(VOWELS))] if rng.random() < sung else None
        struck = rng.choice([0.0, 0.3, 0.8])
        envelope = rng.uniform(0.005, 0.08), rng.uniform(0.1, 0.6), struck
        vibrato = rng.choice([0.0, 0.05]) if vowel is None else 0.1
        return rng.uniform(0.6, 2.2), vowel, vibrato, rng.uniform(0, 0.006), *envelope

    out = drums(rng, size, beat) * np.float32(rng.choice([0.0, 1.0, 1.5]))
    if rng.random() < 1 / 6:
        out = drums(rng, size, beat) + 0.5 * drums(rng, size, beat)
    else:
        chord, tune, low = timbre(0.1), timbre(0.4), timbre(0.0)
        for bar, at in enumerate(range(0, size, 4 * beat)):
            root = int(roots[bar % 4])
            for degree in (root, root + 2, root + 4):
                add(out, 0.3 * note(hertz(degree, 4), 4 * beat, chord, rng), at)
            for start in range(at, min(at + 4 * beat, size), 2 * beat):
                add(out, 0.5 * note(hertz(root, 3), 2 * beat, low, rng), start)
        degree, at = 0, 0
        while at < size:
            lasts = int(beat * rng.choice([0.5, 1, 1, 2]))
            degree = int(np.clip(degree + rng.integers(-3, 4), -4, 9))
            if rng.random() < 0.85:
                add(out, 0.6 * note(hertz(degree, 5), lasts, tune, rng), at)
            at += lasts
    return in_some_room(out, rng, sources)


def in_some_room(wave: Wave, rng: Rng, sources: Sources) -> Wave:
    """As it is, or with one chance in two as a room carries it."""
    if rng.random() < 0.5:
        return wave
    return oaconvolve(wave, sources.response(rng))[: wave.size].astype(np.float32)


def coloured(rng: Rng, size: int, _: Sources) -> Wave:
    """Shaped noise that swells or is gated, as of wind, fans and traffic; some has mains hum."""
    white = rng.standard_normal(size, dtype=np.float32)
    out = scaled(equalised(white, rng, rng.uniform(2, 12), rng.uniform(-5, 1)))
    if rng.random() < 0.7:
        out *= curve(rng, size, 10 ** rng.uniform(-1, 0.6), rng.uniform(1, 12))
    if rng.random() < 0.2:
        out *= np.clip(curve(rng, size, rng.uniform(0.2, 2), 20) - 0.5, 0.01, 1)
    if rng.random() < 0.3:
        timbre = (rng.uniform(0.3, 1.5), None, 0.0, 0.0, 0.1, 0.1, 1.0)
        out += gain(rng, -20, 3) * note(float(rng.choice([50, 60])), size, timbre, rng)
    return out


def event(kind: int, rng: Rng) -> Wave:
    """A click, key stroke, rustle, knock, beep, phone ring or chirp."""
    if kind == 0:
        return decaying(rng, rng.uniform(0.002, 0.02), rng.uniform(-1, 1))
    if kind == 1:  # a key goes down and up
        pair = np.zeros(int(rng.uniform(0.06, 0.15) * SAMPLE_RATE), np.float32)
        for at, level in ((0, 1.0), (pair.size // 2, 0.5)):
            add(pair, level * decaying(rng, rng.uniform(0.01, 0.03), rng.uniform(0, 1)), at)
        return pair
    span = ((0.3, 1.5), (0.1, 0.4), (0.1, 0.6), (1, 2), (0.05, 0.3))[kind - 2]
    size = int(rng.uniform(*span) * SAMPLE_RATE)
    seconds = np.arange(size) / SAMPLE_RATE
    if kind == 2:
        crackle = rng.standard_normal(size + 1) * (rng.random(size + 1) < rng.uniform(0.01, 0.3))
        return np.diff(crackle).astype(np.float32) * curve(rng, size, 12, 12)
    if kind == 3:
        modes = rng.uniform(80, 1500, (4, 1))
        rung = np.sin(2 * np.pi * modes * seconds) * np.exp(-seconds * rng.uniform(20, 80, (4, 1)))
        return 3 * rung.sum(axis=0, dtype=np.float32)
    pitch = np.full(size, 10 ** rng.uniform(2.6, 3.5))
    if kind == 5:  # two tones in turn, in bursts
        pitch *= np.where(seconds * 20 % 1 < 0.5, 1, rng.uniform(1.1, 1.4))
    if kind == 6:
        pitch *= np.linspace(1, rng.uniform(0.5, 2), size)
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
    return (tone * np.clip(np.minimum(seconds, seconds[-1] - seconds) * 100, 0, 1)).astype("f4")


def events(rng: Rng, size: int, sources: Sources) -> Wave:
    """One to three sorts of sudden sounds at random times over faint noise."""
    out = np.zeros(size, np.float32)
    for kind in rng.choice(7, int(rng.integers(1, 4)), replace=False):
        often = rng.uniform(1, 8) if kind < 2 else rng.uniform(0.1, 0.8)
        level = gain(rng, -10, 0)
        for at in rng.integers(0, size, max(int(often * size / SAMPLE_RATE), 1)):
            add(out, level * gain(rng, -6, 0) * event(int(kind), rng), int(at))
    floor = scaled(equalised(rng.standard_normal(size, dtype=np.float32), rng, 6, -4))
    return scaled(in_some_room(out, rng, sources)) + gain(rng, -35, -12) * floor


def remix(rng: Rng, size: int, sources: Sources) -> Wave:
    """Two or three layers of recorded noises, at other speeds, some backwards, equalised."""
    out = np.zeros(size, np.float32)

    def drawn() -> Wave:
        wave = sources.noises.utterance(int(rng.choice(sources.kept)))
        wave = change_speed(wave, rng.uniform(0.6, 1.6))
        return scaled(wave[::-1] if rng.random() < 0.3 else wave)

    for _ in range(int(rng.integers(2, 4))):
        pool = [drawn() for _ in range(int(rng.integers(1, 5)))]
        layer = faded((pool[int(rng.integers(len(pool)))] for _ in iter(int, 1)), size)
        out += gain(rng, -10, 0) * scaled(equalised(layer, rng))
    return out


KINDS = (babble, music, coloured, events, remix)


def held_out(sessions: list[Session], seed: int) -> list[bool]:
    """Whether each noise is of the tenth; takes of one ESC recording (``1-137-A``) go together."""
    places = []
    for session in sessions:
        name = str(session.extra.get("noise") or f"{session.audio.name}+{session.offset}")
        name = re.sub(r"^(\d+-\d+)-[A-Z]$", r"\1", name)
        digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
        places.append(int.from_bytes(digest[:8], "big"))
    last = max(2**64 // 10, min(places, default=0))
    return [place <= last for place in places]


def load(corpus: Path, kept: list[int], rooms: list[Session]) -> Sources:
    """Decode the corpus, or map what was decoded before."""
    speech = Corpus.from_manifest(corpus / "train.jsonl")
    noises = Corpus.from_manifest(corpus / "noise_train.jsonl", spoken=False)
    lines = np.argsort(speech.voice, kind="stable")
    spoken = np.split(lines, np.flatnonzero(np.diff(speech.voice[lines])) + 1)
    loud = np.array([number for number in kept if noises.power[number] > FAINT])
    if not loud.size or len(rooms) < 2:
        raise CorpusError(
            f"{corpus}: has {loud.size} noises to remix and {len(rooms)} rooms, but 1 and 2 are "
            "needed. Add to noise_train.jsonl or to --rir."
        )
    return Sources(speech, spoken, noises, loud, [session.audio for session in rooms])


def write_clips(output: Path, sources: Sources, seconds: float, seed: int) -> list[Session]:
    """A recording per kind, all of one length, and a line per clip.

    Args:
        output: folder of the recordings.
        sources: what clips are made of.
        seconds: of all clips together.
        seed: with a clip's number, all that it depends on beside the sources.
    """
    share = seconds / len(KINDS)
    count = max(round(share / 40), 1)
    total, told = count * len(KINDS), time.monotonic()
    lines: list[Session] = []
    for number, make in enumerate(KINDS):
        source, offset = f"synthetic-{make.__name__}", 0.0
        path = output / f"{source}.flac"
        spread = np.random.default_rng((seed, total + number)).permutation(count)
        lengths = (20 + 40 * (spread + 0.5) / count) * share / (40 * count)
        with (
            replacing(path) as beside,
            soundfile.SoundFile(beside, "w", SAMPLE_RATE, 1, "PCM_16", format="FLAC") as file,
        ):
            for index, length in enumerate(lengths.round(3).tolist()):
                rng = np.random.default_rng((seed, len(lines)))
                wave = scaled(make(rng, round(length * SAMPLE_RATE), sources))
                file.write(as_int16(wave * np.float32(min(LEVEL, 0.95 / np.abs(wave).max()))))
                extra = {"source": source, "noise": f"{source}-{index:03d}"}
                lines.append(Session(extra["noise"], path, round(offset, 3), length, extra=extra))
                offset += length
                if time.monotonic() - told >= 5:
                    told = time.monotonic()
                    print(f"{len(lines)} of {total} clips", file=sys.stderr, flush=True)
    return lines


def main() -> int:
    """Split the recorded noises; make the others."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path, help="with train and noise_train .jsonl")
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--rir", type=Path, required=True, help="manifest of rooms for training, by prepare.py"
    )
    parser.add_argument("--hours", type=float, default=6.0, help="of synthetic noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--toy", action="store_true", help="a minute of synthetic noise")
    args = parser.parse_args()
    if not 1 / 60 <= args.hours <= 100 or args.seed < 0:
        parser.error("--hours takes 0.017 (a minute) to 100, and --seed 0 or more.")
    listed = args.output / "noise.jsonl"
    if listed.exists():
        print(f"{listed}: is there, and left as it is. Remove it to make it anew.")
        return 0
    try:
        recorded = read_manifest(args.corpus / "noise_train.jsonl")
        out = held_out(recorded, args.seed)
        kept = [number for number, held in enumerate(out) if not held]
        rooms = read_manifest(args.rir)
        sources = load(args.corpus, kept, rooms)
        args.output.mkdir(parents=True, exist_ok=True)
        clips = write_clips(args.output, sources, 60 if args.toy else 3600 * args.hours, args.seed)
        held = [session for session, held in zip(recorded, out, strict=True) if held]
        write_manifest(args.output / "noise_heldout.jsonl", held)
        trained = len(rooms) * 9 // 10
        write_manifest(args.output / "rir.jsonl", rooms[:trained])
        write_manifest(args.output / "rir_heldout.jsonl", rooms[trained:])
        write_manifest(listed, [recorded[number] for number in kept] + clips)
    except (OSError, DiarizeError) as error:
        told = in_words(error) if isinstance(error, OSError) else error
        print(f"noises.py: {told}", file=sys.stderr)
        return 1
    print(f"{args.output}: {len(held)} noises held out; {len(kept)} kept, {len(clips)} made")
    return 0


if __name__ == "__main__":
    sys.exit(main())
