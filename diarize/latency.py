"""How long a model may wait before it answers: streaming settings, by name and in frames."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from diarize.config import check_least, check_shares
from diarize.errors import ConfigError


@dataclass(frozen=True)
class Chunk:
    """Rows of features that a step hears: its own, and context on either side.

    Attributes:
        first: where the context before begins.
        start: where its own rows do.
        end: behind the last of them.
        last: behind the context after.
        rows: of a frame.
    """

    first: int
    start: int
    end: int
    last: int
    rows: int

    @property
    def before(self) -> int:
        """Frames before its own."""
        return (self.start - self.first) // self.rows

    @property
    def own(self) -> int:
        """Its own frames; the last of a recording may be cut short."""
        return -(-(self.end - self.start) // self.rows)

    def num_answers(self, finer: int) -> int:
        """Its answers, of which there are ``finer`` for each whole frame."""
        return -(-(self.end - self.start) * finer // self.rows)


@dataclass(frozen=True)
class StreamingConfig:
    """How far a streaming model sees, and what it keeps; lengths in frames."""

    chunk: int = 188
    """Frames that each step answers for."""
    left: int = 1
    """Frames before the chunk that are heard with it."""
    right: int = 1
    """Frames after it, for which the answer waits."""
    fifo: int = 0
    """Length of the queue of recent frames."""
    cache: int = 188
    """Length of the speaker cache."""
    update: int = 188
    """Frames that leave the queue for the cache when it overflows: at least those beyond its
    length, at most all."""
    silence: int = 3
    """Rows of silence behind each speaker in the cache."""
    threshold: float = 0.25
    """Probabilities below this, of speech or of silence, count no less in a frame's score."""
    latest_boost: float = 0.05
    """Added to the scores of frames that are new to the cache."""
    silence_threshold: float = 0.2
    """Frames whose posteriors sum to less are silence."""
    strong_rate: float = 0.75
    """Share of a speaker's rows that are all but sure to be kept."""
    weak_rate: float = 1.5
    """Share of a speaker's rows that are likely to be kept."""
    positive_rate: float = 0.5
    """Share of a speaker's rows from which frames in which others talk as well are left out."""

    def __post_init__(self) -> None:
        check_least(self, chunk=1, left=0, right=0, fifo=0, cache=1, update=1, silence=0)
        check_least(self, strong_rate=0, weak_rate=0, positive_rate=0)
        check_shares(self, "threshold", "silence_threshold")

    def check_slots(self, num_slots: int) -> None:
        """See that the cache holds every speaker.

        Raises:
            ConfigError: if it does not.
        """
        least = (1 + self.silence) * num_slots
        if self.cache < least:
            raise ConfigError(
                f"cache is {self.cache}, but {num_slots} speakers with {self.silence} rows of "
                f"silence each need {least}. Lengthen it."
            )

    def chunk_at(self, start: int, known: int, rows: int, ended: bool) -> Chunk | None:
        """The chunk that begins at a row, once all that it hears has come.

        Args:
            start: a row of features, where the chunk before ended.
            known: rows that have come.
            rows: of a frame.
            ended: whether no more will come.

        Returns:
            None where it has to wait, or the recording has ended before.
        """
        end = start + self.chunk * rows
        if ended:
            if start >= known:
                return None
            end = min(end, known)
        elif end + self.right * rows > known:
            return None
        first = max(start - self.left * rows, 0)
        return Chunk(first, start, end, min(end + self.right * rows, known), rows)


def rows_known(num_samples: int, hop: int, reach: int, ended: bool) -> int:
    """Rows of features that what has come decides.

    Args:
        num_samples: that have come.
        hop: samples from row to row.
        reach: samples that a row hears from the first of its own on.
        ended: whether no more will come; then silence does.
    """
    whole = num_samples // hop
    return whole if ended else min(whole, max((num_samples - reach) // hop + 1, 0))


OFFLINE = "offline"
DEFAULT = "default"

KEYS = ("chunk", "left", "right", "fifo", "cache", "update", "silence")
"""What a latency may say of its own."""

LATENCIES = {
    "30.4s": "chunk=340,left=1,right=40,fifo=40,cache=188,update=300,silence=3",
    "10s": "chunk=124,left=1,right=1,fifo=124,cache=188,update=124,silence=3",
    "1.04s": "chunk=6,left=1,right=7,fifo=188,cache=188,update=144,silence=3",
    "0.32s": "chunk=3,left=1,right=1,fifo=188,cache=188,update=144,silence=3",
}
"""The published operating points of Sortformer v2, by the longest wait for an answer; those of a
model that brings none."""


def parse_latency(
    latency: str, latencies: Mapping[str, str] = MappingProxyType(LATENCIES)
) -> StreamingConfig | None:
    """The settings that a latency names.

    Args:
        latency: a name; or settings in frames, such as ``chunk=6,right=7``, over those that
            ``latencies`` has as its ``default``.
        latencies: the names of a model, with their settings in frames. ``offline`` is a name
            everywhere: the whole recording is known, and unless the model says otherwise heard
            in windows instead of chunks.

    Returns:
        None for windows.

    Raises:
        ConfigError: if it is none of these, or cannot be run.
    """
    if latency == OFFLINE and latency not in latencies:
        return None
    settings = latencies.get(latency, latency)
    pair = rf"({'|'.join(KEYS)})=\d+"
    if not re.fullmatch(rf"{pair}(,{pair})*", settings):
        names = ", ".join(dict.fromkeys([OFFLINE, *latencies]))
        raise ConfigError(
            f"latency is {latency!r}, but the model has {names}, or takes frames such as "
            f"chunk=6,right=7 of {', '.join(KEYS)}. Choose one."
        )
    base = None
    if latency not in latencies and DEFAULT in latencies:
        base = parse_latency(DEFAULT, latencies)
    values = {key: int(value) for key, value in (p.split("=") for p in settings.split(","))}
    return replace(base or StreamingConfig(), **values)


def format_latency(config: StreamingConfig) -> str:
    """The text that `parse_latency` takes."""
    return ",".join(f"{f.name}={getattr(config, f.name)}" for f in fields(config) if f.name in KEYS)
