"""Scores under one or several conditions with their passport, as text, Markdown, CSV and JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from diarize.errors import ScoreError
from diarize.score.condition import Condition
from diarize.score.error import DiarizationError, SessionScore
from diarize.score.explain import explain
from diarize.score.passport import Passport
from diarize.score.report import OVERLAP, Intervals, Row, ScoreReport, added
from diarize.score.resample import ENDS, NUM_DRAWS, SEED
from diarize.score.table import Cell, Column, Table

FORMAT = "diarize score 1"
"""What a file of results says that it is."""

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
        passport = self.passport
        origin: list[Cell] = [
            passport.scored_region,
            None if passport.region is None else passport.region.sha256,
            passport.reference.sha256,
            passport.hypothesis.sha256,
            f"diarize {passport.environment['packages']['diarize']}",
        ]
        rows: list[list[Cell]] = []
        for report in self.reports:
            condition = report.condition
            head: list[Cell] = [
                condition.name,
                condition.collar,
                str(condition.skip_overlap),
                condition.rules,
            ]
            for row in report.rows():
                rows.append([*head, *_csv_cells(row, report), *origin])
        return Table(CSV_COLUMNS, rows).to_csv()

    def to_json(self) -> str:
        """All of it: seconds, and rates in percent (null where infinite). A line a session."""
        head = {
            "format": FORMAT,
            "passport": self.passport.to_dict(),
            "bootstrap": {"over": "sessions", "draws": NUM_DRAWS, "seed": SEED, "ends": ENDS},
        }
        blocks = ",\n".join(_report_json(report) for report in self.reports)
        return f'{_dump(head, indent=2)[:-2]},\n  "results": [\n{blocks}\n  ]\n}}\n'

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


CSV_COLUMNS = tuple(
    Column(name)
    for name in (
        "condition", "collar", "skip_overlap", "rules", "kind", "name", "num_sessions", "scored",
        "miss", "false_alarm", "confusion", "der", "der_low", "der_high", "jer", "jer_low",
        "jer_high", "num_reference_speakers", "num_hypothesis_speakers", "missed_speakers",
        "invented_speakers", "scored_region", "region_sha256", "reference_sha256",
        "hypothesis_sha256", "tool",
    )
)  # fmt: skip


def _csv_cells(row: Row, report: ScoreReport) -> list[Cell]:
    error = row.error
    speakers: list[Cell] = [None] * 4
    if row.kind == "session":
        score = report.scores[row.name]
        speakers = [score.num_reference_speakers, score.num_hypothesis_speakers]
        speakers += [len(score.missed_speakers), len(score.invented_speakers)]
    if row.kind == "total":
        scores = report.scores.values()
        speakers = [
            sum(score.num_reference_speakers for score in scores),
            sum(score.num_hypothesis_speakers for score in scores),
            report.num_missed,
            report.num_invented,
        ]

    def ends(rate: str) -> list[Cell]:
        return [100 * end for end in row.intervals.get(rate, ())] or [None, None]

    jer = None if row.jer is None else 100 * row.jer
    seconds = [error.scored, error.miss, error.false_alarm, error.confusion]
    return [
        row.kind, row.name, row.num_sessions, *seconds, 100 * error.der, *ends("der"), jer,
        *ends("jer"), *speakers,
    ]  # fmt: skip


def _report_json(report: ScoreReport) -> str:
    """One condition, its sessions a line each."""
    condition = report.condition
    rows = report.rows(per_session=False)
    head = {
        "condition": {"name": condition.name, **asdict(condition)},
        "notes": report.notes,
        "total": {
            "num_sessions": len(report.scores),
            **_error_json(report.total),
            "jer": _percent(report.rates["jer"]),
            "intervals": _intervals_json(report.intervals),
        },
        "speakers": {
            "count_accuracy": _percent(report.rates["count_accuracy"]),
            "count_error": round(report.count_error, 9),
            "missed": report.num_missed,
            "invented": report.num_invented,
        },
        "by_num_speakers": [
            {"num_speakers": int(row.name), "num_sessions": row.num_sessions}
            | _error_json(row.error)
            | {"jer": None if row.jer is None else _percent(row.jer)}
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
        "    " + _dump(_session_json(name, score)) for name, score in report.scores.items()
    )
    text = "\n".join("  " + line for line in _dump(head, indent=2).splitlines())
    return f'{text[:-4]},\n    "sessions": [\n{lines}\n    ]\n  }}'


def _session_json(name: str, score: SessionScore) -> dict[str, Any]:
    values = {**asdict(score)}
    for key in CLASSES:
        values[key] = {part: round(seconds, 9) for part, seconds in values[key].items()}
    values["jaccard_errors"] = {k: round(v, 12) for k, v in score.jaccard_errors.items()}
    values |= {"region": round(score.region, 9), "left_out": round(score.left_out, 9)}
    return {
        "session_id": name,
        **_error_json(score.error),
        "jer": _percent(score.jer),
        **values,
    }


def _error_json(error: DiarizationError) -> dict[str, float | None]:
    """Seconds and percent, without the last digits that only tell how floats add up."""
    parts = {name: round(seconds, 9) for name, seconds in vars(error).items()}
    return {**parts, "der": _percent(error.der)}


def _intervals_json(intervals: Intervals) -> dict[str, list[float | None]]:
    return {name: [_percent(end) for end in ends] for name, ends in intervals.items()}


def _percent(fraction: float) -> float | None:
    return round(100 * fraction, 9) if math.isfinite(fraction) else None


def _dump(value: Any, indent: int | None = None) -> str:
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
