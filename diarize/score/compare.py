"""Several systems on the same sessions: results side by side, differences with their intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from diarize.errors import ScoreError
from diarize.score.condition import Condition
from diarize.score.report import (
    ERROR_COLUMNS,
    INTERVAL_COLUMNS,
    PARTS,
    ScoreReport,
    counted,
    rates,
)
from diarize.score.resample import NUM_DRAWS, SEED, interval, resample
from diarize.score.results import (
    BOOTSTRAP,
    Results,
    condition_json,
    csv_line,
    dump,
    percent,
    total_json,
)
from diarize.score.table import Cell, Column, Table

FORMAT = "diarize score compare 1"
"""What a file of them side by side says that it is."""


@dataclass(frozen=True)
class Difference:
    """By how much a system's DER is above another's, on the same sessions.

    Attributes:
        der: a fraction; below 0 where it is better.
        low: of the 95 % interval, from draws that are the same for both.
        high: likewise.
        num_better: sessions whose DER is lower.
        num_worse: sessions whose DER is higher.
    """

    der: float
    low: float
    high: float
    num_better: int
    num_worse: int


def difference(system: ScoreReport, other: ScoreReport) -> Difference | None:
    """How a system differs from another; None where they have other sessions, or a single one."""
    if system.scores.keys() != other.scores.keys() or len(system.scores) < 2:
        return None
    order = [list(system.scores).index(name) for name in other.scores]
    here, there = system.sums[order], other.sums
    draws = np.split(resample(np.concatenate([here, there], axis=1)), [len(PARTS)], axis=1)
    with np.errstate(invalid="ignore"):  # where both are infinite
        low, high = interval(np.nan_to_num(rates(draws[0])["der"] - rates(draws[1])["der"]))
        each = np.nan_to_num(rates(here)["der"] - rates(there)["der"])
    return Difference(
        system.total.der - other.total.der,
        low,
        high,
        num_better=int((each < 0).sum()),
        num_worse=int((each > 0).sum()),
    )


class System(NamedTuple):
    """A system under one condition.

    Attributes:
        name: what it is called.
        report: its scores.
        difference: from the first system; None for that one, and where none can be told.
    """

    name: str
    report: ScoreReport
    difference: Difference | None


@dataclass(frozen=True)
class Comparison:
    """Results of several systems that may stand in one table.

    Attributes:
        results: name -> what a system scored.
        different: in what their passports differ that should not.
    """

    results: dict[str, Results]
    different: list[str]

    @cached_property
    def systems(self) -> dict[Condition, list[System]]:
        """Condition -> the systems that were scored under it, each beside the first of them."""
        found: dict[Condition, list[System]] = {}
        for name, results in self.results.items():
            for report in results.reports:
                others = found.setdefault(report.condition, [])
                apart = difference(report, others[0].report) if others else None
                others.append(System(name, report, apart))
        return found

    def tables(self) -> dict[Condition, Table]:
        """Condition -> a line for each system that was scored under it."""
        return {
            condition: Table(COLUMNS, [_cells(system) for system in systems])
            for condition, systems in self.systems.items()
        }

    def lines(self) -> list[str]:
        """What is true of all tables: the sides, differences of passports, draws."""
        first, *others = (results.passport for results in self.results.values())
        lines = [f"different: {line}" for line in self.different]
        lines.append(f"reference: {first.reference.in_words()}; {first.scored_region}")
        for name, results in self.results.items():
            side = results.passport.hypothesis
            lines += [f"{name}: {line}" for line in (side.in_words(), *side.makers())]
        sessions = counted(min(p.num_sessions for p in (first, *others)), "session")
        return [
            *lines,
            f"differences: from {next(iter(self.results))}; 95 % intervals by bootstrap over "
            f"{sessions}, {NUM_DRAWS} draws that are the same for both, seed {SEED}",
        ]

    def to_text(self) -> str:
        """A table for each condition."""
        blocks = ["".join(f"{line}\n" for line in self.lines())]
        for condition, table in self.tables().items():
            blocks.append(f"condition: {condition}\n{table.to_text()}")
        return "\n".join(blocks)

    def to_markdown(self) -> str:
        """The same for a page."""
        blocks = []
        for condition, table in self.tables().items():
            blocks += [f"**{condition}**\n", table.to_markdown()]
        return "\n".join([*blocks, "".join(f"- {line}\n" for line in self.lines())])

    def to_csv(self) -> str:
        """A line for each system and condition, as for totals of scores; seconds and percent.

        A column says in what passports differ.
        """
        different = "; ".join(self.different) or None
        lines: list[dict[str, Cell]] = []
        for system in (system for systems in self.systems.values() for system in systems):
            total = system.report.rows(per_session=False)[-1]
            line = csv_line(total, system.report, self.results[system.name].passport)
            del line["kind"], line["name"]
            apart = zip(DIFFERENCE, _difference_cells(system.difference), strict=True)
            lines.append({"system": system.name, **line, **dict(apart), "different": different})
        return Table.of_lines(lines).to_csv()

    def to_json(self) -> str:
        """All of it: passports, and the totals of each system; seconds and percent."""
        passports = {name: results.passport for name, results in self.results.items()}
        values = {
            "format": FORMAT,
            "differences_from": next(iter(passports)),
            "different": self.different,
            "bootstrap": BOOTSTRAP,
            "passports": {name: passport.to_dict() for name, passport in passports.items()},
            "results": [
                {
                    "condition": condition_json(condition),
                    "systems": [_system_json(system) for system in systems],
                }
                for condition, systems in self.systems.items()
            ],
        }
        return dump(values, indent=2) + "\n"


def compare(results: Mapping[str, Results], allow_different: bool = False) -> Comparison:
    """See that results may stand in one table.

    Args:
        results: name -> what a system scored; the first is what others are compared with.
        allow_different: put them in one table whatever their passports say.

    Raises:
        ScoreError: if passports differ in references, scored region, rules or conditions.
    """
    names = list(results)
    different = []
    for name in names[1:]:
        lines = _differences(results[names[0]], results[name])
        if lines and not allow_different:
            raise ScoreError(
                f"{name}: {'; '.join(lines)} as in {names[0]}, but results in one table must "
                "agree in that. Score again alike, or add --allow-different, which tells it above "
                "the table."
            )
        different += [f"{name} has {line} as in {names[0]}" for line in lines]
    return Comparison(dict(results), different)


def _differences(first: Results, other: Results) -> list[str]:
    lines = other.passport.differences(first.passport)
    rules, conditions = zip(*(_conditions(results) for results in (other, first)), strict=True)
    for what, (here, there) in (("rules", rules), ("conditions", conditions)):
        if here != there:
            lines.append(f"{what}: {', '.join(here)}, not {', '.join(there)}")
    return lines


def _conditions(results: Results) -> tuple[list[str], list[str]]:
    """Whose rules were followed, and what was scored."""
    conditions = [report.condition for report in results.reports]
    rules = sorted({condition.rules for condition in conditions})
    scored = sorted(
        f"{c.name} (collar {c.collar:g} s, overlap {'skipped' if c.skip_overlap else 'scored'})"
        for c in conditions
    )
    return rules, scored


COLUMNS = (
    Column("system"),
    *ERROR_COLUMNS,
    *INTERVAL_COLUMNS,
    Column("JER %", 2, 8),
    Column("difference", 2),
    Column("diff. low", 2),
    Column("diff. high", 2),
    Column("better in", 0),
    Column("worse in", 0),
)


DIFFERENCE = ("difference", "difference_low", "difference_high", "num_better", "num_worse")
"""Columns of CSV for what the last five of the table are."""


def _cells(system: System) -> list[Cell]:
    """A system under one condition, and how it differs from the first one that was."""
    report = system.report
    values = report.rates
    ends: list[Cell] = [100 * end for end in report.intervals.get("der", ())] or [None, None]
    shares = [100 * values[rate] for rate in ("miss", "false_alarm", "confusion", "der")]
    apart = _difference_cells(system.difference)
    return [system.name, report.total.scored, *shares, *ends, 100 * values["jer"], *apart]


def _difference_cells(found: Difference | None) -> list[Cell]:
    if found is None:
        return [None] * len(DIFFERENCE)
    points = [100 * found.der, 100 * found.low, 100 * found.high]
    return [*points, found.num_better, found.num_worse]


def _system_json(system: System) -> dict[str, Any]:
    found, apart = system.difference, None
    if found is not None:
        apart = {name: percent(getattr(found, name)) for name in ("der", "low", "high")}
        apart |= {"num_better": found.num_better, "num_worse": found.num_worse}
    return {"system": system.name, **total_json(system.report), "difference": apart}
