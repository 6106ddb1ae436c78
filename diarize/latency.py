"""How long a model may wait before it answers: streaming settings, by name and in frames."""

import re
from dataclasses import dataclass, fields, replace

from diarize.config import check_least, check_shares
from diarize.errors import ConfigError


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
    """Rows of mean silence behind each speaker in the cache."""
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


OFFLINE = "offline"

LATENCIES = {
    "30.4s": StreamingConfig(chunk=340, right=40, fifo=40, update=300),
    "10s": StreamingConfig(chunk=124, right=1, fifo=124, update=124),
    "1.04s": StreamingConfig(chunk=6, right=7, fifo=188, update=144),
    "0.32s": StreamingConfig(chunk=3, right=1, fifo=188, update=144),
}
"""The published operating points of Sortformer v2, by the longest wait for an answer."""

KEYS = ("chunk", "left", "right", "fifo", "cache", "update")
"""What a latency may say of its own."""


def parse_latency(latency: str) -> StreamingConfig | None:
    """The settings that a latency names.

    Args:
        latency: ``offline``; a name in ``LATENCIES``; or settings in frames, such as
            ``chunk=6,left=1,right=7,fifo=188,cache=188,update=144``.

    Returns:
        None for ``offline``.

    Raises:
        ConfigError: if it is none of these, or cannot be run.
    """
    if latency == OFFLINE:
        return None
    if latency in LATENCIES:
        return LATENCIES[latency]
    if not re.fullmatch(rf"({'|'.join(KEYS)})=\d+(,({'|'.join(KEYS)})=\d+)*", latency):
        raise ConfigError(
            f"latency is {latency!r}, but it is {OFFLINE}, one of {', '.join(LATENCIES)}, or "
            f"frames such as chunk=6,right=7 of {', '.join(KEYS)}. Choose one."
        )
    values = {key: int(value) for key, value in (p.split("=") for p in latency.split(","))}
    return replace(StreamingConfig(), **values)


def format_latency(config: StreamingConfig) -> str:
    """The text that `parse_latency` takes."""
    return ",".join(f"{f.name}={getattr(config, f.name)}" for f in fields(config) if f.name in KEYS)
