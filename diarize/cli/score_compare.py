"""``diarize score compare``: results of several systems in one table."""

import argparse
from pathlib import Path

from diarize.cli.formats import TABLES, add_tables, check_tables, write_tables
from diarize.errors import ScoreError


def add_score_compare(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "score compare",
        help="put results of several systems in one table, with paired intervals",
        description="Put stored results of several systems on the same sessions in one table, "
        "each compared with the first: difference of DER with its 95 % interval, by a bootstrap "
        "that draws the same sessions for both. Results that were scored against other "
        "references, in other regions, by other rules or under other conditions are refused.",
    )
    parser.add_argument(
        "results", metavar="RESULTS", nargs="+", type=Path,
        help="what `diarize score --format json` wrote, the system to compare with first",
    )  # fmt: skip
    parser.add_argument(
        "--allow-different", action="store_true",
        help="compare whatever passports say, and tell above the table in what they differ",
    )  # fmt: skip
    add_tables(parser, TABLES)
    parser.set_defaults(run=run_score_compare, refuse=parser.error)
    return parser


def run_score_compare(args: argparse.Namespace) -> int:
    """Print or write the table."""
    from diarize.files import lines_of, read_bytes
    from diarize.score.compare import compare
    from diarize.score.results import Results

    check_tables(args)
    found = {}
    for path, name in zip(args.results, _names(args.results), strict=True):
        text = "\n".join(lines_of(read_bytes(path, ScoreError), path, ScoreError))
        found[name] = Results.from_json(text, str(path))
    comparison = compare(found, args.allow_different)
    write_tables(
        {
            "text": comparison.to_text,
            "markdown": comparison.to_markdown,
            "csv": comparison.to_csv,
            "json": comparison.to_json,
        },
        args,
    )
    return 0


def _names(paths: list[Path]) -> list[str]:
    """What systems are called: by their files, or by their paths where these are called alike."""
    names = [path.stem for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]
