"""Pauses, gaps, overlaps and backchannels, drawn and measured."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diarize.errors import ConfigError, RttmError
from diarize.turns import Turn
from diarize.turntaking import fit, observe, read_turn_taking, write_turn_taking


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
    assert (seen.total, seen.speech, seen.overlapped) == (25.0, 20.0, 4.0)
    assert seen.speakers.tolist() == [3]
    assert seen.shares[0] == pytest.approx([10 / 24, 7 / 24, 7 / 24])
    # The floor went A B C A C: back to whom it came from in the last of three changes.
    assert (seen.returned, seen.changed) == (1, 3)


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
    assert fitted.hold == pytest.approx(2 / 5, abs=1e-4)  # both of A
    assert fitted.interrupt == pytest.approx(1 / 3, abs=1e-4)
    assert fitted.gap[0] == fitted.gap[-1] == 0.0 or fitted.gap == sorted(fitted.gap)
    assert len(fitted.turn) == 101 and fitted.turn[0] == 1.0 and fitted.turn[50] == 2.0
    assert fitted.backchannel == [] and fitted.backchannels == 0.0


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
        ({"hold": "often"}, r'f\.json: hold is "often", but it is at least 0\. Fit again'),
        ({"hold": 1.5}, r"f\.json: has no turns or no speakers"),
        ({"pause": [1.0, 0.5]}, r"f\.json: pause is \[1\.0, 0\.5\], but it is 101 rising numbers"),
        ({"turn": []}, r"f\.json: has no turns or no speakers"),
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
