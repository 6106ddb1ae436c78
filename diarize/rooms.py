"""Rooms to simulate sessions in: impulse responses by the image method (Allen and Berkley 1979)."""

from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE
from diarize.config import check_least
from diarize.errors import ConfigError
from diarize.experiment import note_facts
from diarize.files import replacing
from diarize.manifest import Session, write_manifest
from diarize.progress import progress

WALL = 0.4
"""Metres from any wall at which nobody and no microphone is."""

NEAR = 0.5
"""Metres from the microphone at which nobody talks."""

PEAK = 0.9
"""Of the loudest response of a room; how much softer others are tells of distance."""


@dataclass
class RoomConfig:
    """What rooms are like."""

    positions: int = 4
    """Places from which somebody talks, each a channel of the room's file."""
    width: list[float] = field(default_factory=lambda: [3.0, 8.0])
    """Range of both horizontal sides, metres."""
    height: list[float] = field(default_factory=lambda: [2.4, 3.5])
    """Range, metres."""
    reverberation: list[float] = field(default_factory=lambda: [0.15, 0.75])
    """Range of the time in which sound decays by 60 dB, seconds, by Sabine's formula."""
    talker_height: list[float] = field(default_factory=lambda: [1.1, 1.8])
    """Range, metres: who sits and who stands."""

    def __post_init__(self) -> None:
        check_least(self, positions=1)
        if self.positions > 8:
            raise ConfigError(
                f"positions is {self.positions}, but a FLAC file has 8 channels at most. Lower it."
            )
        least = {"width": 4 * WALL, "height": 2.0, "reverberation": 0.05, "talker_height": WALL}
        for name, bound in least.items():
            ends = getattr(self, name)
            if len(ends) != 2 or not bound <= ends[0] <= ends[1]:
                raise ConfigError(
                    f"{name} is {list(ends)}, but a range has 2 ends, the lower first and at least "
                    f"{bound:g}. Write two numbers."
                )


def write_rooms(
    config: RoomConfig, num_rooms: int, output: str | Path, seed: int = 0, show: bool = True
) -> Path:
    """Write rooms 0, 1, … of a seed as FLAC, a channel for each position, and their manifest.

    A room that an interrupted call finished is kept. What they are like stands in ``rooms.json``.

    Returns:
        Path of the manifest, ``output/rir.jsonl``.

    Raises:
        ConfigError: if the folder holds rooms of other settings.
    """
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    note_facts(output / "rooms.json", {"seed": seed, "config": asdict(config)}, "rooms")
    rooms = []
    with progress(num_rooms, "rooms computed", show) as done:
        for index in range(num_rooms):
            path = output / f"room-{seed}-{index:04d}.flac"
            if not path.exists():
                flac = BytesIO()
                response = room(config, np.random.default_rng([seed, index]))
                soundfile.write(flac, response, SAMPLE_RATE, "PCM_24", format="FLAC")
                with replacing(path) as beside:
                    beside.write_bytes(flac.getvalue())
            duration = round(soundfile.info(path).frames / SAMPLE_RATE, 6)
            rooms.append(Session(path.stem, path, duration=duration))
            done(1)
    manifest = output / "rir.jsonl"
    write_manifest(manifest, rooms)
    return manifest


def room(config: RoomConfig, rng: Generator) -> NDArray[np.float32]:
    """Impulse responses (sample, position) of a box-shaped room, at 16 kHz.

    Args:
        config: what rooms are like.
        rng: draws its sides, its absorption, the microphone and who talks where.
    """
    import pyroomacoustics

    sides = [_drawn(rng, each) for each in (config.width, config.width, config.height)]
    absorption, order = _absorption(pyroomacoustics, _drawn(rng, config.reverberation), sides)
    material = pyroomacoustics.Material(absorption)
    box = pyroomacoustics.ShoeBox(sides, fs=SAMPLE_RATE, materials=material, max_order=order)
    microphone = np.array([*_place(rng, sides), rng.uniform(0.7, min(1.8, sides[2] - WALL))])
    box.add_microphone(microphone)
    highest = min(config.talker_height[1], sides[2] - WALL)
    while box.n_sources < config.positions:
        height = rng.uniform(min(config.talker_height[0], highest), highest)
        talker = np.array([*_place(rng, sides), height])
        if np.linalg.norm(talker - microphone) >= NEAR:
            box.add_source(talker)
    box.compute_rir()
    (found,) = box.rir
    responses = np.zeros((max(map(len, found)), config.positions), dtype=np.float32)
    for place, response in enumerate(found):
        responses[: len(response), place] = response
    return responses * np.float32(PEAK / np.abs(responses).max())


def _absorption(acoustics: Any, seconds: float, sides: list[float]) -> tuple[float, int]:
    """Of the walls, for a time of reverberation, and reflections to follow; as dead as can be."""
    while True:
        try:
            absorption, order = acoustics.inverse_sabine(seconds, sides)
            return float(absorption), int(order)
        except ValueError:  # walls would have to take more than all
            seconds *= 1.1


def _drawn(rng: Generator, ends: list[float]) -> float:
    return float(rng.uniform(ends[0], ends[1]))


def _place(rng: Generator, sides: list[float]) -> NDArray[np.float64]:
    return rng.uniform(WALL, np.array(sides[:2]) - WALL)
