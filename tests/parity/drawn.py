"""Random sessions that hold what scorers trip over."""

import os
import random
from typing import NamedTuple

from diarize.turns import Segment, Turn

COUNT = int(os.environ.get("DIARIZE_PARITY_SESSIONS", "100"))
"""How many sessions each comparison draws; some thousands before a change of the engine."""

END = 40.0


class Drawn(NamedTuple):
    """A session, and what of it is scored."""

    reference: list[Turn]
    hypothesis: list[Turn]
    uem: list[Segment]


def sessions(count: int = COUNT, seed: int = 0) -> dict[str, Drawn]:
    """Sessions by name; times are microseconds, so that mappings hardly ever tie."""
    generator = random.Random(seed)
    return {f"s{number:05d}": _session(generator) for number in range(count)}


def _session(generator: random.Random) -> Drawn:
    reference = _turns(generator, "abcde"[: generator.randint(1, 5)])
    kind = generator.random()
    if kind < 0.04:
        hypothesis = []
    elif kind < 0.12:
        hypothesis = _turns(generator, "vwxyz")
    else:
        hypothesis = _guess(generator, reference)
    if generator.random() < 0.04:
        reference = []
    if generator.random() < 0.05:  # a speaker of whom the scored region hears nothing
        who = generator.choice([reference, hypothesis])
        who.append(Turn(END + 1, END + 4, "late"))
    return Drawn(reference, hypothesis, _uem(generator))


def _turns(generator: random.Random, speakers: str) -> list[Turn]:
    """Turns that overlap, touch, have no length, or are shorter than their collars."""
    turns = []
    for speaker in speakers:
        time = generator.uniform(0, 8)
        for _ in range(generator.randint(1, 8)):
            length = generator.choice([0.0, 0.2, 0.4, 1, 1, 3, 3]) * generator.uniform(0.5, 1.5)
            start, time = round(time, 6), round(time + length, 6)
            turns.append(Turn(start, time, speaker))
            move = generator.random()
            if move < 0.06:  # overlaps himself or herself
                time = max(0.0, time - generator.uniform(0, 1))
            elif move > 0.25:  # else touches
                time += generator.uniform(0, 6)
    generator.shuffle(turns)
    return turns


def _guess(generator: random.Random, reference: list[Turn]) -> list[Turn]:
    """The reference, moved, confused, and with turns lost and invented."""
    labels = {turn.speaker: f"h{turn.speaker}" for turn in reference}
    if generator.random() < 0.3:  # names that both sides have, for different speakers
        names = sorted(labels)
        labels = dict(zip(names, generator.sample(names, len(names)), strict=True))
    found = []
    for turn in reference:
        start = max(0.0, round(turn.start + generator.gauss(0, 0.3), 6))
        end = round(turn.end + generator.gauss(0, 0.3), 6)
        who = turn.speaker if generator.random() < 0.8 else generator.choice(reference).speaker
        if end >= start and generator.random() < 0.85:
            found.append(Turn(start, end, labels[who]))
    for _ in range(generator.randint(0, 6)):
        start = round(generator.uniform(0, END), 6)
        end = round(start + generator.expovariate(1), 6)
        found.append(Turn(start, end, generator.choice([*labels.values(), "nobody"])))
    return found


def _uem(generator: random.Random) -> list[Segment]:
    """Everything, a part, or parts that touch or leave holes."""
    if generator.random() < 0.3:
        return [Segment(0.0, END)]
    times = sorted(
        {round(generator.uniform(0, END), 6) for _ in range(2 * generator.randint(1, 6))}
    )
    regions = [Segment(a, b) for a, b in zip(times[::2], times[1::2], strict=False)]
    if generator.random() < 0.2:
        regions.append(Segment(regions[-1].end, regions[-1].end + 2.0))
    return regions
