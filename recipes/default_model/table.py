"""Scores of several sets as one Markdown table.

    python recipes/default_model/table.py SCORES.json...

A file is what ``diarize score --condition full,fair --format json`` wrote; its name is the row's.
Hours are those that were scored. False alarm is also told in seconds an hour, which says something
where nobody speaks; there, ``off by`` is how many speakers were invented in a session.
"""

import sys
from pathlib import Path

from diarize.errors import DiarizeError, ScoreError
from diarize.files import read_lines
from diarize.score.report import ScoreReport
from diarize.score.results import Results
from diarize.score.table import Cell, Column, Table

COLUMNS = (
    Column("set"),
    Column("sessions", 0),
    Column("hours", 2),
    Column("DER % (95 %)"),
    Column("with collar 0.25 s"),
    Column("miss %", 2),
    Column("false alarm %", 2),
    Column("confusion %", 2),
    Column("false alarm s/h", 1),
    Column("number of speakers right %", 1),
    Column("off by", 2),
)


def rate(report: ScoreReport) -> str:
    """DER and between what 95 % of resampled sets have it, percent."""
    if not report.total.scored:
        return "-"
    der, ends = f"{100 * report.total.der:.2f}", report.intervals.get("der")
    return f"{der} ({100 * ends[0]:.1f}-{100 * ends[1]:.1f})" if ends else der


def cells(name: str, results: Results) -> list[Cell]:
    """A set's row.

    Raises:
        ScoreError: if it was not scored under both conditions.
    """
    found = {report.condition.name: report for report in results.reports}
    if not {"full", "fair"} <= found.keys():
        raise ScoreError(
            f"{name}: was scored under {', '.join(found)}, but the table has full and fair. "
            "Score again with --condition full,fair."
        )
    full = found["full"]
    hours = sum(score.region for score in full.scores.values()) / 3600
    parts = ("miss", "false_alarm", "confusion")
    return [
        name,
        len(full.scores),
        hours,
        rate(full),
        rate(found["fair"]),
        *(100 * full.rates[part] if full.total.scored else None for part in parts),
        full.total.false_alarm / hours if hours else None,
        100 * full.rates["count_accuracy"],
        full.count_error,
    ]


def main() -> int:
    """Print the table."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    try:
        files = ((path, "\n".join(read_lines(path, ScoreError))) for path in paths)
        rows = [cells(path.stem, Results.from_json(text, str(path))) for path, text in files]
    except DiarizeError as error:
        print(f"table.py: {error}", file=sys.stderr)
        return 1
    print(Table(COLUMNS, rows).to_markdown(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
