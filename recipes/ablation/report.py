"""Tables of the ablation, from what its cells measured.

    python recipes/ablation/report.py [RESULTS]

Mean ± standard deviation over seeds, as Markdown. RESULTS is what ablate.py wrote; default: the
results.jsonl beside this file.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterable
from itertools import product
from pathlib import Path
from typing import Any

from ablate import ENCODERS, LOSSES, SIZES, TASKS, VARIANTS, Found, read_results

RESULTS = Path(__file__).with_name("results.jsonl")

TIME = "ms a step"
"""Of the first seed alone: later ones may run beside other work."""

AMPLE = 1024
"""Sessions from which on a model of this size does not learn them by heart."""

COLUMNS: dict[str, Callable[[Found], float]] = {
    "train loss": lambda c: c["train"]["permutation_invariant_loss"],
    "dev loss": lambda c: c["dev"]["permutation_invariant_loss"],
    "gap": lambda c: gap(c),
    "DER seen": lambda c: c["test_seen"]["der"],
    "DER unseen": lambda c: c["test_unseen"]["der"],
    "arrival": lambda c: 100 * c["test_unseen"]["arrival"],
    "count": lambda c: 100 * c["test_unseen"]["count"],
    "parameters": lambda c: c["parameters"],
    TIME: lambda c: 1000 * c["seconds_per_step"],
}
DIGITS = {"train loss": 3, "dev loss": 3, "gap": 3, "parameters": 0, TIME: 0}


def gap(cell: Found) -> float:
    """How much higher the loss is on sessions and classes that were not trained on."""
    losses = [cell[split]["permutation_invariant_loss"] for split in ("dev", "train")]
    return float(losses[0] - losses[1])


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
    """Tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?", default=RESULTS)
    results = read_results(parser.parse_args().results)
    lines = [line for key in ("size", "task", "loss") for line in against_plain(results, key)]
    ample = [cell for cell in results if cell["size"] >= AMPLE]
    lines += [
        f"\nThe same where there are {AMPLE} sessions and more:",
        *against_plain(ample, "loss"),
    ]
    print("\n".join([*lines, *by_loss(results), *tables(results)]))
    return 0


def against_plain(results: list[Found], key: str) -> list[str]:
    """How often, and by how much, an encoder does better than the plain one in the same place."""
    head = [key, "encoder", "pairs", "lower gap", "lower DER", "median", "mean", "all seeds"]
    lines = ["", f"**Against plain, of the same loss, size and seed, by {key}**", ""]
    lines += [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    values = [*{"task": TASKS, "size": SIZES, "loss": LOSSES}[key], "all"]
    for encoder, value in product(("sinusoidal", "learned", "supervised"), values):
        places: dict[tuple[Any, ...], list[tuple[float, float]]] = {}
        for cell in chosen(results, encoder=encoder):
            if value not in (cell[key], "all"):
                continue
            place = {name: cell[name] for name in ("task", "loss", "size")}
            for plain in chosen(results, encoder="plain", seed=cell["seed"], **place):
                ders = [of["test_unseen"]["der"] for of in (cell, plain)]
                differ = (ders[0] - ders[1], gap(cell) - gap(plain))
                places.setdefault(tuple(place.values()), []).append(differ)
        pairs = [pair for found in places.values() for pair in found]
        if pairs:
            ders = [der for der, _ in pairs]
            agreed = sum(all(der < 0 for der, _ in found) for found in places.values())
            counted = [len(pairs), sum(gaps < 0 for _, gaps in pairs), sum(der < 0 for der in ders)]
            error = f" ± {statistics.stdev(ders) / len(ders) ** 0.5:.1f}" if len(ders) > 1 else ""
            middles = [f"{statistics.median(ders):+.1f}", f"{statistics.mean(ders):+.1f}{error}"]
            told = str(value).replace("_", "-")
            row = [told, encoder, *counted, *middles, f"{agreed} of {len(places)}"]
            lines.append(f"| {' | '.join(map(str, row))} |")
    return lines


def by_loss(results: list[Found]) -> list[str]:
    """Means over the cells of the grid, whatever their encoder, size and seed."""
    head = [
        "task",
        *(f"{loss.replace('_', '-')} {of}" for of in ("DER", "arrival") for loss in LOSSES),
    ]
    lines = ["", "**Losses: DER unseen, and arrival**", "", f"| {' | '.join(head)} |"]
    lines.append("|" + "---|" * len(head))
    grid = [cell for cell in results if cell["encoder"] in ENCODERS]
    for task in TASKS:
        row = [task]
        for column, loss in product(("DER unseen", "arrival"), LOSSES):
            values = [COLUMNS[column](cell) for cell in chosen(grid, task=task, loss=loss)]
            row.append(f"{statistics.mean(values):.1f}" if values else "")
        lines.append(f"| {' | '.join(row)} |")
    return lines


def tables(results: list[Found]) -> list[str]:
    """A table for each task and loss, and one of what was tried beside."""
    lines = []
    for task, loss in product(TASKS, LOSSES):
        cells = chosen(results, task=task, loss=loss)
        if cells:
            lines += ["", f"**{task}, {loss.replace('_', '-')} loss**", ""]
            lines += table(cells, ["size", "encoder"], product(SIZES, (*ENCODERS, "supervised")))
    beside = chosen(results, task="set", loss="hybrid", size=1024)
    if {cell["encoder"] for cell in beside} > {*ENCODERS, "supervised"}:
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
            first = [min(found, key=lambda cell: int(cell["seed"]))]
            told = [
                spread(
                    [of(cell) for cell in (first if name == TIME else found)], DIGITS.get(name, 1)
                )
                for name, of in COLUMNS.items()
            ]
            lines.append(f"| {' | '.join([*map(str, row), *told, str(len(found))])} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
