"""Conversations mixed from single-speaker utterances, with their turns known by construction.

A session depends on (seed, index) alone: workers, ranks and later runs make the same one, and
no two indices repeat. Two styles:

``independent``: every speaker alternates utterances with exponential silences, regardless of
the others (Fujita et al. 2019, EEND, Algorithm 1).
``conversation``: one floor that speakers hold, hand over after a pause, take early (overlap),
or comment on (backchannel).
"""

from diarize.simulate.folder import write_sessions
from diarize.simulate.settings import SimulationConfig
from diarize.simulate.simulator import Simulator

__all__ = ["SimulationConfig", "Simulator", "write_sessions"]
