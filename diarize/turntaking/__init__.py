"""How people take turns: pauses, gaps, overlaps, backchannels, measured in references.

One speaker has the floor. What comes next is one of four: he goes on after a *pause*; another
takes over after a *gap*; another takes over before he has ended, an interruption with an
*overlap*; or another says something within his turn, a *backchannel*, and the floor stays where it
is. (Pauses, gaps and overlaps as in Heldner and Edlund 2010, "Pauses, gaps and overlaps in
conversations"; the four transitions as in Yamashita et al. 2022, "Improving the naturalness of
simulated conversations for end-to-end neural diarization".)

What comes next depends on how long he has spoken: a single word is hardly ever interrupted, and who
has talked for a minute often goes on. So chances are measured in bands of turns of like length.
"""

from diarize.turntaking.fitted import (
    POINTS,
    QUANTILES,
    TurnTaking,
    fit,
    read_turn_taking,
    write_turn_taking,
)
from diarize.turntaking.observed import Observed, floor_weights, observe

__all__ = [
    "POINTS",
    "QUANTILES",
    "Observed",
    "TurnTaking",
    "fit",
    "floor_weights",
    "observe",
    "read_turn_taking",
    "write_turn_taking",
]
