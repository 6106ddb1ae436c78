"""Rooms that sound as they were asked to."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize.errors import ConfigError
from diarize.manifest import read_manifest
from diarize.rooms import RoomConfig, room, write_rooms

acoustics = pytest.importorskip("pyroomacoustics")

SMALL = {"width": [3.0, 4.0], "reverberation": [0.15, 0.2]}


def decay(response: np.ndarray) -> float:
    """Seconds in which the energy that is still to come falls by 60 dB (Schroeder 1965)."""
    energy = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    level = 10 * np.log10(energy / energy[0] + 1e-12)
    first, last = np.searchsorted(-level, [5.0, 25.0])
    return float(3 * (last - first) / 16000)


def test_every_position_has_its_direct_sound_and_its_distance() -> None:
    responses = room(RoomConfig(**SMALL), np.random.default_rng(0))
    assert responses.shape[1] == 4 and responses.dtype == np.float32
    assert np.abs(responses).max() == pytest.approx(0.9)
    assert len(set(np.abs(responses).argmax(axis=0))) > 1


def test_sound_decays_as_long_as_asked() -> None:
    for seconds in (0.2, 0.4):
        config = RoomConfig(width=[4.0, 5.0], reverberation=[seconds, seconds], positions=2)
        made = room(config, np.random.default_rng(1))
        # Sabine's formula is for diffuse sound: boxes are off by a third.
        assert [decay(each) for each in made.T] == pytest.approx([seconds] * 2, rel=0.35)


def test_a_room_depends_on_seed_and_index_alone_and_is_made_once(tmp_path: Path) -> None:
    config = RoomConfig(**SMALL)
    manifest = write_rooms(config, 2, tmp_path / "a", seed=3, show=False)
    rooms = read_manifest(manifest)
    assert [r.audio.name for r in rooms] == ["room-3-0000.flac", "room-3-0001.flac"]
    assert soundfile.info(rooms[0].audio).channels == 4
    before = rooms[1].audio.stat().st_mtime_ns
    write_rooms(config, 3, tmp_path / "a", seed=3, show=False)
    assert rooms[1].audio.stat().st_mtime_ns == before
    other = read_manifest(write_rooms(config, 1, tmp_path / "b", seed=3, show=False))
    assert other[0].audio.read_bytes() == rooms[0].audio.read_bytes()


def test_rooms_of_two_kinds_are_not_mixed(tmp_path: Path) -> None:
    write_rooms(RoomConfig(**SMALL), 1, tmp_path, show=False)
    message = r"rooms\.json: the rooms here were made with config\.positions=4, not 2\. Choose"
    with pytest.raises(ConfigError, match=message):
        write_rooms(RoomConfig(**SMALL, positions=2), 1, tmp_path, show=False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"positions": 9}, r"positions is 9, but a FLAC file has 8 channels at most"),
        ({"positions": 0}, r"positions is 0, but it is at least 1"),
        ({"width": [5.0, 3.0]}, r"width is \[5\.0, 3\.0\], but .* the lower first"),
        ({"reverberation": [0.0, 0.3]}, r"reverberation is \[0\.0, 0\.3\], but .* at least 0\.05"),
    ],
)
def test_rooms_that_cannot_be(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RoomConfig(**settings)
