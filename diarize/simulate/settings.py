"""How simulated conversations go and sound."""

from dataclasses import dataclass, field

from diarize.config import check_least, check_shares
from diarize.errors import ConfigError


@dataclass
class SimulationConfig:
    """How simulated conversations go and sound."""

    independent_share: float = 0.5
    """Share of sessions in the independent style; the rest are conversations."""
    num_speakers: list[float] | None = None
    """How often a session has 1, 2, 3, … speakers, relative to one another; null: as often as in
    the references of ``turn_taking``, or always two."""
    duration: float | None = 30.0
    """Seconds of a session; null lets the independent style run to its last utterance."""
    min_utterances: int = 10
    """Fewest utterances of a speaker in an independent session."""
    max_utterances: int = 20
    """Most utterances of a speaker in an independent session."""
    silence: float = 2.0
    """Independent: mean of the exponential silence before each utterance, seconds."""
    sparse: float = 0.0
    """How often a session's silences and pauses are 20 times as long: hardly a word, or none."""
    midst: float = 0.0
    """How often a session is heard from its midst on, as the later windows of a long one are; up
    to 15 s of it go before."""
    turn_taking: str | None = None
    """Conversation: a fit to references, a file of ``diarize simulate fit`` or the name of one in
    ``conf/turntaking``; then the next six, up to ``max_turn``, are not looked at."""
    hold: float = 0.35
    """Conversation: how often the speaker goes on after a pause."""
    pause: float = 0.6
    """Conversation: mean of the exponential pause between turns, seconds."""
    overlap: float = 0.3
    """Conversation: how often a new speaker begins before the last one ends."""
    overlap_duration: float = 0.8
    """Conversation: mean of the exponential overlap, seconds; at most the whole turn before."""
    backchannel: float = 0.15
    """Conversation: how often somebody else says a word or two during a turn."""
    max_turn: float = 8.0
    """Conversation: longer utterances are cut to a random part of so many seconds."""
    silence_ratio: float | None = None
    """Conversation: the share of a session in which nobody speaks, reached by leaving out pauses or
    overlaps; with ``overlap_ratio``. Sortformer v1 learned from 0.1."""
    overlap_ratio: float | None = None
    """Conversation: the share of speech in which several speak; Sortformer v1 learned from 0.12."""
    ratio_spread: float = 0.05
    """Standard deviation of both between sessions, which a Beta distribution draws."""
    trim: bool = True
    """Leave silence in utterances out, so that turns mean speech: by the times of words where lines
    have ``words`` and ``alignments``, else by energy."""
    min_voice: float = 2.0
    """A speaker with less speech than this, seconds, is not used."""
    level: float = -26.0
    """Mean level of a speaker, dB below full scale."""
    level_spread: float = 4.0
    """Standard deviation of speakers' levels, dB."""
    speed: list[float] = field(default_factory=lambda: [1.0])
    """Playing speeds, one drawn per speaker and session; each makes other voices."""
    noise: float = 0.0
    """How often a session has background noise, where noises are given."""
    snr: list[float] = field(default_factory=lambda: [5.0, 25.0])
    """Range of signal-to-noise ratios, dB."""
    reverberation: float = 0.0
    """How often a session happens in a room, where room responses are given."""
    telephone: float = 0.0
    """How often a session comes over a telephone line, 300 to 3400 Hz."""
    codec: float = 0.0
    """How often it has gone through a codec that keeps the lower frequencies alone."""
    codec_band: list[float] = field(default_factory=lambda: [3500.0, 7500.0])
    """Range of the highest frequency that is then left, Hz: from GSM to MP3 at 32 kbit/s."""
    clipping: float = 0.0
    """How often a session is recorded too loud, its peaks cut off."""
    overdrive: list[float] = field(default_factory=lambda: [3.0, 12.0])
    """Range of decibels by which they then exceed full scale."""

    def __post_init__(self) -> None:
        weights = [0.0, 1.0] if self.num_speakers is None else self.num_speakers
        if not weights or min(weights) < 0 or sum(weights) <= 0:
            raise ConfigError(
                f"num_speakers is {list(weights)}, but it weighs 1, 2, 3, … speakers: "
                "no weight may be negative, and one must be positive. Write [0, 1] for always two."
            )
        if self.duration is None and self.independent_share < 1.0:
            raise ConfigError(
                f"duration is null and independent_share {self.independent_share:g}, but "
                "conversations have no end of their own. Give seconds, or set independent_share=1."
            )
        if self.duration is None and self.midst > 0:
            raise ConfigError(
                f"duration is null and midst {self.midst:g}, but a part of a session needs a "
                "length. Give seconds, or set midst=0."
            )
        check_shares(self, "independent_share", "sparse", "midst")
        check_shares(self, "hold", "overlap", "backchannel")
        check_shares(self, "noise", "reverberation", "telephone", "codec", "clipping")
        check_shares(self, "silence_ratio", "overlap_ratio", "ratio_spread")
        check_least(self, duration=0.1, max_turn=0.1, min_utterances=1, min_voice=0)
        check_least(self, silence=0, pause=0, overlap_duration=0, level_spread=0)
        if self.max_utterances < self.min_utterances:
            raise ConfigError(
                f"max_utterances is {self.max_utterances}, but min_utterances is "
                f"{self.min_utterances}. Raise the one or lower the other."
            )
        if (self.silence_ratio is None) != (self.overlap_ratio is None):
            raise ConfigError(
                f"silence_ratio is {self.silence_ratio} and overlap_ratio {self.overlap_ratio}, "
                "but they are reached together. Give both, or neither."
            )
        for name in ("snr", "codec_band", "overdrive"):
            ends = getattr(self, name)
            if len(ends) != 2 or ends[0] > ends[1]:
                raise ConfigError(
                    f"{name} is {list(ends)}, but a range has 2 ends, the lower first. "
                    "Write [5, 20], or [10, 10] for always 10 dB."
                )
        if not self.speed or not min(self.speed) > 0:
            raise ConfigError(
                f"speed is {list(self.speed)}, but it lists at least 1 speed, all above 0. "
                "Write [1.0] for speech as it is."
            )
