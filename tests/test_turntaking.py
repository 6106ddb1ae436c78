"""Pauses, gaps, overlaps and backchannels, drawn and measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from diarize.errors import ConfigError, RttmError
from diarize.turns import Turn
from diarize.turntaking import (
    fit,
    floor_weights,
    observe,
    read_turn_taking,
    write_turn_taking,
)
from diarize.turntaking.observed import GAP, NOTHING, OVERLAP, PAUSE


def turns(*lanes: str) -> list[Turn]:
    """A lane per speaker, A, B, …: a character is a second, spoken in where it is no space."""
    found = []
    for speaker, lane in zip("ABCDE", lanes, strict=False):
        edges = np.diff(np.array([0, *(c != " " for c in lane), 0], dtype=int))
        pairs = zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True)
        found += [Turn(float(a), float(b), speaker) for a, b in pairs]
    return found


def test_what_follows_a_turn_is_a_pause_a_gap_an_overlap_or_a_backchannel() -> None:
    seen = observe({
        "one": turns(
            "aaa  aaaa            aaa ",
            "       b   bbbbb  b      ",
            "              cccccc    c",
        )
    })  # fmt: skip
    assert seen.pause.tolist() == [2.0]  # A goes on
    assert seen.backchannel.tolist() == [1.0, 1.0]  # B within the words of A, and of C
    assert seen.gap.tolist() == [2.0, 1.0, 0.0]  # A to B, C to A, A to C
    assert seen.overlap.tolist() == [2.0]  # B to C
    assert seen.turn.tolist() == [3.0, 4.0, 5.0, 6.0, 3.0, 1.0]
    assert seen.follows.tolist() == [PAUSE, GAP, OVERLAP, GAP, GAP, NOTHING]
    assert seen.comments.tolist() == [0, 1, 0, 1, 0, 0]
    assert seen.speaker.tolist() == [0, 0, 1, 2, 0, 2]
    assert seen.shorter.tolist() == [5.0]  # B, who is interrupted, speaks for less than C
    assert (seen.total, seen.speech, seen.crosstalk) == (25.0, 20.0, 4.0)
    assert seen.speakers.tolist() == [3]
    assert seen.shares[0] == pytest.approx([2 / 5, 2 / 5, 1 / 5])  # A B C A C
    # Back to whom it came from in the last of three changes.
    assert (seen.returned, seen.changed) == (1, 3)
    assert (seen.hold, seen.interrupt) == (1 / 5, 1 / 4)
    assert (seen.silence, seen.overlapped) == pytest.approx((5 / 25, 4 / 20))


def test_words_close_together_are_one_turn() -> None:
    close = [Turn(0.0, 1.0, "A"), Turn(1.1, 2.0, "A"), Turn(2.5, 3.0, "B")]
    assert observe({"x": close}).turn.tolist() == [2.0, 0.5]
    apart = observe({"x": close}, join=0.0)
    assert apart.turn.tolist() == [1.0, pytest.approx(0.9), 0.5]
    assert apart.pause == pytest.approx([0.1])


def test_sessions_do_not_follow_one_another() -> None:
    seen = observe({"x": turns("a a"), "y": turns("bbb"), "empty": []})
    assert seen.pause.tolist() == [1.0] and len(seen.gap) == 0
    assert seen.speakers.tolist() == [1, 1] and seen.total == 6.0


def test_a_fit_counts_transitions() -> None:
    lanes = ("aa aa    aa  ", "     bbbbb   ", "            c")
    fitted = fit(observe({"x": turns(*lanes), "y": turns("aa bb")}))
    assert fitted.sessions == 2 and fitted.hours == round(18 / 3600, 3)
    assert fitted.num_speakers == [0.5, 0.0, 0.5]
    assert fitted.bands == []  # so few turns are one band
    assert fitted.hold == pytest.approx([2 / 5], abs=1e-4)  # both of A
    assert fitted.interrupt == pytest.approx([1 / 3], abs=1e-4)
    assert fitted.gap[0] == fitted.gap[-1] == 0.0 or fitted.gap == sorted(fitted.gap)
    # Of who goes on, who comes after a gap, who interrupts.
    ends = [(len(table), table[0], table[100]) for table in fitted.turn]
    assert ends == [(101, 2.0, 2.0), (101, 1.0, 5.0), (101, 2.0, 2.0)]
    assert fitted.backchannel == [] and fitted.backchannels == [0.0]


def test_chances_go_with_the_length_of_a_turn() -> None:
    # Turns of 1 s are followed by a gap, those of 4 s by an interruption.
    found, time = [], 0.0
    for number in range(150):
        length = 1.0 if number % 2 else 4.0
        found.append(Turn(time, time + length, "ABC"[number % 3]))
        time += length + (0.5 if number % 2 else -0.75)
    fitted = fit(observe({"x": found, "y": found}))
    assert len(fitted.bands) == 2 and fitted.bands[0] == 1.0 and fitted.bands[1] == 4.0
    assert fitted.interrupt[1] == 0.0 and fitted.interrupt[2] == 1.0
    assert len(fitted.hold) == len(fitted.backchannels) == len(fitted.overlap) == 3
    assert {value for table in fitted.overlap for value in table} == {0.75}
    assert fitted.turn[1][0] == 4.0 and fitted.turn[2][100] == 1.0  # long after a gap alone


@given(
    st.integers(3, 6).flatmap(
        lambda number: st.lists(st.floats(0.5, 2.0), min_size=number, max_size=number)
    )
)
def test_who_takes_the_floor_has_it_as_often_as_shares_say(shares: list[float]) -> None:
    wanted = np.array(shares) / sum(shares)
    assume(wanted.max() < 0.45)
    weights = floor_weights(np.array(shares))
    passes = weights[None, :] / (1 - weights[:, None])
    np.fill_diagonal(passes, 0.0)
    assert passes.sum(axis=1) == pytest.approx(1.0, abs=1e-3)
    # Who has it now and who had it before, with returns: the chain's own shares.
    number, returns = len(wanted), 0.3
    pairs = np.full((number, number), 1 / number**2)  # (before, now)
    for _ in range(300):
        pairs = returns * pairs.T + (1 - returns) * pairs.sum(axis=0)[:, None] * passes
    assert pairs.sum(axis=0) == pytest.approx(wanted, abs=2e-3)


def test_a_return_counts_as_far_as_shares_do_not_explain_it() -> None:
    # A has the floor every other time, so it goes back to A although nobody means it to.
    rng = np.random.default_rng(0)
    often = [speaker for other in rng.choice(list("BCD"), 400) for speaker in ("A", other)]
    seen = observe({"x": [Turn(float(n), n + 0.9, name) for n, name in enumerate(often)]})
    assert seen.returned / seen.changed > 0.6 and fit(seen).returns < 0.15
    pairs = [name for pair in ("AB", "CD", "AC") * 70 for name in pair * 3]
    seen = observe({"x": [Turn(float(n), n + 0.9, name) for n, name in enumerate(pairs)]})
    assert fit(seen).returns > 0.4


def test_habit_is_how_alike_the_turns_of_a_speaker_are() -> None:
    rng = np.random.default_rng(0)

    def talk(alike: float) -> float:
        found, time = [], 0.0
        for speaker in range(60):
            usual = rng.normal()
            for _ in range(20):
                score = np.sqrt(alike) * usual + np.sqrt(1 - alike) * rng.normal()
                found.append(Turn(time, time + float(np.exp(score)), f"{speaker}"))
                time += float(np.exp(score)) + 1.0
        return observe({"x": found}).habit

    assert talk(0.0) == pytest.approx(0.0, abs=0.05)
    assert talk(0.6) == pytest.approx(0.6, abs=0.12)


def test_the_largest_hundredth_keeps_its_mean() -> None:
    pauses = np.concatenate([np.linspace(0.1, 1.0, 995), [2.0, 2.0, 2.0, 2.0, 100.0]])
    seen = replace(observe({"x": turns("a a")}), pause=pauses)
    table = np.interp(np.linspace(0, 1, 200001), np.linspace(0, 1, 101), fit(seen).pause)
    assert table.mean() == pytest.approx(pauses.mean(), rel=0.03)
    plain = np.interp(
        np.linspace(0, 1, 9999), np.linspace(0, 1, 101), np.quantile(pauses, np.linspace(0, 1, 101))
    )
    assert plain.mean() > 1.5 * pauses.mean()  # what would come of the quantiles alone


@pytest.mark.parametrize("concentration", [1.0, 3.0, 10.0])
def test_unequal_shares_have_the_concentration_they_were_drawn_with(concentration: float) -> None:
    shares = np.random.default_rng(0).dirichlet(np.full(4, concentration), 4000)
    seen = replace(
        observe({"x": turns("a a")}),
        speakers=np.full(4000, 4),
        shares=-np.sort(-shares, axis=1),
    )
    assert fit(seen).dominance == pytest.approx(concentration, rel=0.05)


def test_a_fit_survives_its_file(tmp_path: Path) -> None:
    fitted = fit(observe({"x": turns("aa aa    aa", "     bbbbb ")}))
    write_turn_taking(tmp_path / "fit.json", fitted)
    assert read_turn_taking(tmp_path / "fit.json") == fitted


def test_shipped_fits_are_found_by_name() -> None:
    meetings = read_turn_taking("ami")
    assert meetings.sessions == 136 and meetings.num_speakers[3] > 0.9
    assert 0.1 < meetings.overlapped < 0.2


def test_one_turn_tells_nothing() -> None:
    message = r"the references have 1 turns in 1 sessions, but turn-taking needs at least 2 in one"
    with pytest.raises(RttmError, match=message):
        fit(observe({"x": turns("aaa"), "y": []}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hold": None}, r"f\.json: holds backchannel, .*, but a fit holds sessions, hours"),
        ({"habit": "often"}, r'f\.json: habit is "often", but it is at least 0\. Fit again'),
        ({"hold": 0.2}, r"f\.json: hold is 0\.2, but it is 1 numbers, .*, one for each band"),
        (
            {"hold": [1.5]},
            r"f\.json: hold is \[1\.5\], but it is 1 numbers, from 0 to 1, one",
        ),
        ({"bands": [2.0, 1.0]}, r"f\.json: bands is \[2\.0, 1\.0\], but it is a list of rising"),
        (
            {"overlap": [[], []]},
            r"f\.json: overlap is \[\[\], \[\]\], but it is 1 times 101",
        ),
        ({"pause": [1.0, 0.5]}, r"f\.json: pause is \[1\.0, 0\.5\], but it is 101 rising numbers"),
        ({"turn": [[], [], []]}, r"f\.json: has no turns or no speakers"),
        ({"num_speakers": [0]}, r"f\.json: has no turns or no speakers"),
    ],
)
def test_files_that_are_no_fit(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "f.json"
    write_turn_taking(path, fit(observe({"x": turns("aa aa    aa", "     bbbbb ")})))
    values = json.loads(path.read_text()) | change
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))
    with pytest.raises(ConfigError, match=message):
        read_turn_taking(path)


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"party: is neither a file nor .* known: ami"):
        read_turn_taking("party")
    (tmp_path / "half.json").write_text('{"sessions": 3,\n"hours"')
    with pytest.raises(ConfigError, match=r"half\.json:2: is not JSON"):
        read_turn_taking(tmp_path / "half.json")
