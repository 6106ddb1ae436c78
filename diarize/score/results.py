"""Scores under one or several conditions with their passport, as text, Markdown, CSV and JSON."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from diarize.errors import ScoreError
from diarize.score.condition import Condition
from diarize.score.error import DiarizationError, SessionScore
from diarize.score.explain import explain
from diarize.score.passport import Passport
from diarize.score.report import OVERLAP, Intervals, Row, ScoreReport, added
from diarize.score.resample import ENDS, NUM_DRAWS, SEED
from diarize.score.table import Cell, Table

FORMAT = "diarize score 1"
"""What a file of results says that it is."""

BOOTSTRAP = {"over": "sessions", "draws": NUM_DRAWS, "seed": SEED, "ends": ENDS}
"""How intervals were drawn."""

SPEAKERS = (
    "num_reference_speakers",
    "num_hypothesis_speakers",
    "missed_speakers",
    "invented_speakers",
)
"""How many of them a line of CSV counts."""

CLASSES = ("silence", *OVERLAP)
"""Where no, one, and two or more reference speakers speak."""


@dataclass(frozen=True)
class Results:
    """Scores and what produced them.

    Attributes:
        passport: what produced them.
        reports: the scores under each condition.
    """

    passport: Passport
    reports: list[ScoreReport]

    def to_text(self, per_session: bool = False, in_words: bool = False) -> str:
        """The passport, and a table for each condition with the total as its last line.

        Args:
            per_session: a line for each session.
            in_words: what was and was not counted, above each table.
        """
        blocks = ["".join(f"{line}\n" for line in self.passport.lines())]
        for report in self.reports:
            blocks.append(report.to_text(per_session, explain(report) if in_words else ()))
        return "\n".join(blocks)

    def to_markdown(self, per_session: bool = False, in_words: bool = False) -> str:
        """The same for a page: tables with their conditions above, the passport below."""
        blocks = []
        for report in self.reports:
            notes = [f"note: {note}" for note in report.notes]
            lines = [*notes, *(explain(report) if in_words else ()), *report.facts()]
            told = "".join(f"- {line}\n" for line in lines)
            head = f"**{report.condition}**; scored region: {report.scored_region}\n"
            blocks += [head, report.table(per_session).to_markdown(), told]
        blocks.append("".join(f"- {line}\n" for line in self.passport.lines()))
        return "\n".join(blocks)

    def to_csv(self) -> str:
        """A line for each session, group and total under each condition; seconds and percent.

        Each line carries the condition, the tool, and the hashes of both sides and the regions.
        """
        return Table.of_lines(
            [csv_line(row, of, self.passport) for of in self.reports for row in of.rows()]
        ).to_csv()

    def to_json(self) -> str:
        """All of it: seconds, and rates in percent (null where infinite). A line a session."""
        head = {"format": FORMAT, "passport": self.passport.to_dict(), "bootstrap": BOOTSTRAP}
        blocks = ",\n".join(_report_json(report) for report in self.reports)
        return f'{dump(head, indent=2)[:-2]},\n  "results": [\n{blocks}\n  ]\n}}\n'

    @classmethod
    def from_json(cls, text: str, where: str) -> "Results":
        """What ``to_json`` wrote.

        Args:
            text: all of the file.
            where: the file, for messages.

        Raises:
            ScoreError: if it is something else.
        """
        try:
            values = json.loads(text)
            known = values.get("format") == FORMAT
            if known:
                passport = Passport.from_dict(values["passport"])
                region = passport.scored_region
                reports = [_report(result, region) for result in values["results"]]
                return cls(passport, reports)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ScoreError(
                f"{where}: cannot be read as results ({type(error).__name__}: {error}), but they "
                "are compared as `diarize score --format json` writes them. Score again."
            ) from None
        raise ScoreError(
            f"{where}: has format {values.get('format')!r}, but results have {FORMAT!r}. "
            "Is it written by `diarize score --format json`?"
        )


def csv_line(row: Row, report: ScoreReport, passport: Passport) -> dict[str, Cell]:
    """Column -> cell of a row, with the condition and what it came from; seconds and percent."""
    condition, region = report.condition, passport.region
    speakers: Sequence[int | None] = [None] * 4
    if row.kind == "session":
        speakers = _speakers([report.scores[row.name]])
    if row.kind == "total":
        speakers = _speakers(list(report.scores.values()))

    def ends(rate: str) -> Sequence[Cell]:
        return [100 * end for end in row.intervals.get(rate, ())] or [None, None]

    (der_low, der_high), (jer_low, jer_high) = ends("der"), ends("jer")
    return {
        "condition": condition.name,
        "collar": condition.collar,
        "skip_overlap": str(condition.skip_overlap),
        "rules": condition.rules,
        "kind": row.kind,
        "name": row.name,
        "num_sessions": row.num_sessions,
        **vars(row.error),
        "der": 100 * row.error.der,
        "der_low": der_low,
        "der_high": der_high,
        "jer": None if row.jer is None else 100 * row.jer,
        "jer_low": jer_low,
        "jer_high": jer_high,
        **dict(zip(SPEAKERS, speakers, strict=True)),
        "scored_region": passport.scored_region,
        "region_sha256": None if region is None else region.sha256,
        "reference_sha256": passport.reference.sha256,
        "hypothesis_sha256": passport.hypothesis.sha256,
        "tool": f"diarize {passport.environment['packages']['diarize']}",
    }


def _speakers(scores: Sequence[SessionScore]) -> list[int]:
    """Each of `SPEAKERS`, of all sessions."""
    return [
        sum(score.num_reference_speakers for score in scores),
        sum(score.num_hypothesis_speakers for score in scores),
        sum(len(score.missed_speakers) for score in scores),
        sum(len(score.invented_speakers) for score in scores),
    ]


def _report_json(report: ScoreReport) -> str:
    """One condition, its sessions a line each."""
    rows = report.rows(per_session=False)
    head = {
        "condition": condition_json(report.condition),
        "notes": report.notes,
        "total": total_json(report),
        "speakers": {
            "count_accuracy": percent(report.rates["count_accuracy"]),
            "count_error": round(report.count_error, 9),
            "missed": report.num_missed,
            "invented": report.num_invented,
        },
        "by_num_speakers": [
            {"num_speakers": int(row.name), "num_sessions": row.num_sessions}
            | _error_json(row.error)
            | {"jer": None if row.jer is None else percent(row.jer)}
            | {"intervals": _intervals_json(row.intervals)}
            for row in rows
            if row.kind == "speakers"
        ],
        "by_overlap": {
            "silence": _error_json(added(score.silence for score in report.scores.values())),
            **{
                row.name: _error_json(row.error) | {"intervals": _intervals_json(row.intervals)}
                for row in rows
                if row.kind == "overlap"
            },
        },
    }
    lines = ",\n".join(
        "    " + dump(_session_json(name, score)) for name, score in report.scores.items()
    )
    text = "\n".join("  " + line for line in dump(head, indent=2).splitlines())
    return f'{text[:-4]},\n    "sessions": [\n{lines}\n    ]\n  }}'


def condition_json(condition: Condition) -> dict[str, Any]:
    """What was scored, with its name."""
    return {"name": condition.name, **asdict(condition)}


def total_json(report: ScoreReport) -> dict[str, Any]:
    """All sessions: seconds, percent, and intervals."""
    return {
        "num_sessions": len(report.scores),
        **_error_json(report.total),
        "jer": percent(report.rates["jer"]),
        "intervals": _intervals_json(report.intervals),
    }


def _session_json(name: str, score: SessionScore) -> dict[str, Any]:
    values = {**asdict(score)}
    for key in CLASSES:
        values[key] = {part: round(seconds, 9) for part, seconds in values[key].items()}
    values["jaccard_errors"] = {k: round(v, 12) for k, v in score.jaccard_errors.items()}
    values |= {"region": round(score.region, 9), "left_out": round(score.left_out, 9)}
    return {
        "session_id": name,
        **_error_json(score.error),
        "jer": percent(score.jer),
        **values,
    }


def _error_json(error: DiarizationError) -> dict[str, float | None]:
    """Seconds and percent, without the last digits that only tell how floats add up."""
    parts = {name: round(seconds, 9) for name, seconds in vars(error).items()}
    return {**parts, "der": percent(error.der)}


def _intervals_json(intervals: Intervals) -> dict[str, list[float | None]]:
    return {name: [percent(end) for end in ends] for name, ends in intervals.items()}


def percent(fraction: float) -> float | None:
    """As JSON has it: null where it is infinite."""
    return round(100 * fraction, 9) if math.isfinite(fraction) else None


def dump(value: Any, indent: int | None = None) -> str:
    """JSON for people and programs, without numbers that JSON does not have."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)


def _report(values: Mapping[str, Any], scored_region: str) -> ScoreReport:
    """A report as it was before it was written."""
    condition = {key: value for key, value in values["condition"].items() if key != "name"}
    scores = {line["session_id"]: _session(line) for line in values["sessions"]}
    return ScoreReport(scores, Condition(**condition), scored_region, list(values["notes"]))


def _session(line: Mapping[str, Any]) -> SessionScore:
    values: dict[str, Any] = {field.name: line[field.name] for field in fields(SessionScore)}
    values |= {name: DiarizationError(**line[name]) for name in CLASSES}
    values |= {name: tuple(line[name]) for name in ("missed_speakers", "invented_speakers")}
    return SessionScore(**values)
