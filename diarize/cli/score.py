"""``diarize score``: how well hypotheses say who spoke when."""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

from diarize.errors import RttmError, ScoreError
from diarize.turns import Segment, Turn

Stretch = TypeVar("Stretch", bound=Segment)

MANIFESTS = (".jsonl", ".json")


def add_score(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "score",
        help="compare turns with a reference: diarization error rate and its parts",
        description="Compare turns with a reference: miss, false alarm, confusion and the "
        "diarization error rate (DER), per session and in total. REF and HYP are RTTM files, "
        "folders of them, or manifests that name them; HYP may be - for standard input.",
    )
    parser.add_argument("reference", metavar="REF", help="who spoke when in truth")
    parser.add_argument("hypothesis", metavar="HYP", help="who spoke when by a system")
    parser.add_argument(
        "--uem", metavar="PATH", type=Path,
        help="scored regions, a file or a folder, within the spans of a REF manifest; default: "
        "what a REF manifest says, else the stretch from the first to the last turn of both sides",
    )  # fmt: skip
    parser.add_argument(
        "--collar", metavar="S", type=float, default=0.0,
        help="seconds on each side of a reference boundary that are not scored (NIST; half of "
        "pyannote's); hides errors where they are most frequent; default 0",
    )  # fmt: skip
    parser.add_argument(
        "--skip-overlap", action="store_true", help="leave out where two or more speak"
    )
    parser.add_argument("--per-session", action="store_true", help="a line for each session")
    parser.add_argument("--json", action="store_true", help="print JSON, sessions included")
    parser.add_argument(
        "--allow-missing", action="store_true",
        help="count a session that one side lacks as all missed, or all false alarm",
    )  # fmt: skip
    parser.set_defaults(run=run_score)
    return parser


def run_score(args: argparse.Namespace) -> int:
    """Print the table, or JSON."""
    from diarize.score import Condition, score_sessions

    condition = Condition(collar=args.collar, skip_overlap=args.skip_overlap)
    references = _turns(args.reference)
    hypotheses = _turns(args.hypothesis, references)
    regions = _regions(args.uem, args.reference, hypotheses)
    report = score_sessions(references, hypotheses, condition, regions, args.allow_missing)
    text = report.to_json() if args.json else report.to_text(per_session=args.per_session)
    sys.stdout.write(text.rstrip("\n") + "\n")
    return 0


def _turns(place: str, references: Iterable[str] = ()) -> dict[str, list[Turn]]:
    """Session id -> turns, from RTTM files, a folder of them, or a manifest."""
    from diarize.formats.rttm import read_rttm
    from diarize.manifest import read_manifest, reference_turns

    if place.endswith(MANIFESTS):
        whole: dict[str, list[Turn]] = {}
        for session in read_manifest(place):  # several lines may be windows of one session
            whole.setdefault(session.session_id, []).extend(reference_turns(session))
        return whole
    found = _gather(Path("/dev/stdin" if place == "-" else place), ".rttm", read_rttm)
    # One answer without turns to one question: nobody speaks, whatever the file is called.
    names = list(references)
    return {names[0]: []} if len(names) == 1 and list(found.values()) == [[]] else found


def _regions(
    uem: Path | None, reference: str, hypotheses: Iterable[str]
) -> dict[str, list[Segment] | None] | None:
    """Session id -> scored regions; None where nobody says them."""
    from diarize.formats.uem import read_uem
    from diarize.manifest import read_manifest, scored_regions, within_span

    given = None if uem is None else _gather(uem, ".uem", read_uem)
    if not reference.endswith(MANIFESTS):
        return None if given is None else {**given}
    known: dict[str, list[Segment] | None] = {}
    for session in read_manifest(reference):
        if given is None:
            regions = scored_regions(session)
        elif session.session_id in given:  # references are clipped to the span, so regions are too
            regions = within_span(session, given[session.session_id])
        else:
            continue
        earlier = known.get(session.session_id, [])
        whole = None if earlier is None or regions is None else [*earlier, *regions]
        known[session.session_id] = whole
    return {**(dict.fromkeys(hypotheses) if given is None else given), **known}


def _gather(
    place: Path, suffix: str, read: Callable[[Path], dict[str, list[Stretch]]]
) -> dict[str, list[Stretch]]:
    """Sessions of a file, or of all files below a folder; an empty file is a silent session."""
    if not place.is_dir():
        return read(place) or {place.stem: []}
    files = sorted(place.rglob(f"*{suffix}"))
    if not files:
        raise RttmError(
            f"{place}: holds no {suffix} file, but at least one is needed. Check the path."
        )
    sessions: dict[str, list[Stretch]] = {}
    source: dict[str, Path] = {}
    for file in files:
        for name, stretches in (read(file) or {file.stem: []}).items():
            if name in sessions:
                raise ScoreError(
                    f"{file}: holds session {name!r}, but so does {source[name]}. "
                    "Leave one of them out."
                )
            sessions[name], source[name] = stretches, file
    return sessions
