"""Real and simulated turn-taking side by side."""

import json
from pathlib import Path

import numpy as np
import pytest

from diarize.errors import RttmError
from diarize.gap import compare, draw_gap
from diarize.turns import Turn
from diarize.turntaking import Observed, observe


def talk(pause: float, length: float = 2.0, early: float = 0.5, count: int = 40) -> Observed:
    """Two who take turns, now after a pause, now early; the first goes on once in a while."""
    time, found = 0.0, []
    for number in range(count):
        found.append(Turn(time, time + length, "AB"[number % 2]))
        time += length + (pause if number % 3 else -early)
    return observe({"x": found})


def test_the_same_is_near_and_nothing_is_recommended() -> None:
    gap = compare(talk(0.5), talk(0.5))
    assert all(row.distance == 0 or np.isnan(row.distance) for row in gap.rows)
    assert not any(row.advice for row in gap.rows)
    assert "nearer with" not in gap.to_text()


def test_distances_are_seconds_and_what_is_far_has_its_setting() -> None:
    gap = compare(talk(0.5, early=0.75), talk(1.5, early=0.25))
    rows = {row.name: row for row in gap.rows}
    assert rows["gap"].distance == pytest.approx(1.0)
    assert rows["overlap"].distance == pytest.approx(0.5)
    assert rows["turn"].distance == pytest.approx(0.0) and not rows["turn"].advice
    assert rows["overlap"].real == pytest.approx((0.75, 0.75, 0.75))
    assert rows["overlap"].advice == "overlap_duration=0.75"
    assert rows["silence"].advice == "silence_ratio=0.16"  # 26 gaps of 0.5 s in 83.25 s
    text = gap.to_text()
    assert "nearer with:" in text and "overlap_duration=0.75" in text
    assert len({len(line) for line in text.splitlines()[1:3]}) <= 2


def test_numbers_of_speakers_are_compared() -> None:
    trio = observe({"x": [Turn(float(n), n + 0.9, "ABC"[n % 3]) for n in range(9)]})
    (row,) = (row for row in compare(trio, talk(0.5)).rows if row.name == "speakers")
    assert row.distance == 1.0 and row.advice == "'num_speakers=[0.00,0.00,1.00]'"


def test_programs_read_json() -> None:
    rows = json.loads(compare(talk(0.5), talk(1.5)).to_json())["rows"]
    assert [row["name"] for row in rows[:2]] == ["turn", "pause"]


def test_sides_without_turns_are_named() -> None:
    with pytest.raises(RttmError, match=r"simulation: the references have 0 turns in 0 sessions"):
        compare(talk(0.5), observe({}))


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_histograms_are_drawn(tmp_path: Path, ending: str) -> None:
    draw_gap(tmp_path / f"gap.{ending}", compare(talk(0.5), talk(1.5)))
    assert (tmp_path / f"gap.{ending}").stat().st_size > 5000
