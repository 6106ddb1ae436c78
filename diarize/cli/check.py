"""``diarize check``: every fault of a manifest, before it costs an experiment."""

import argparse
import sys


def add_check(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "check",
        help="list every fault of manifests, their audio headers, features, RTTM and UEM",
        description="List every fault of manifests, of the audio headers, features, RTTM and UEM "
        "files they name, one per line as 'path:line: what', then notes on what is worth "
        "knowing. Exit 1 if there is any fault.",
    )
    parser.add_argument("manifests", metavar="MANIFEST", nargs="+", help="JSON Lines")
    parser.set_defaults(run=run_check)
    return parser


def run_check(args: argparse.Namespace) -> int:
    """Faults and notes on standard output, the number of faults on standard error."""
    from diarize.manifest import check_manifest

    notes: list[str] = []
    faults = [fault for path in args.manifests for fault in check_manifest(path, notes)]
    for line in faults + notes:
        print(line)
    where = _count(len(args.manifests), "manifest")
    print(f"diarize check: {_count(len(faults), 'fault')} in {where}.", file=sys.stderr)
    return 1 if faults else 0


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
