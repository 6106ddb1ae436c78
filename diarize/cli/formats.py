"""Formats that a verb may be asked for, several with commas, and where they go."""

import argparse
import sys
from collections.abc import Callable, Collection, Mapping
from pathlib import Path


def some_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """What reads names with commas between them, each one of those that are known."""

    def read(value: str) -> tuple[str, ...]:
        names = tuple(dict.fromkeys(value.split(",")))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
        return names

    return read


TABLES = {"text": ".txt", "markdown": ".md", "csv": ".csv", "json": ".json"}
"""Formats of tables, with the endings of their files."""


def add_tables(parser: argparse.ArgumentParser, known: Collection[str]) -> None:
    """Declare which formats of `TABLES`, and where they go."""
    parser.add_argument(
        "--format", metavar="|".join(known), type=some_of(known), default=("text",),
        help="what to write, several with commas; default: text",
    )  # fmt: skip
    endings = ", ".join(TABLES[name] for name in known)
    parser.add_argument(
        "--output", metavar="PATH", default="-",
        help=f"a file per format, PATH with {endings} behind; default: standard output, of one",
    )  # fmt: skip


def write_tables(texts: Mapping[str, Callable[[], str]], args: argparse.Namespace) -> None:
    """Write what was asked, each file whole or not at all."""
    from diarize.files import write_text

    for name in args.format:
        text = texts[name]()
        if args.output == "-":
            sys.stdout.write(text)
        else:
            write_text(Path(args.output + TABLES[name]), text)


def check_tables(args: argparse.Namespace) -> None:
    """See that what is asked can go where it should."""
    if args.output == "-" and len(args.format) > 1:
        args.refuse("standard output holds one format; give --output PATH for several")
