"""``diarize manifest to-...``: manifests as other toolkits read them, or as shards."""

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


def add_to_shards(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare ``diarize manifest to-shards``."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest to-shards",
        help="shards to train from, in lhotse's Shar format",
        description="Write the sessions of a manifest as shards: tar archives of their audio (mono "
        "FLAC at 16 kHz) with lists of their turns. Train from them by data.sessions=DIR, or "
        "data.sessions=DIR.shards.json where the folder cannot be searched.",
    )
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="JSON Lines")
    parser.add_argument("folder", metavar="DIR", type=Path, help="not there yet")
    parser.add_argument(
        "--shard-duration",
        metavar="SECONDS",
        type=float,
        default=1800.0,
        help="a shard is full with so much audio; sessions are not cut (default: 1800)",
    )
    parser.set_defaults(run=run_to_shards)
    return parser


def run_to_shards(args: argparse.Namespace) -> int:
    """Write the shards, and print the path of their index."""
    from diarize.data import write_shards
    from diarize.manifest import read_manifest

    print(write_shards(read_manifest(args.manifest), args.folder, args.shard_duration))
    return 0
