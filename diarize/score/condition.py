"""What is scored: collars, overlap, and whose rules decide the rest."""

import math
from dataclasses import dataclass

from diarize.errors import ScoreError

RULES = ("md-eval", "pyannote")
"""Whose rules there are to follow: NIST's md-eval-22, or pyannote.metrics."""


@dataclass(frozen=True)
class Condition:
    """What is scored.

    Attributes:
        collar: seconds on each side of a reference boundary that are not scored.
        skip_overlap: leave out where two or more reference speakers speak at once.
        rules: one of ``RULES``. "md-eval": speakers are mapped on the whole region, before collars
            and overlap are left out, and one who overlaps himself or herself counts once.
            "pyannote": they are mapped on what is left, and count as often as they overlap.
    """

    collar: float = 0.0
    skip_overlap: bool = False
    rules: str = "md-eval"

    def __post_init__(self) -> None:
        if not 0 <= self.collar < math.inf:
            raise ScoreError(
                f"collar is {self.collar}, but it is a length of time. "
                "Give the seconds on each side of a boundary, 0 or more."
            )
        if self.rules not in RULES:
            raise ScoreError(
                f"rules are {self.rules!r}, but scoring follows {' or '.join(RULES)}. Name one."
            )

    @property
    def name(self) -> str:
        """The field's word for it: full, fair, forgiving, or custom."""
        scored = (self.collar, self.skip_overlap)
        known = {(c.collar, c.skip_overlap): name for name, c in CONDITIONS.items()}
        return known.get(scored, "custom")

    def __str__(self) -> str:
        overlap = "skipped" if self.skip_overlap else "scored"
        rules = "" if self.rules == RULES[0] else f", {self.rules}'s rules"
        return f"{self.name} (collar {self.collar:g} s on each side, overlap {overlap}{rules})"


CONDITIONS = {
    "full": Condition(),
    "fair": Condition(collar=0.25),
    "forgiving": Condition(collar=0.25, skip_overlap=True),
}
"""The three conditions under which results are published."""
