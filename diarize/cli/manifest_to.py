"""``diarize manifest to-...``: manifests as other toolkits read them."""

import argparse
from pathlib import Path


def add_to_kaldi(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare ``diarize manifest to-kaldi``."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest to-kaldi",
        help="a data directory of Kaldi",
        description="Write a manifest as a data directory of Kaldi. A session is a recording, and "
        "its turns are rttm and segments; a single-speaker utterance is a segment.",
    )
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="JSON Lines")
    parser.add_argument("folder", metavar="DIR", type=Path, help="holds no such tables yet")
    parser.set_defaults(run=run_to_kaldi)
    return parser


def run_to_kaldi(args: argparse.Namespace) -> int:
    """Write the directory, and the paths of its files on standard output."""
    from diarize.manifest import read_manifest
    from diarize.manifest.kaldi import to_kaldi

    for path in to_kaldi(read_manifest(args.manifest), args.folder):
        print(path)
    return 0


def add_to_lhotse(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare ``diarize manifest to-lhotse``."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest to-lhotse",
        help="cuts of lhotse",
        description="Write a manifest as cuts of lhotse, each with its recording and, as "
        "supervisions, its turns.",
    )
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="JSON Lines")
    parser.add_argument("cuts", metavar="CUTS", type=Path, help=".jsonl or .jsonl.gz")
    parser.set_defaults(run=run_to_lhotse)
    return parser


def run_to_lhotse(args: argparse.Namespace) -> int:
    """Write the cuts, and their path on standard output."""
    from diarize.manifest import read_manifest
    from diarize.manifest.lhotse import to_lhotse

    to_lhotse(read_manifest(args.manifest), args.cuts)
    print(args.cuts)
    return 0
