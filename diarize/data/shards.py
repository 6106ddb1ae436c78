"""Recorded sessions in a few large files, as object stores like them: shards of lhotse's Shar.

A shard is a list of sessions with their turns (``cuts.000000.jsonl.gz``) and a tar archive of their
audio (``recording.000000.tar``), which is read from its start to its end and then held in memory.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE, AudioInfo
from diarize.data.recorded import Stretch, refuse_silent
from diarize.data.windows import TurnTable
from diarize.errors import AudioError, ManifestError
from diarize.manifest import Session
from diarize.recording import Recording
from diarize.turns import Turn, clip

INDEX = ".shards.json"
"""Ending of a file that lists shards, which a server cannot be searched for."""

HELD = 6
"""Shards that a process holds in memory: those whose sessions are drawn together, and two that
come before or after."""

END = bytes(1024)
"""A tar archive ends so; one that was cut short does not."""

DAMAGE = (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RuntimeError, AssertionError)
"""What lhotse raises for shards that are not there, cut short or none."""


@dataclass(frozen=True)
class Shard:
    """The two files of a shard: paths, or whatever else lhotse opens.

    Attributes:
        cuts: sessions and turns.
        audio: a tar archive of their recordings.
    """

    cuts: str
    audio: str


@dataclass(frozen=True)
class ShardRecording(Recording):
    """A recording that lies in a shard.

    Attributes:
        shard: which.
        name: under which it lies there.
    """

    shard: Shard = Shard("", "")
    name: str = ""

    def read(self, first: int, count: int) -> NDArray[np.float32]:
        """A span of it, (sample,) float32.

        Raises:
            AudioError: if the shard is cut short or cannot be read.
        """
        held = _held(self.shard)
        rate = self.sample_rate
        heard = held[self.name].load_audio(offset=first / rate, duration=count / rate)
        return np.asarray(heard, dtype=np.float32).mean(axis=0)


def is_sharded(place: str) -> bool:
    """Whether it names shards, and no manifest."""
    return place.endswith(INDEX) or Path(place).is_dir()


def open_shards(place: str) -> list[Stretch]:
    """All of each session of a folder of shards, or of those that an index lists.

    Args:
        place: a folder, or the path or address of an index. Files that it lists lie beside it,
            unless they are addresses (``s3://…``) or commands (``pipe:…``) themselves.

    Raises:
        ManifestError: if there are no shards, their lists cannot be read, or nobody speaks.
        AudioError: if a shard on this machine is cut short.
    """
    shards = _find(place)
    for shard in shards:
        _check_end(shard)
    stretches = [
        stretch for number, shard in enumerate(shards) for stretch in _sessions(shard, number)
    ]
    if not stretches:
        raise ManifestError(
            f"{place}: its {len(shards)} shards hold 0 sessions, but training needs at least 1. "
            "Write them again."
        )
    refuse_silent(stretches)
    return stretches


def _find(place: str) -> list[Shard]:
    if place.endswith(INDEX):
        listed = _listed(place)
    else:
        names = sorted(path.name for path in Path(place).iterdir())
        kinds = (("cuts.", ".jsonl", ".jsonl.gz"), ("recording.", ".tar", ".tar"))
        listed = [
            [
                str(Path(place) / name)
                for name in names
                if name.startswith(a) and name.endswith((b, c))
            ]
            for a, b, c in kinds
        ]
    cuts, audio = listed
    if not cuts or len(cuts) != len(audio):
        raise ManifestError(
            f"{place}: has {len(cuts)} lists of cuts and {len(audio)} archives of recordings, but "
            "shards are pairs of them, cuts.000000.jsonl.gz and recording.000000.tar. Write them "
            "with diarize manifest to-shards."
        )
    return [Shard(*pair) for pair in zip(cuts, audio, strict=True)]


def _listed(index: str) -> list[list[str]]:
    """Files of an index, from where it lies."""
    from lhotse.serialization import open_best

    try:
        with open_best(index) as file:
            fields = json.loads(file.read())
        found = [[str(name) for name in fields[kind]] for kind in ("cuts", "recording")]
    except (*DAMAGE, KeyError, TypeError) as error:
        raise ManifestError(
            f"{index}: cannot be read as a list of shards ({_reason(error)}). It has the keys "
            "'cuts' and 'recording', each with a list of files."
        ) from None
    folder = index[: index.rfind("/") + 1]
    lie = ("/", "pipe:")
    return [
        [name if name.startswith(lie) or "://" in name else folder + name for name in names]
        for names in found
    ]


def _reason(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _check_end(shard: Shard) -> None:
    """See that an archive on this machine is whole."""
    path = Path(shard.audio)
    if shard.audio.startswith("pipe:") or "://" in shard.audio:
        return
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - len(END), 0))
            whole = file.read() == END
    except OSError as error:
        raise AudioError(
            f"{shard.audio}: cannot be read ({error.strerror}). Check the path."
        ) from None
    if not whole:
        raise _cut_short(shard, f"{size} bytes")


def _cut_short(shard: Shard, what: str) -> AudioError:
    return AudioError(
        f"{shard.audio}: has {what}, but not the end of an archive. Is the shard cut short? Fetch "
        "it again, or write it again with diarize manifest to-shards."
    )


def _sessions(shard: Shard, number: int) -> Iterator[Stretch]:
    """Sessions of a shard, none of whose audio is read."""
    from lhotse.serialization import load_jsonl

    try:
        for line, cut in enumerate(load_jsonl(shard.cuts), start=1):
            yield _stretch(shard, number, f"{shard.cuts}:{line}", cut)
    except ManifestError:
        raise
    except (*DAMAGE, KeyError, TypeError) as error:
        raise ManifestError(
            f"{shard.cuts}: cannot be read as cuts of a shard ({_reason(error)}). Is it cut short? "
            "Fetch it again."
        ) from None


def _stretch(shard: Shard, number: int, where: str, cut: dict[str, Any]) -> Stretch:
    name, stored = str(cut["id"]), cut["recording"]
    rate, channels = int(stored["sampling_rate"]), len(stored.get("channel_ids") or [0])
    if rate != SAMPLE_RATE:
        raise ManifestError(
            f"{where}: cut {name!r} has {rate} samples a second, but shards are read at "
            f"{SAMPLE_RATE}. Write them with diarize manifest to-shards."
        )
    length = int(stored["num_samples"])
    header = AudioInfo(rate, channels, length, length / rate)
    turns = [
        Turn(s["start"], s["start"] + s["duration"], str(s["speaker"]))
        for s in cut.get("supervisions", [])
    ]
    path = Path(shard.audio)
    recording = ShardRecording(path, header, shard=shard, name=name)
    session = Session(name, path, duration=header.duration, where=where)
    table = TurnTable.of(clip(turns, 0.0, header.duration))
    return Stretch(session, recording, 0.0, header.duration, table, None, number)


@lru_cache(maxsize=HELD)
def _held(shard: Shard) -> dict[str, Any]:
    """Recordings of a shard by name, encoded as they lie there.

    Raises:
        AudioError: if it cannot be read to its end.
    """
    from lhotse.serialization import open_best
    from lhotse.shar.readers import TarIterator

    held: dict[str, Any] = {}
    try:
        with open_best(shard.audio, "rb") as file:
            archive = BytesIO(file.read())
        for recording, path in TarIterator(archive):
            held[str(path.parent / path.stem)] = recording
    except DAMAGE as error:
        raise _cut_short(
            shard, f"{len(held)} sessions that can be read ({_reason(error)})"
        ) from None
    listed = [stretch.session.session_id for stretch in _sessions(shard, 0)]
    lacking = [name for name in listed if name not in held]
    if lacking:
        raise AudioError(
            f"{shard.audio}: holds {len(listed) - len(lacking)} of the {len(listed)} sessions that "
            f"{shard.cuts} lists, but not {lacking[0]!r}. Is the shard cut short, or of another "
            "list? Write it again with diarize manifest to-shards."
        )
    return held
