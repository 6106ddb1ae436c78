"""What benchmarks share: rows as a Markdown table, and in a JSON file with what they ran on.

A file holds the tables of several scripts, each with its rows as numbers, the command, versions,
commit, machine and load; a table that is measured again takes the place of the one before.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Found = dict[str, float]
"""What one process measured."""


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option that all of them have."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the rows there as well")


class Report:
    """A table that grows.

    Args:
        name: of the table in the file.
        columns: heading and format of each cell, as ``{"seconds": ".3f"}``; "" is as it is.
        file: where to keep the rows; None prints alone.
    """

    def __init__(self, name: str, columns: Mapping[str, str], file: Path | None = None) -> None:
        self._name, self._columns, self._file = name, columns, file
        self._rows: list[dict[str, Any]] = []
        self._load = os.getloadavg()
        print(f"| {' | '.join(columns)} |")
        print(f"|{'---|' * len(columns)}", flush=True)

    def add(self, row: Mapping[str, Any]) -> None:
        """Print a row, and keep it; cells that it lacks are empty, others are kept alone."""
        cells = []
        for heading, form in self._columns.items():
            value = row.get(heading)
            cells.append("" if value is None else format(value, form))
        print(f"| {' | '.join(cells)} |", flush=True)
        self._rows.append(dict(row))
        if self._file is not None:
            self._keep(self._file)

    def _keep(self, file: Path) -> None:
        from diarize.environment import environment
        from diarize.files import write_text

        tables = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        tables[self._name] = {
            **environment(),
            "processor": processor(),
            "load_before": self._load,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "rows": self._rows,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(tables, indent=1) + "\n")


def processor() -> str:
    """Its name, family and model, where Linux tells them."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    told: dict[str, str] = {}
    for key, _, value in lines:
        told.setdefault(key.strip(), value.strip())
    parts = [told.get("model name", "")]
    parts += [f"{key} {told[key]}" for key in ("cpu family", "model") if key in told]
    return ", ".join(part for part in parts if part)


def in_turns(
    ours: Callable[[], Found], theirs: Callable[[], Found], rounds: int = 2
) -> tuple[Found, Found]:
    """Both, one after the other, so often: means of what each measured, peaks the largest.

    The machine's speed varies, so that only what was measured in turns can be compared.
    """
    found: tuple[list[Found], list[Found]] = [], []
    for _ in range(rounds):
        for whose, measure in zip(found, (ours, theirs), strict=True):
            whose.append(measure())
    return mean(found[0]), mean(found[1])


def mean(found: list[Found]) -> Found:
    """Of each number; of peaks the largest."""
    return {
        key: max(each[key] for each in found)
        if key == "peak"
        else sum(each[key] for each in found) / len(found)
        for key in found[0]
    }
