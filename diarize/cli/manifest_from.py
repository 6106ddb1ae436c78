"""``diarize manifest from-...``: manifests of what other toolkits have listed."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from diarize.manifest import Session


def add_from_kaldi(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare ``diarize manifest from-kaldi``."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest from-kaldi",
        help="a manifest of a data directory of Kaldi",
        description="Write a manifest (JSON Lines) of a data directory of Kaldi. A recording of "
        "wav.scp is a session; its reference is rttm or, where that is missing, segments with "
        "utt2spk. Relative paths start here, as in Kaldi.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="has wav.scp")
    _add_lines(parser)
    parser.set_defaults(run=run_from_kaldi)
    return parser


def run_from_kaldi(args: argparse.Namespace) -> int:
    """Write the manifest."""
    from diarize.manifest.kaldi import from_kaldi

    return _write(args, from_kaldi(args.folder, args.utterances, args.write_rttm))


def add_from_lhotse(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare ``diarize manifest from-lhotse``."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest from-lhotse",
        help="a manifest of lhotse's cuts or recordings",
        description="Write a manifest (JSON Lines) of cuts of lhotse, or of its recordings. A cut "
        "is a session; its supervisions are the reference. Relative paths start here, as in "
        "lhotse.",
    )
    parser.add_argument("cuts", metavar="CUTS", type=Path, help=".jsonl, .jsonl.gz or .json")
    parser.add_argument(
        "--supervisions", metavar="FILE", type=Path, help="where CUTS are recordings"
    )
    _add_lines(parser)
    parser.set_defaults(run=run_from_lhotse)
    return parser


def run_from_lhotse(args: argparse.Namespace) -> int:
    """Write the manifest."""
    from diarize.manifest.lhotse import from_lhotse

    found = from_lhotse(args.cuts, args.supervisions, args.utterances, args.write_rttm)
    return _write(args, found)


def add_from_database(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare ``diarize manifest from-database``."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "manifest from-database",
        help="a manifest of a protocol of pyannote.database",
        description="Write a manifest (JSON Lines) of a subset of a protocol of "
        "pyannote.database. Without --protocol or --subset, say which there are.",
    )
    parser.add_argument("yml", metavar="YML", type=Path, help="database.yml")
    parser.add_argument("--protocol", metavar="NAME", help="as in AMI.SpeakerDiarization.mini")
    parser.add_argument("--subset", metavar="NAME", help="train, development or test")
    _add_write_rttm(parser)
    _add_output(parser)
    parser.set_defaults(run=run_from_database)
    return parser


def run_from_database(args: argparse.Namespace) -> int:
    """Write the manifest."""
    from diarize.manifest.database import from_database

    return _write(args, from_database(args.yml, args.protocol, args.subset, args.write_rttm))


def _add_lines(parser: argparse.ArgumentParser) -> None:
    """What a line is, and where it goes."""
    group = parser.add_mutually_exclusive_group()
    _add_write_rttm(group)
    group.add_argument(
        "--utterances", action="store_true",
        help="a line per utterance with its speaker, to simulate from",
    )  # fmt: skip
    _add_output(parser)


def _add_write_rttm(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--write-rttm", metavar="DIR", type=Path,
        help="write references there, SESSION.rttm each; needed where they are not RTTM",
    )  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", metavar="FILE", default="-", help="default: standard output")


def _write(args: argparse.Namespace, sessions: "list[Session]") -> int:
    from diarize.manifest import write_manifest

    write_manifest(sys.stdout if args.output == "-" else Path(args.output), sessions)
    return 0
