"""``diarize view``: a page on which errors are seen and heard."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diarize.cli.references import read_regions, read_turns
from diarize.errors import ManifestError, PosteriorError

if TYPE_CHECKING:
    from diarize.manifest import Session


def add_view(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "view",
        help="a page on which turns and errors are seen and heard",
        description="Write one page that shows who spoke when, with the sound and, given a "
        "reference, every error: it needs no network, and lists many sessions, the worst first. "
        "HYP and REF are what `diarize score` takes.",
    )
    parser.add_argument("hypothesis", metavar="HYP", help="who spoke when by a system")
    parser.add_argument(
        "--ref", metavar="REF", help="who spoke when in truth; default: what --manifest says"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--audio", metavar="FILE", type=Path, help="the recording of one session")
    source.add_argument(
        "--manifest", metavar="FILE", type=Path,
        help="recordings of the sessions, and their references unless --ref gives these",
    )  # fmt: skip
    parser.add_argument(
        "--posteriors", metavar="PATH", type=Path,
        help="what `diarize infer --posteriors` wrote: the file of one session, or the folder",
    )  # fmt: skip
    parser.add_argument(
        "--uem", metavar="PATH", type=Path, help="scored regions, as in `diarize score`"
    )
    parser.add_argument(
        "--collar", metavar="S", type=float, default=0.0, help="as in `diarize score`; default 0"
    )
    parser.add_argument(
        "--skip-overlap", action="store_true", help="leave out where two or more speak"
    )
    parser.add_argument(
        "--allow-missing", action="store_true",
        help="count a session that the reference lacks as all false alarm",
    )  # fmt: skip
    parser.add_argument(
        "--channel", metavar="N", type=int,
        help="from 0; default: what the manifest names, else the mean of all",
    )  # fmt: skip
    parser.add_argument(
        "-o", "--output", metavar="PAGE", type=Path, required=True, help="an HTML file to write"
    )
    parser.set_defaults(run=run_view, refuse=parser.error)
    return parser


def run_view(args: argparse.Namespace) -> int:
    """Write the page."""
    from diarize.score import Condition
    from diarize.view import write_page

    listed = {} if args.manifest is None else _listed(args.manifest)
    truth = args.ref
    if truth is None and any(session.rttm for session in listed.values()):
        truth = str(args.manifest)
    references = None if truth is None else read_turns(truth)
    hypotheses = read_turns(args.hypothesis, references or listed)
    recordings = listed
    if args.manifest is not None:
        _refuse_unlisted(args.manifest, listed, hypotheses)
    elif args.audio is not None:
        from diarize.manifest import Session

        name = _only(args, hypotheses, "--audio is one recording", "--manifest")
        recordings = {name: Session(name, args.audio, where=str(args.audio))}
    if args.channel is not None:
        recordings = {n: replace(of, channel=args.channel) for n, of in recordings.items()}
    write_page(
        args.output,
        hypotheses,
        references,
        Condition(collar=args.collar, skip_overlap=args.skip_overlap),
        None if truth is None else read_regions(args.uem, truth, hypotheses).sessions,
        recordings,
        _posteriors(args, hypotheses),
        args.allow_missing,
        show=True,
    )
    size = args.output.stat().st_size / 2**20
    count = "1 session" if len(hypotheses) == 1 else f"{len(hypotheses)} sessions"
    print(f"diarize view: {args.output} shows {count} in {size:.1f} MiB.", file=sys.stderr)
    return 0


def _listed(manifest: Path) -> "dict[str, Session]":
    """Session id -> its recording; several lines may be windows of one."""
    from diarize.manifest import read_manifest

    sessions: dict[str, Session] = {}
    for session in read_manifest(manifest):
        before = sessions.setdefault(session.session_id, session)
        if _heard(before) != _heard(session):
            raise ManifestError(
                f"{session.where}: session {session.session_id!r} is of {_heard(session)}, but at "
                f"{before.where} of {_heard(before)}. Give one of them another 'session_id'."
            )
        if before is not session:
            start, end = min(before.offset, session.offset), max(before.end, session.end)
            lasts = None if end == float("inf") else end - start
            sessions[session.session_id] = replace(before, offset=start, duration=lasts)
    return sessions


def _heard(session: "Session") -> str:
    """Its recording, in words."""
    one = "" if session.channel is None else f"channel {session.channel} of "
    return f"{one}{session.audio}"


def _refuse_unlisted(
    manifest: Path, listed: "Mapping[str, Session]", hypotheses: Iterable[str]
) -> None:
    missing = sorted(set(hypotheses) - listed.keys())
    if missing:
        names = ", ".join(repr(name) for name in list(listed)[:3]) or "none"
        raise ManifestError(
            f"{manifest}: has no session {missing[0]!r}, but the hypothesis does. It has {names}"
            f"{', ...' if len(listed) > 3 else ''}. Add the session, or leave the manifest out."
        )


def _only(args: argparse.Namespace, hypotheses: Iterable[str], what: str, instead: str) -> str:
    """The one session that there is."""
    names = list(hypotheses)
    if len(names) != 1:
        args.refuse(f"{what}, but HYP has {len(names)} sessions; give {instead}")
    return names[0]


def _posteriors(args: argparse.Namespace, hypotheses: Iterable[str]) -> dict[str, Path]:
    """Session id -> file of its posteriors."""
    place = args.posteriors
    if place is None:
        return {}
    if not place.is_dir():
        return {_only(args, hypotheses, "--posteriors is one file", "the folder"): place}
    files = {name: place / f"{name}.npz" for name in hypotheses}
    for name, file in files.items():
        if not file.exists():
            raise PosteriorError(
                f"{file}: is missing, but session {name!r} is shown. Write it with: diarize infer "
                "--posteriors DIR."
            )
    return files
