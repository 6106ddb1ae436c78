"""Systems side by side: paired differences, and results that do not belong in one table."""

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from diarize.errors import ScoreError
from diarize.score import CONDITIONS, Condition, ScoreReport, score_sessions
from diarize.score.compare import compare, difference
from diarize.score.passport import Source
from diarize.score.results import Results
from diarize.turns import Turn
from tests.test_passport import PASSPORT

FULL, FAIR, _ = CONDITIONS.values()


def missing(*seconds: float, condition: Condition = FULL) -> ScoreReport:
    """Sessions of ten seconds, of which so many are missed."""
    references = {f"s{n}": [Turn(0, 10, "ann")] for n in range(len(seconds))}
    hypotheses = {f"s{n}": [Turn(0, 10 - lost, "x")] for n, lost in enumerate(seconds)}
    return score_sessions(references, hypotheses, condition)


def results(*reports: ScoreReport) -> Results:
    return Results(PASSPORT, list(reports))


def test_a_constant_difference_has_no_width_however_sessions_vary() -> None:
    lost = np.random.default_rng(0).uniform(0, 8, 30)
    found = difference(missing(*(lost + 1)), missing(*lost))
    assert found is not None
    assert (found.der, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (found.num_better, found.num_worse) == (0, 30)
    low, high = missing(*lost).intervals["der"]
    assert high - low > 0.1


def test_a_difference_is_the_mean_of_paired_ones() -> None:
    one, other = np.random.default_rng(1).uniform(0, 8, (2, 40))
    found = difference(missing(*one), missing(*other))
    assert found is not None
    gaps = (one - other) / 10
    half = 1.96 * gaps.std() / 40**0.5
    assert (found.der, found.low, found.high) == pytest.approx(
        (gaps.mean(), gaps.mean() - half, gaps.mean() + half), abs=0.01
    )
    assert found.num_better == (gaps < 0).sum()


def test_sessions_are_paired_by_their_names_alone() -> None:
    system, other = missing(1, 2, 3), missing(3, 2, 1)
    backwards = ScoreReport(dict(reversed(system.scores.items())), FULL, "all")
    assert difference(backwards, other) == difference(system, other)
    assert difference(missing(1, 2), other) is None
    assert difference(missing(1), missing(1)) is None


def test_a_table_for_each_condition_with_the_first_to_compare_with() -> None:
    text = compare(
        {
            name: results(missing(*lost), missing(*lost, condition=FAIR))
            for name, lost in {"old": (1, 3), "new": (1, 2)}.items()
        }
    ).to_text()
    head, full, fair = text.split("\n\n")
    assert head.splitlines()[0].startswith("reference: ref, 1 file, sha256 aaaa")
    assert "differences: from old; 95 % intervals by bootstrap over 2 sessions" in head
    assert full.splitlines()[0] == "condition: full (collar 0 s on each side, overlap scored)"
    assert fair.splitlines()[0].startswith("condition: fair")
    _, _, old, new = full.splitlines()
    assert old.split() == (
        ["old", "20.00", "20.00", "0.00", "0.00", "20.00", "10.00", "30.00", "20.00"] + ["-"] * 5
    )
    assert new.split()[9:] == ["-5.00", "-10.00", "0.00", "1", "0"]


BOTH = compare({"old": results(missing(1, 3)), "new": results(missing(1, 2))})


def test_markdown_is_the_table_and_what_was_compared() -> None:
    page = BOTH.to_markdown()
    assert "| new | 20.00 |" in page and page.startswith("**full (collar 0 s on each side, ")
    assert all(f"- {line}\n" in page for line in BOTH.lines())


def test_csv_has_the_totals_as_those_of_scores_have_them() -> None:
    old, new = csv.DictReader(io.StringIO(BOTH.to_csv()))
    *_, total = csv.DictReader(io.StringIO(BOTH.results["new"].to_csv()))
    assert total.pop("kind") == "total" and total.pop("name") == "TOTAL"
    assert new == {
        "system": "new",
        **total,
        "difference": "-5.0",
        "difference_low": "-10.0",
        "difference_high": "0.0",
        "num_better": "1",
        "num_worse": "0",
        "different": "",
    }
    assert old["system"] == "old" and old["difference"] == old["num_better"] == ""


def test_json_has_passports_totals_and_differences() -> None:
    lost = {"old": (1, 3), "new": (1, 2), "one": (2,)}
    reports = {name: [missing(*of), missing(*of, condition=FAIR)] for name, of in lost.items()}
    both = compare({name: results(*of) for name, of in reports.items()})
    found = json.loads(both.to_json())
    assert (found["format"], found["differences_from"]) == ("diarize score compare 1", "old")
    assert found["passports"] == {name: json.loads(json.dumps(PASSPORT.to_dict())) for name in lost}
    full, fair = found["results"]
    assert (full["condition"]["name"], fair["condition"]["collar"]) == ("full", 0.25)
    for name, system in zip(lost, full["systems"], strict=True):
        (alone, _) = json.loads(both.results[name].to_json())["results"]
        assert system.pop("system") == name
        apart = system.pop("difference")
        assert system == alone["total"]
        if name == "new":
            assert apart == {
                "der": -5.0, "low": -10.0, "high": 0.0, "num_better": 1, "num_worse": 0,
            }  # fmt: skip
        else:  # the first itself, and one that has other sessions
            assert apart is None


def test_what_is_infinite_is_null_in_json() -> None:
    nobody = score_sessions({"a": [], "b": []}, {"a": [Turn(0, 1, "x")], "b": []})
    found = json.loads(compare({"old": results(nobody), "new": results(nobody)}).to_json())
    new = found["results"][0]["systems"][1]
    assert new["der"] is None and new["difference"]["der"] is None


def test_what_compare_wrote_is_no_result() -> None:
    message = "has format 'diarize score compare 1', but results have 'diarize score 1'"
    with pytest.raises(ScoreError, match=message):
        Results.from_json(BOTH.to_json(), "both.json")


def of_passport(**other: object) -> Results:
    return Results(replace(PASSPORT, **other), [missing(1, 2)])


OTHERS = {
    "reference": of_passport(reference=Source("words", "e" * 64)),
    "scored region": of_passport(scored_region="as given by UEM or manifest"),
    "rules": results(missing(1, 2, condition=Condition(rules="pyannote"))),
    "conditions": results(missing(1, 2, condition=FAIR)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_results_of_another_passport_are_refused_unless_told_otherwise(what: str) -> None:
    found = {"old": results(missing(1, 3)), "new": OTHERS[what]}
    with pytest.raises(ScoreError, match=rf"new: {what}: .*, not .* as in old, but .*--allow-diff"):
        compare(found)
    first, *_ = compare(found, allow_different=True).to_text().splitlines()
    assert first.startswith(f"different: new has {what}: ")
    assert f"new has {what}" in compare(found, allow_different=True).to_csv()


def test_hypotheses_and_tools_may_differ() -> None:
    making = {"model": "mine", "inference": {"latency": "1.04s", "postprocess": {}}, "num_files": 1}
    side = Source("sys2", "f" * 64, {"sys2/s.rttm": "4" * 64}, [making])
    other = replace(PASSPORT, hypothesis=side, environment={"packages": {}})
    found = compare({"old": results(missing(1)), "new": Results(other, [missing(2)])})
    assert found.different == []
    assert found.lines()[1:4] == [
        "old: hyp, 2 files, sha256 bbbbbbbbbbbb",
        "new: sys2, 1 file, sha256 ffffffffffff",
        "new: made by: model mine, latency 1.04s (1 file)",
    ]
