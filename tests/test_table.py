"""Tables: what is read by people, by pages and by programs."""

import csv
import io
import math

from diarize.score.table import Column, Table

TABLE = Table(
    (Column("name"), Column("DER %", 2, 8), Column("n", 0)),
    [["a|b", 12.3456, 3], ["meeting", math.inf, None]],
)


def test_text_stands_in_columns() -> None:
    assert TABLE.to_text() == (
        "name        DER %  n\n"
        "a|b         12.35  3\n"
        "meeting       inf  -\n"
    )  # fmt: skip


def test_markdown_escapes_its_bars() -> None:
    assert TABLE.to_markdown() == (
        "| name | DER % | n |\n"
        "| --- | ---: | ---: |\n"
        "| a\\|b | 12.35 | 3 |\n"
        "| meeting | inf | - |\n"
    )  # fmt: skip


def test_csv_has_all_digits_and_nothing_for_what_is_not_known() -> None:
    assert list(csv.reader(io.StringIO(TABLE.to_csv()))) == [
        ["name", "DER %", "n"],
        ["a|b", "12.3456", "3"],
        ["meeting", "", ""],
    ]
    quoted = Table((Column("x"),), [["a,b"]]).to_csv()
    assert list(csv.reader(io.StringIO(quoted))) == [["x"], ["a,b"]]
