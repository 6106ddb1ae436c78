"""``diarize score``: how well hypotheses say who spoke when."""

import argparse
from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diarize.cli.formats import TABLES, add_tables, check_tables, some_of, write_tables
from diarize.cli.record import find_records
from diarize.cli.references import Regions, read_regions, read_side

if TYPE_CHECKING:
    from diarize.score import Condition

CONDITIONS = ("full", "fair", "forgiving")
RULES = ("md-eval", "pyannote")


def add_score(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "score",
        help="compare turns with a reference: diarization error rate and its parts",
        description="Compare turns with a reference: miss, false alarm, confusion and the "
        "diarization error rate (DER), Jaccard error rate (JER) and speaker counts, per session "
        "and in total, with 95 % bootstrap intervals over sessions. REF and HYP are RTTM files, "
        "folders of them, JSON of `diarize infer`, or manifests that name RTTM files; HYP may be "
        "- for standard input.",
        epilog="Conditions: full is collar 0, overlap scored; fair is collar 0.25 s; forgiving "
        "is collar 0.25 s, overlap skipped. `diarize score compare` puts results in one table.",
    )
    parser.add_argument("reference", metavar="REF", help="who spoke when in truth")
    parser.add_argument("hypothesis", metavar="HYP", help="who spoke when by a system")
    parser.add_argument(
        "--uem", metavar="PATH", type=Path,
        help="scored regions, a file or a folder, within the spans of a REF manifest; default: "
        "what a REF manifest says, else the stretch from the first to the last turn of both sides",
    )  # fmt: skip
    parser.add_argument(
        "--condition", metavar="|".join(CONDITIONS), type=some_of(CONDITIONS),
        help="what is scored, several with commas; default: full, or what --collar and "
        "--skip-overlap say",
    )  # fmt: skip
    parser.add_argument(
        "--collar", metavar="S", type=float,
        help="seconds on each side of a reference boundary that are not scored (NIST; half of "
        "pyannote's); hides errors where they are most frequent; default 0",
    )  # fmt: skip
    parser.add_argument(
        "--skip-overlap", action="store_true", help="leave out where two or more speak"
    )
    parser.add_argument(
        "--rules", metavar="|".join(RULES), choices=RULES, default=RULES[0],
        help="whose rules decide how speakers are mapped, and how one who overlaps himself or "
        "herself counts; default: md-eval, as in published tables",
    )  # fmt: skip
    parser.add_argument("--per-session", action="store_true", help="a line for each session")
    parser.add_argument(
        "--explain", action="store_true",
        help="say in words, above each table, what was and was not counted",
    )  # fmt: skip
    parser.add_argument(
        "--allow-missing", action="store_true",
        help="count a session that one side lacks as all missed, or all false alarm",
    )  # fmt: skip
    add_tables(parser, TABLES)
    parser.set_defaults(run=run_score, refuse=parser.error)
    return parser


def run_score(args: argparse.Namespace) -> int:
    """Print or write the scores under every condition, with what produced them."""
    from diarize.environment import environment
    from diarize.score import pair, score_pairs
    from diarize.score.passport import Passport, Source, digest, digest_regions
    from diarize.score.results import Results

    check_tables(args)
    conditions = _conditions(args)
    references = read_side(args.reference)
    hypotheses = read_side(args.hypothesis, references.sessions)
    regions = read_regions(args.uem, args.reference, hypotheses.sessions)
    made_by, changed = find_records(hypotheses.files)
    pairing = pair(references.sessions, hypotheses.sessions, regions.sessions, args.allow_missing)
    told = [
        *_passed_over("reference", references.passed_over),
        *_passed_over("hypothesis", hypotheses.passed_over),
        *_differing_channels(regions, pairing.references),
        *changed,
    ]
    pairing = replace(pairing, notes=[*told, *pairing.notes])
    reports = [score_pairs(pairing, condition) for condition in conditions]
    region = None
    if regions.sessions is not None:
        place = args.reference if args.uem is None else str(args.uem)
        region = Source(place, digest_regions(pairing.regions), regions.files)
    passport = Passport(
        Source(args.reference, digest(pairing.references), references.files),
        Source(
            args.hypothesis,
            digest(pairing.hypotheses),
            hypotheses.files,
            [*hypotheses.made_by, *made_by],
        ),
        region,
        pairing.scored_region,
        len(pairing.references),
        environment(),
    )
    results = Results(passport, reports)
    shown = {"per_session": args.per_session, "in_words": args.explain}
    write_tables(
        {
            "text": lambda: results.to_text(**shown),
            "markdown": lambda: results.to_markdown(**shown),
            "csv": results.to_csv,
            "json": results.to_json,
        },
        args,
    )
    return 0


def _conditions(args: argparse.Namespace) -> "list[Condition]":
    """What is scored, in the order in which it was asked."""
    from diarize.score import CONDITIONS as KNOWN
    from diarize.score import Condition

    if args.condition is not None and (args.collar is not None or args.skip_overlap):
        args.refuse("--condition names a collar and an overlap rule; give either it or these")
    if args.explain and not {"text", "markdown"} & {*args.format}:
        args.refuse("--explain is for people; give --format text or markdown")
    if args.condition is None:
        return [Condition(args.collar or 0.0, args.skip_overlap, args.rules)]
    return [replace(KNOWN[name], rules=args.rules) for name in args.condition]


def _passed_over(side: str, lines: Counter[str]) -> list[str]:
    """Notes on lines that hold no turn."""
    from diarize.score.report import counted

    if not lines:
        return []
    kinds = ", ".join(
        counted(number, "comment") if kind == ";" else f"{number} {kind}"
        for kind, number in sorted(lines.items())
    )
    notes = [f"lines of the {side} that hold no turn were passed over: {kinds}"]
    if lines["NOSCORE"]:
        number = counted(lines["NOSCORE"], "line")
        notes.append(
            f"md-eval leaves out what the {side} marks as NOSCORE ({number}); here it is scored, "
            "unless a UEM leaves it out"
        )
    return notes


def _differing_channels(regions: Regions, sessions: Collection[str]) -> list[str]:
    """A note on regions that differ from channel to channel."""
    from diarize.score.report import counted, listed

    scored = {*sessions, *(name.rpartition(":")[0] for name in sessions)}
    names = [name for name in regions.channels if name in scored]
    if not names:
        return []
    return [
        f"the UEM has other regions for one channel than for another in "
        f"{counted(len(names), 'session')} {listed(names)}; those of all channels are scored"
    ]
