"""Results as they are written and read again."""

import csv
import io
import json

import pytest

from diarize.errors import ScoreError
from diarize.score import CONDITIONS, Condition, score_sessions
from diarize.score.results import Results
from diarize.turns import Turn
from tests.test_passport import PASSPORT
from tests.test_report import of_two

FULL, FAIR, FORGIVING = CONDITIONS.values()
RESULTS = Results(PASSPORT, [of_two(FULL), of_two(FORGIVING)])


def test_text_has_the_passport_once_and_a_table_for_each_condition() -> None:
    head, full, forgiving = RESULTS.to_text().split("\n\n")
    assert head.splitlines() == PASSPORT.lines()
    assert full + "\n" == of_two(FULL).to_text()
    assert forgiving == of_two(FORGIVING).to_text()
    assert RESULTS.to_text().splitlines()[-1].startswith("TOTAL")


def test_words_stand_above_each_table() -> None:
    assert "mapping: " not in RESULTS.to_text()
    explained = RESULTS.to_text(in_words=True)
    assert explained.count("\nmapping: ") == 2
    assert explained.index("mapping: ") < explained.index("TOTAL")
    assert RESULTS.to_markdown(in_words=True).count("- mapping: ") == 2


def test_markdown_is_the_tables_and_the_passport() -> None:
    page = RESULTS.to_markdown()
    assert page.count("| TOTAL | ") == 2
    assert "**forgiving (collar 0.25 s on each side, overlap skipped)**; scored region: " in page
    assert all(f"- {line}\n" in page for line in PASSPORT.lines())


def test_csv_has_a_line_for_everything_that_is_added_up() -> None:
    rows = list(csv.DictReader(io.StringIO(RESULTS.to_csv())))
    kinds = [(row["condition"], row["kind"], row["name"]) for row in rows[:7]]
    assert kinds == [
        ("full", "session", "a"),
        ("full", "session", "b"),
        ("full", "speakers", "1"),
        ("full", "speakers", "2"),
        ("full", "overlap", "single"),
        ("full", "overlap", "overlapped"),
        ("full", "total", "TOTAL"),
    ]
    total = rows[6]
    assert float(total["der"]) == pytest.approx(100 * 5 / 18)
    assert float(total["der_low"]) < float(total["der"]) < float(total["der_high"])
    assert [(row["der_low"], row["jer_low"]) for row in rows[3:6]] == [
        ("", ""), ("0.0", ""), ("0.0", ""),
    ]  # fmt: skip
    assert (total["missed_speakers"], total["invented_speakers"]) == ("1", "1")
    assert {row["reference_sha256"] for row in rows} == {"a" * 64}
    assert rows[7]["collar"] == "0.25" and rows[7]["skip_overlap"] == "True"


def test_json_has_everything() -> None:
    found = json.loads(RESULTS.to_json())
    assert found["passport"]["reference"]["files"] == {"ref/s.rttm": "1" * 64}
    assert found["bootstrap"] == {
        "over": "sessions",
        "draws": 2000,
        "seed": 0,
        "ends": [0.025, 0.975],
    }
    full, forgiving = found["results"]
    assert forgiving["condition"] == {
        "name": "forgiving",
        "collar": 0.25,
        "skip_overlap": True,
        "rules": "md-eval",
    }
    total = full["total"]
    assert (total["num_sessions"], total["scored"], total["miss"]) == (2, 18.0, 4.0)
    assert total["der"] == pytest.approx(100 * 5 / 18)
    assert total["intervals"]["der"] == [pytest.approx(100 / 6), 50.0]
    assert full["speakers"] == {
        "count_accuracy": 0.0,
        "count_error": 1.0,
        "missed": 1,
        "invented": 1,
    }
    assert [group["num_speakers"] for group in full["by_num_speakers"]] == [1, 2]
    assert [group["intervals"] for group in full["by_num_speakers"]] == [{}, {}]
    assert full["by_overlap"]["silence"]["false_alarm"] == 1.0
    assert full["by_overlap"]["overlapped"]["intervals"]["der"] == [0.0, 50.0]
    first, second = full["sessions"]
    assert (first["session_id"], first["mapping"]) == ("a", {"x": "ben"})
    assert (first["missed_speakers"], second["invented_speakers"]) == (["carl"], ["y"])
    assert second["single"] == {"scored": 6.0, "miss": 2.0, "false_alarm": 0.0, "confusion": 0.0}


def test_infinite_der_is_null_in_json() -> None:
    report = score_sessions({"s": []}, {"s": [Turn(0, 1, "x")]})
    (found,) = json.loads(Results(PASSPORT, [report]).to_json())["results"]
    assert found["total"]["der"] is None and found["total"]["intervals"] == {}


def test_what_was_written_is_read() -> None:
    again = Results.from_json(RESULTS.to_json(), "a.json")
    assert again.passport == PASSPORT
    assert [report.condition for report in again.reports] == [FULL, FORGIVING]
    assert again.to_json() == RESULTS.to_json()
    assert again.to_text(per_session=True) == RESULTS.to_text(per_session=True)
    by_pyannote = Results(PASSPORT, [of_two(Condition(0.1, rules="pyannote"))])
    (report,) = Results.from_json(by_pyannote.to_json(), "a.json").reports
    assert report.condition == Condition(0.1, rules="pyannote")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"a\.json: cannot be read as results \(JSONDecodeError"),
        ("[]", r"cannot be read as results \(AttributeError"),
        ("{}", r"has format None, but results have 'diarize score 1'\. Is it written by"),
        ('{"format": "diarize score 1"}', r"cannot be read as results \(KeyError: 'passport'\)"),
    ],
)
def test_what_are_no_results_is_told(text: str, message: str) -> None:
    with pytest.raises(ScoreError, match=message):
        Results.from_json(text, "a.json")
