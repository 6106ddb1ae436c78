"""``diarize manifest``: a manifest of recordings as they lie on disk."""

import argparse
import sys
from pathlib import Path


def add_manifest(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest",
        help="write a manifest of recordings",
        description="Write a manifest (JSON Lines) of recordings, each a session named after "
        "its file.",
    )
    parser.add_argument("audio", metavar="AUDIO", nargs="+", help="recordings, or folders of them")
    parser.add_argument("--rttm", metavar="DIR", type=Path, help="references, found by name or id")
    parser.add_argument("--uem", metavar="DIR", type=Path, help="scored regions, likewise")
    parser.add_argument("--output", metavar="FILE", default="-", help="default: standard output")
    parser.set_defaults(run=run_manifest)
    return parser


def run_manifest(args: argparse.Namespace) -> int:
    """Write the manifest."""
    from diarize.manifest import build_manifest, write_manifest

    sessions = build_manifest([Path(audio) for audio in args.audio], args.rttm, args.uem)
    write_manifest(sys.stdout if args.output == "-" else Path(args.output), sessions)
    return 0
