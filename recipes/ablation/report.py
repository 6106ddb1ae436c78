"""Tables of the ablation, from what its cells measured.

    python recipes/ablation/report.py collect OUTPUT    cells of OUTPUT join results.jsonl
    python recipes/ablation/report.py tables            results.jsonl as Markdown

A cell is one line of results.jsonl, beside this file; tables give mean ± standard deviation over
seeds.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

from ablate import ENCODERS, LOSSES, SIZES, TASKS, VARIANTS

from diarize.files import write_text

RESULTS = Path(__file__).with_name("results.jsonl")
KEY = ("task", "encoder", "loss", "size", "seed")

Found = dict[str, Any]

COLUMNS: dict[str, Callable[[Found], float]] = {
    "train loss": lambda c: c["train"]["permutation_invariant_loss"],
    "dev loss": lambda c: c["dev"]["permutation_invariant_loss"],
    "gap": lambda c: gap(c),
    "DER seen": lambda c: c["test_seen"]["der"],
    "DER unseen": lambda c: c["test_unseen"]["der"],
    "arrival": lambda c: 100 * c["test_unseen"]["arrival"],
    "count": lambda c: 100 * c["test_unseen"]["count"],
    "parameters": lambda c: c["parameters"],
    "ms a step": lambda c: 1000 * c["seconds_per_step"],
}
DIGITS = {"train loss": 3, "dev loss": 3, "gap": 3, "parameters": 0, "ms a step": 0}


def gap(cell: Found) -> float:
    """How much higher the loss is on sessions and classes that were not trained on."""
    losses = [cell[split]["permutation_invariant_loss"] for split in ("dev", "train")]
    return float(losses[0] - losses[1])


def read_results() -> list[Found]:
    """Every cell that was collected."""
    if not RESULTS.exists():
        return []
    return [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]


def chosen(results: Iterable[Found], **wanted: Any) -> list[Found]:
    """The cells that have these values, one a seed."""
    return [c for c in results if all(c[key] == value for key, value in wanted.items())]


def spread(values: list[float], digits: int = 1) -> str:
    """Mean ± standard deviation."""
    if not values:
        return ""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}"


def main() -> int:
    """Collect, or tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("collect").add_argument("output", type=Path)
    verbs.add_parser("tables")
    args = parser.parse_args()
    if args.verb == "collect":
        files = sorted((args.output / "cells").glob("*.json"))
        found = [json.loads(path.read_text(encoding="utf-8")) for path in files]
        by_key = {tuple(cell[key] for key in KEY): cell for cell in [*read_results(), *found]}
        lines = [json.dumps(by_key[key]) + "\n" for key in sorted(by_key)]
        write_text(RESULTS, "".join(lines))
        print(f"{RESULTS}: {len(lines)} cells", file=sys.stderr)
    else:
        print("\n".join(tables(read_results())))
    return 0


def tables(results: list[Found]) -> list[str]:
    """A table for each task and loss, and one of what was tried beside."""
    lines = []
    for task, loss in product(TASKS, LOSSES):
        cells = chosen(results, task=task, loss=loss)
        if cells:
            lines += ["", f"**{task}, {loss.replace('_', '-')} loss**", ""]
            lines += table(cells, ["size", "encoder"], product(SIZES, (*ENCODERS, "supervised")))
    beside = [c for c in results if c["encoder"] in VARIANTS and c["size"] == 1024]
    beside = [c for c in chosen(results, task="set", loss="hybrid", size=1024)] if beside else []
    if beside:
        lines += ["", "**set, hybrid loss, 1024 sessions: what was tried beside**", ""]
        lines += table(beside, ["encoder"], ((name,) for name in (*ENCODERS, *VARIANTS)))
    return lines


def table(cells: list[Found], keys: list[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    """A row for each combination of values that has a cell."""
    lines = [f"| {' | '.join([*keys, *COLUMNS, 'seeds'])} |"]
    lines.append("|" + "---|" * (len(keys) + len(COLUMNS) + 1))
    for row in rows:
        found = chosen(cells, **dict(zip(keys, row, strict=True)))
        if found:
            told = [
                spread([of(cell) for cell in found], DIGITS.get(name, 1))
                for name, of in COLUMNS.items()
            ]
            lines.append(f"| {' | '.join([*map(str, row), *told, str(len(found))])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
