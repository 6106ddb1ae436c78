"""Rows under headings, as text in columns, as Markdown and as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Cell = str | float | None


class Column(NamedTuple):
    """A heading, and how what stands below it is written.

    Attributes:
        name: the heading.
        decimals: of numbers; None for text.
        width: least number of characters.
    """

    name: str
    decimals: int | None = None
    width: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells; what is not known is None.

    Attributes:
        columns: from left to right.
        rows: a cell for each column.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]

    @classmethod
    def of_lines(cls, lines: Sequence[Mapping[str, Cell]]) -> "Table":
        """A line each, by the names of its columns; all have those of the first."""
        return cls([Column(name) for name in lines[0]], [list(line.values()) for line in lines])

    def to_text(self) -> str:
        """In columns two spaces apart, text to the left and numbers to the right."""
        lines = self._written()
        least = [column.width for column in self.columns]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        widths = [max(pair) for pair in zip(widths, least, strict=True)]
        text = [column.decimals is None for column in self.columns]
        padded = (
            "  ".join(
                cell.ljust(width) if left else cell.rjust(width)
                for cell, width, left in zip(line, widths, text, strict=True)
            )
            for line in lines
        )
        return "".join(line.rstrip() + "\n" for line in padded)

    def to_markdown(self) -> str:
        """With bars between cells, and those within cells escaped."""
        heading, *rows = ([c.replace("|", "\\|") for c in line] for line in self._written())
        rule = ["---" if column.decimals is None else "---:" for column in self.columns]
        return "".join(f"| {' | '.join(line)} |\n" for line in (heading, rule, *rows))

    def to_csv(self) -> str:
        """With all digits; nothing stands for None and for what is infinite."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(column.name for column in self.columns)
        writer.writerows([_plain(cell) for cell in row] for row in self.rows)
        return text.getvalue()

    def _written(self) -> list[list[str]]:
        """Headings and rows as they are read by people."""
        rows = [
            [_shown(cell, column.decimals) for cell, column in zip(row, self.columns, strict=True)]
            for row in self.rows
        ]
        return [[column.name for column in self.columns], *rows]


def _shown(cell: Cell, decimals: int | None) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:.{decimals or 0}f}"


def _plain(cell: Cell) -> Cell:
    if isinstance(cell, float):
        return round(cell, 9) if math.isfinite(cell) else None
    return cell
